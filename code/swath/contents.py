"""What is in a file, as a digest: the one way in which inputs, outputs, caches and leak checks know a file again.

Digests are kept in ``output/contents.sqlite`` by what the file system says of the file, so that a file is read once:
path, size, time of the last change of its content, time of the last change of anything (which no tool sets back), and
inode. Where any of these differs, the file is read again. The store may be deleted at any time, and where it cannot be
used, files are read.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import xxhash

from swath.config import paths
from swath.files import files_below
from swath.interrupt import check_stop

CHUNK = 1 << 20
TICK = 0.1
"""Seconds within which two writes may get one time: so young a file is read again next time."""
WAIT = 5.0
"""Seconds to wait for another process that writes to the store."""
AT_ONCE = 500
"""Paths of one question to the store."""
LEDGERS = (".settings.json", ".done.jsonl")
"""How the files of a step's ledger end (`swath.steps.ledger`)."""
PARTS = (".dbf", ".shx", ".prj", ".cpg")
"""Files that make up a shapefile together with the ``.shp``."""


@dataclass(frozen=True)
class Stamp:
    """What a file system says of a file; it changes whenever the content does."""

    size: int
    modified: int
    changed: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> Stamp | None:
        """The stamp of a file as it is now; None where there is none."""
        try:
            found = path.stat()
        except OSError:
            return None
        return cls(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino % 2**63)


def content_of(path: Path) -> str | None:
    """32 hexadecimal digits that are equal for equal contents of a file, and its parts.

    None where there is no file, or none that can be read. XXH3 of 128 bits: it tells files apart at the
    speed of memory, and is no defence against somebody who makes two files alike on purpose.
    """
    return contents_of([path])[path]


def contents_of(files: Iterable[Path]) -> dict[Path, str | None]:
    """`content_of` many files; those that are not known yet are read, several at a time."""
    wanted = list(dict.fromkeys(files))
    parts = {path: [path, *_parts_of(path)] for path in wanted}
    single = _contents([part for those in parts.values() for part in those])
    return {path: _joined([single[part] for part in those]) for path, those in parts.items()}


def contents_in_order(files: Sequence[Path]) -> list[str | None]:
    """`content_of` each of the files; one that stands there twice counts twice."""
    known = contents_of(files)
    return [known[path] for path in files]


def contents_below(places: Iterable[Path], without: Iterable[Path] = ()) -> list[tuple[str, str | None]]:
    """(path below its folder, content) of every file in some folders, and of single files, in the order of both.

    Ledgers of steps are no contents of a folder, nor are the files in `without` and their parts.
    """
    left_out = {part for path in without for part in (path, *_parts_of(path))}
    found = []
    for place in places:
        inside = files_below(place) if place.is_dir() else [place]
        files = [file for file in inside if file not in left_out and not file.name.endswith(LEDGERS)]
        known = contents_of(files)
        root = place  # a file alone is "." there: its name says nothing
        found += [(file.relative_to(root).as_posix(), known[file]) for file in files]
    return found


def _parts_of(path: Path) -> list[Path]:
    """What belongs to a file: the other parts of a shapefile, the mask beside a raster."""
    if path.suffix.lower() == ".shp":
        return [part for suffix in PARTS if (part := path.with_suffix(suffix)).is_file()]
    mask = path.with_name(f"{path.name}.msk")
    return [mask] if mask.is_file() else []


def _joined(digests: Sequence[str | None]) -> str | None:
    if len(digests) == 1 or digests[0] is None:
        return digests[0]
    return _digest(" ".join(map(str, digests)).encode())


def _digest(data: bytes) -> str:
    return str(xxhash.xxh3_128_hexdigest(data))


# ------------------------------------------------------------------------------------------------------------- reading


def _contents(files: Sequence[Path]) -> dict[Path, str | None]:
    stamps = {path: Stamp.of(path) for path in dict.fromkeys(files)}
    there = {path: stamp for path, stamp in stamps.items() if stamp is not None}
    with _store() as store:
        known = _known(store, there) if store else {}
        new = [path for path in there if path not in known]
        started = time.time()
        with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
            read = dict(zip(new, threads.map(_read, new), strict=True))
        settled = {
            path: (there[path], content)
            for path, content in read.items()
            if content and started - there[path].changed / 1e9 > TICK and Stamp.of(path) == there[path]
        }
        if store and settled:
            _remember(store, settled)
    return dict.fromkeys(stamps) | known | read


def _read(path: Path) -> str | None:
    whole = xxhash.xxh3_128()
    try:
        with path.open("rb") as file:
            while part := file.read(CHUNK):
                check_stop()
                whole.update(part)
    except OSError:
        return None
    return str(whole.hexdigest())


# --------------------------------------------------------------------------------------------------------------- store


@contextmanager
def _store() -> Iterator[sqlite3.Connection | None]:
    """The store of the project; None where it cannot be opened."""
    path = paths.PROJECT_ROOT / "output" / "contents.sqlite"
    connection = None
    with suppress(OSError, sqlite3.Error):
        path.parent.mkdir(exist_ok=True)
        connection = sqlite3.connect(path, timeout=WAIT)
        connection.execute(
            "CREATE TABLE IF NOT EXISTS digests "
            "(path TEXT PRIMARY KEY, size INTEGER, modified INTEGER, changed INTEGER, inode INTEGER, content TEXT)"
        )
    if connection is None:
        yield None
        return
    with closing(connection):
        yield connection


def _known(store: sqlite3.Connection, files: Mapping[Path, Stamp]) -> dict[Path, str]:
    """Contents of the files that have not changed since they were read."""
    found: dict[Path, str] = {}
    names = {str(path.absolute()): path for path in files}
    asked = list(names)
    for start in range(0, len(asked), AT_ONCE):
        some = asked[start : start + AT_ONCE]
        query = f"SELECT * FROM digests WHERE path IN ({','.join('?' * len(some))})"
        with suppress(sqlite3.Error):
            for name, size, modified, changed, inode, content in store.execute(query, some):
                path = names[name]
                if files[path] == Stamp(size, modified, changed, inode):
                    found[path] = content
    return found


def _remember(store: sqlite3.Connection, files: Mapping[Path, tuple[Stamp, str]]) -> None:
    """Keep contents; a store that is busy, full or read-only keeps none."""
    rows = [
        (str(path.absolute()), stamp.size, stamp.modified, stamp.changed, stamp.inode, content)
        for path, (stamp, content) in files.items()
    ]
    with suppress(sqlite3.Error), store:
        store.executemany("INSERT OR REPLACE INTO digests VALUES (?, ?, ?, ?, ?, ?)", rows)
