"""How a file gets its final name: written beside it and renamed when complete, so that nothing half-written is ever seen."""

from __future__ import annotations

import json
import os
import platform
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import Any

from swath.errors import CatalogError, SwathError


@contextmanager
def atomic_write(
    path: Path, error: type[SwathError] = CatalogError, failures: tuple[type[Exception], ...] = (OSError,)
) -> Iterator[Path]:
    """Where to write a file that gets its name `path` when the block ends without an exception; else nothing is left.

    Exceptions of the kinds `failures`, such as that of a full disk, become an `error` that says what to do.
    """
    part = part_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        os.replace(part, path)
    except failures as failure:
        raise error(unwritable(path, failure)) from failure
    finally:
        for left in path.parent.glob(f"{escape(part.name)}*"):  # with files that a library made beside it
            left.unlink()


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
    owner = f"{platform.node()}-{os.getpid()}-{threading.get_native_id()}"
    return path.with_name(f".{path.stem}.{owner}.part{path.suffix}")


def remove_partial(path: Path) -> None:
    """Remove what killed processes of this host left half written of `path`."""
    name = re.compile(
        rf"\.{re.escape(path.stem)}\.({re.escape(platform.node())}-)?\d+(-\d+)?\.part{re.escape(path.suffix)}.*"
    )
    for left in path.parent.glob(".*"):
        if name.fullmatch(left.name):
            left.unlink()


def remove_orphans(folder: Path) -> None:
    """Remove what processes of this host that are gone left half written in a folder; what others write stays."""
    name = re.compile(rf"\..+\.{re.escape(platform.node())}-(\d+)(-\d+)?\.part\..*")
    for left in folder.glob(".*.part.*"):
        found = name.fullmatch(left.name)
        if found and not _alive(int(found[1])):
            left.unlink(missing_ok=True)


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
