"""Whether a TIFF file is as long as its own directory says: what a full disk or a broken copy leaves shows here.

Tags and types are those of the TIFF 6.0 specification (1992) and of BigTIFF (2007).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

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


class _File:
    """Bytes of a file by their place, for as long as a block lasts."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> _File:
        self._number = os.open(self._path, os.O_RDONLY)
        self.size = os.fstat(self._number).st_size
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._number)

    def exactly(self, size: int, at: int) -> bytes:
        """`size` bytes. Raises ValueError when there are fewer."""
        if size > self.size - at:
            left = max(self.size - at, 0)
            raise ValueError(f"its directory goes on for {size} bytes at {at}, and {left} are there")
        return os.pread(self._number, size, at)


@dataclass(frozen=True)
class Blocks:
    """What the directories of a TIFF file say of its blocks."""

    needed: int
    """Bytes that the file has at least: the end of its last block or directory."""
    size: int
    """Bytes that it has."""
    stored: NDArray[np.bool_]
    """Which blocks of the first directory are there, in its order; a sparse file leaves out those without a value."""


def blocks_of(path: Path) -> Blocks:
    """The blocks of a TIFF file.

    Raises ValueError when it is no TIFF file, ends within a directory, or has one that lists no pixels.
    """
    needed, stored = 0, None
    with _File(path) as file:
        if file.size < 8:
            raise ValueError(f"it has {file.size} bytes")
        header = file.exactly(min(16, file.size), 0)
        layout = _Layout(header)
        for tags, end in _directories(file, layout, layout.first(header.ljust(16, b"\0"))):
            kinds = [(starts, sizes) for starts, sizes in (TILES, STRIPS) if starts in tags and sizes in tags]
            if not kinds:
                raise ValueError("its directory lists no blocks of pixels")
            needed = max(needed, end, *(_end_of_blocks(tags[starts], tags[sizes]) for starts, sizes in kinds))
            if stored is None:
                stored = np.asarray(tags[kinds[0][0]] > 0)
        return Blocks(needed, file.size, np.empty(0, bool) if stored is None else stored)


def _end_of_blocks(starts: NDArray[np.unsignedinteger], sizes: NDArray[np.unsignedinteger]) -> int:
    """Where the last of some blocks ends."""
    if len(starts) != len(sizes):
        raise ValueError(f"{len(starts)} blocks begin and {len(sizes)} have a size")
    start, size = starts.astype(np.float64), sizes.astype(np.float64)
    return int((start + size)[start > 0].max(initial=0))  # sparse blocks begin nowhere


def require_whole(path: Path) -> Blocks:
    """The blocks of a TIFF file; ValueError, which says why, for one that is shorter than it says, or lists no pixels."""
    found = blocks_of(path)
    if found.size < found.needed:
        raise ValueError(f"{found.needed} bytes are due by its directory")
    return found


def _directories(file: _File, layout: _Layout, at: int) -> Iterator[tuple[dict[int, NDArray[np.unsignedinteger]], int]]:
    """(tags that say where blocks lie, where the directory ends) of each directory."""
    wanted = {*STRIPS, *TILES}
    seen: set[int] = set()
    while at and at not in seen and len(seen) < MAX_DIRECTORIES:
        seen.add(at)
        count_bytes = struct.calcsize(layout.count)
        (count,) = struct.unpack(f"{layout.order}{layout.count}", file.exactly(count_bytes, at))
        entries = file.exactly(count * layout.entry, at + count_bytes)
        next_bytes = struct.calcsize(layout.offset)
        end = at + count_bytes + len(entries) + next_bytes
        (following,) = struct.unpack(f"{layout.order}{layout.offset}", file.exactly(next_bytes, end - next_bytes))
        tags = {}
        for start in range(0, len(entries), layout.entry):
            entry = entries[start : start + layout.entry]
            (tag,) = struct.unpack_from(f"{layout.order}H", entry)
            if tag in wanted:
                tags[tag] = _values(file, layout, entry)
        yield tags, end
        at = following


def _values(file: _File, layout: _Layout, entry: bytes) -> NDArray[np.unsignedinteger]:
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
        field = file.exactly(size, where)
    return np.frombuffer(field[:size], dtype)
