"""Whether a TIFF file is as long as its own directory says: what a full disk or a broken copy leaves shows here.

Tags and types are those of the TIFF 6.0 specification (1992) and of BigTIFF (2007).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

STRIPS, TILES = (273, 279), (324, 325)
"""Tags of where blocks begin, and of their bytes; a file has those of strips or those of tiles."""

_UNSIGNED = {3: "u2", 4: "u4", 13: "u4", 16: "u8", 18: "u8"}
"""Type number of a tag to that of its values; others are no places in a file."""

MAX_DIRECTORIES = 4096
"""More than overviews, masks and pages of any honest file; a damaged one may lead in circles."""


class _Layout:
    """Byte order and sizes of the two kinds of TIFF files."""

    def __init__(self, header: bytes) -> None:
        """Raises ValueError when the header is of neither kind."""
        orders = {b"II": "<", b"MM": ">"}
        if header[:2] not in orders:
            raise ValueError("it does not begin like a TIFF file")
        self.order = orders[header[:2]]
        (kind,) = struct.unpack(f"{self.order}H", header[2:4])
        if kind not in (42, 43):
            raise ValueError(f"its header holds {kind} where a TIFF file has 42 or 43")
        self.big = kind == 43
        self.count, self.offset = ("Q", "Q") if self.big else ("H", "I")
        self.entry = 20 if self.big else 12
        self.inline = 8 if self.big else 4

    def first(self, header: bytes) -> int:
        """Where the first directory lies."""
        at = 8 if self.big else 4
        return int(struct.unpack_from(f"{self.order}{self.offset}", header, at)[0])


def bytes_needed(path: Path) -> int:
    """Bytes that a TIFF file has at least, by its directories: the end of its last block or directory.

    Raises ValueError when it is no TIFF file, or ends within a directory.
    """
    needed = 0
    with path.open("rb") as file:
        header = file.read(16)
        if len(header) < 8:
            raise ValueError(f"it has {len(header)} bytes")
        layout = _Layout(header)
        for tags, end in _directories(file, layout, layout.first(header.ljust(16, b"\0"))):
            needed = max(needed, end)
            if not any(starts in tags and sizes in tags for starts, sizes in (STRIPS, TILES)):
                raise ValueError("its directory lists no blocks of pixels")
            for starts, sizes in (STRIPS, TILES):
                if starts not in tags or sizes not in tags:
                    continue
                start, size = tags[starts].astype(np.float64), tags[sizes].astype(np.float64)
                if len(start) != len(size):
                    raise ValueError(f"{len(start)} blocks begin and {len(size)} have a size")
                stored = start > 0  # sparse blocks begin nowhere
                needed = max(needed, int((start + size)[stored].max(initial=0)))
    return needed


def require_whole(path: Path) -> None:
    """Raise ValueError, which says why, for a TIFF file that is shorter than it says, or that lists no pixels."""
    needed, size = bytes_needed(path), path.stat().st_size
    if size < needed:
        raise ValueError(f"{needed} bytes are due by its directory")


def stored_blocks(path: Path) -> NDArray[np.bool_]:
    """Which blocks of the first directory are there, in its order; a sparse file leaves out those without a value.

    Raises ValueError when it is no TIFF file, or ends within a directory.
    """
    with path.open("rb") as file:
        header = file.read(16)
        layout = _Layout(header)
        tags, _ = next(_directories(file, layout, layout.first(header.ljust(16, b"\0"))))
    starts = TILES[0] if TILES[0] in tags else STRIPS[0]
    return np.asarray(tags[starts] > 0)


def _directories(
    file: BinaryIO, layout: _Layout, at: int
) -> Iterator[tuple[dict[int, NDArray[np.unsignedinteger]], int]]:
    """(tags that say where blocks lie, where the directory ends) of each directory."""
    wanted = {*STRIPS, *TILES}
    seen: set[int] = set()
    while at and at not in seen and len(seen) < MAX_DIRECTORIES:
        seen.add(at)
        file.seek(at)
        count_bytes = struct.calcsize(layout.count)
        (count,) = struct.unpack(f"{layout.order}{layout.count}", _exactly(file, count_bytes))
        entries = _exactly(file, count * layout.entry)
        next_bytes = struct.calcsize(layout.offset)
        end = at + count_bytes + len(entries) + next_bytes
        (following,) = struct.unpack(f"{layout.order}{layout.offset}", _exactly(file, next_bytes))
        tags = {}
        for start in range(0, len(entries), layout.entry):
            entry = entries[start : start + layout.entry]
            (tag,) = struct.unpack_from(f"{layout.order}H", entry)
            if tag in wanted:
                tags[tag] = _values(file, layout, entry)
        yield tags, end
        at = following


def _values(file: BinaryIO, layout: _Layout, entry: bytes) -> NDArray[np.unsignedinteger]:
    """The values of a tag, in its entry or where that points."""
    (kind,) = struct.unpack_from(f"{layout.order}H", entry, 2)
    (count,) = struct.unpack_from(f"{layout.order}{layout.offset}", entry, 4)
    if kind not in _UNSIGNED:
        raise ValueError(f"its blocks are said to begin at values of type {kind}")
    dtype = np.dtype(layout.order + _UNSIGNED[kind])
    size = count * dtype.itemsize
    field = entry[-layout.inline :]
    if size > layout.inline:
        (where,) = struct.unpack(f"{layout.order}{layout.offset}", field)
        file.seek(where)
        field = _exactly(file, size)
    return np.frombuffer(field[:size], dtype)


def _exactly(file: BinaryIO, size: int) -> bytes:
    """The next `size` bytes. Raises ValueError when there are fewer."""
    here = file.tell()
    left = file.seek(0, 2) - here
    if size > left:
        raise ValueError(f"its directory goes on for {size} bytes at {here}, and {max(left, 0)} are there")
    file.seek(here)
    return file.read(size)
