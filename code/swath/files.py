"""How a file gets its final name: written beside it and renamed when complete, so that nothing half-written is ever seen."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from glob import escape
from pathlib import Path
from typing import Any

from swath.errors import CatalogError, SwathError

SCRATCH = "swath-run-"
"""How scratch folders begin."""
WHOLE_HOST = 0xEFFFFFFC
"""Number of the first process namespace of Linux (PROC_PID_INIT_INO), which is outside of all containers."""


@contextmanager
def atomic_write(
    path: Path, error: type[SwathError] = CatalogError, failures: tuple[type[Exception], ...] = (OSError,)
) -> Iterator[Path]:
    """Where to write a file that gets its name `path` when the block ends without an exception; else nothing is left.

    Exceptions of the kinds `failures`, such as that of a full disk, become an `error` that says what to do.
    """
    part = part_of(path)
    is_whole = False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        os.replace(part, path)
        is_whole = True
    except failures as failure:
        raise error(unwritable(path, failure)) from failure
    finally:
        _remove_sides(part, is_whole)


SIDES = (".aux.xml", ".msk", ".ovr", "-journal", "-wal", "-shm")
"""What libraries leave beside a file that they have written whole: GDAL's, and SQLite's."""


def _remove_sides(part: Path, is_whole: bool) -> None:
    """Remove what libraries made beside a part file, and the part itself where it is not whole.

    The folder is listed only then: it may hold thousands of files, and for each of them that would be done again.
    """
    if is_whole:
        for side in SIDES:
            part.with_name(part.name + side).unlink(missing_ok=True)
        return
    for left in part.parent.glob(f"{escape(part.name)}*"):
        left.unlink()


_OUTSIDE = re.compile(r"(?:^|/)\.\.(?:/|$)|^/|\0|^\s*\.?\s*$")
"""What a name must not have that becomes a path: parent folders, a root, a null byte; or it is empty, or the folder."""


def leads_outside(name: object) -> bool:
    """Whether a value of a table or a config names no file or folder inside of another one; NaN and None name nothing."""
    return name is None or name != name or _OUTSIDE.search(str(name)) is not None


def path_below(folder: Path, *names: object, suffix: str = "") -> Path:
    """A path in `folder` from values of tables and configs, such as an area and a scene; `suffix` ends the last one.

    The one way in which such values become paths that are written to. Raises CatalogError for a value that leads out of
    the folder (absolute, with ``..``) or that is no name at all.
    """
    for name in names:
        if leads_outside(name):
            raise CatalogError(
                f"{name!r} is no name for a file or folder in {folder}: it is empty or leads out of there. "
                "Correct it in the table or the config that it stands in, then start the same command again."
            )
    *folders, last = map(str, names)
    return folder.joinpath(*folders, f"{last}{suffix}")


def unwritable(path: Path, failure: BaseException) -> str:
    """What to say when a file could not be written."""
    return (
        f"{path}: cannot be written ({failure.__cause__ or failure}). Nothing is left under that name. "
        "Free disk space or check the folder's permissions, then start the same command again."
    )


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8; whole or not at all."""
    with atomic_write(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON; whole or not at all."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def part_of(path: Path) -> Path:
    """Where a file grows until it is complete: beside its final name, so that the rename cannot cross a disk.

    The name tells hosts, processes and threads apart: two workers may come to do the same item.
    """
    return path.with_name(f".{path.stem}.{_owner()}.part{path.suffix}")


@contextmanager
def part_folder(path: Path) -> Iterator[Path]:
    """An empty folder beside `path` for the length of a block, for a set of files that get their names together.

    It is named as a part file is (`part_of`), so `remove_orphans` knows it again.
    """
    folder = part_of(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder, ignore_errors=True)  # of a process that had the same number
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder in the system's temporary folder for the length of a block; `remove_orphans` knows it again."""
    folder = Path(tempfile.mkdtemp(prefix=f"{SCRATCH}{_owner()}-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_orphans(folders: Iterable[Path]) -> None:
    """Remove what processes that are gone left half written below some folders, and their scratch folders.

    Only what processes of this host have left: whether those of others are gone cannot be seen from here. Links are not
    followed. Nothing is asked about files with other names, so a million of them take about a second.
    """
    gone = _Gone()
    remove_parts(folders, gone)
    for entry in _entries(tempfile.gettempdir()):
        if gone.left_scratch(entry.name):
            shutil.rmtree(entry.path, ignore_errors=True)


def remove_parts(folders: Iterable[Path], gone: _Gone | None = None) -> None:
    """The part of `remove_orphans` that is about folders of results; the system's temporary folder is not looked at."""
    gone = gone or _Gone()
    waiting = [os.fspath(folder) for folder in folders]
    while waiting:
        for entry in _entries(waiting.pop()):
            is_folder = entry.is_dir(follow_symlinks=False)
            if gone.left_part(entry.name):
                if is_folder:
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    with suppress(OSError):  # another start was faster, or it belongs to somebody else
                        Path(entry.path).unlink()
            elif is_folder:
                waiting.append(entry.path)


def _entries(folder: str) -> list[os.DirEntry[str]]:
    """What is in a folder; nothing where there is none, or none that may be read."""
    try:
        with os.scandir(folder) as found:
            return list(found)
    except OSError:
        return []


class _Gone:
    """Which names belong to processes of this host that are gone; each process is looked up once."""

    def __init__(self) -> None:
        owner = rf"{re.escape(_host())}-(\d+)(?:-\d+)?"
        self._part = re.compile(rf"\..+\.{owner}\.part(?:\..*)?")
        self._scratch = re.compile(rf"{SCRATCH}{owner}-[^-]*")
        self._known: dict[int, bool] = {}

    def left_part(self, name: str) -> bool:
        """Whether a name is that of a part whose owner is gone."""
        found = self._part.fullmatch(name) if name.startswith(".") else None
        return found is not None and self._is_gone(int(found[1]))

    def left_scratch(self, name: str) -> bool:
        """Whether a name is that of a scratch folder whose owner is gone."""
        found = self._scratch.fullmatch(name)
        return found is not None and self._is_gone(int(found[1]))

    def _is_gone(self, process: int) -> bool:
        if process not in self._known:
            self._known[process] = not _alive(process)
        return self._known[process]


def _owner() -> str:
    """The part of a name that says who writes: host, process and thread."""
    return f"{_host()}-{os.getpid()}-{threading.get_native_id()}"


@cache
def _host() -> str:
    """Within what numbers of processes mean something: a host, or a container on it, which counts its own."""
    node = platform.node()
    try:
        namespace = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:  # not Linux
        return node
    return node if namespace == WHOLE_HOST else f"{node}~{namespace}"


def _alive(process: int) -> bool:
    with suppress(OSError):  # a system without /proc; the state stands behind the name, which may hold anything
        if Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] in "ZX":
            return False  # ended, and its parent has not looked yet
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def files_below(folder: Path) -> list[Path]:
    """All files below `folder`, sorted: linked folders are entered (each once), hidden ones and their files are not."""
    found, entered = [], set[Path]()
    for here, folders, files in os.walk(folder, followlinks=True):
        entered.add(Path(here).resolve())
        folders[:] = [f for f in folders if not f.startswith(".") and (Path(here) / f).resolve() not in entered]
        found += [Path(here) / name for name in files if not name.startswith(".")]
    return sorted(found)
