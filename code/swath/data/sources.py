"""Where the pixels of tiles come from: rasters that stay open, memory, or files mapped into memory. All give the same.

A tile is a file of its own or, where its row has `at_row` and `at_col`, a window of a larger file at that place: a
scene, which then needs no tiles on disk.
Nothing that is open crosses a fork, and nothing that is open is sent to a spawned process.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from swath.data.catalog import Row, missing_of, place_of, whole
from swath.errors import ConfigError
from swath.geo.grid import Window
from swath.geo.raster import RasterReader
from swath.labels import IGNORE

Cache = Literal["off", "ram", "mmap"]

OPEN_FILES = 128
"""Rasters that a process keeps open."""
MAPPED_FILES = 16_384
"""Files that a process keeps mapped; Linux allows 65,530 in all."""
LAYOUT = 1
"""Changes when cached files are written in another way."""


class Source(Protocol):
    """Pixels by the tile's position in the table; windows count from the tile's corner and may leave the tile.

    They are written into `out` where it is given, such as a sample's place in a batch.
    """

    def image(self, tile: int, window: Window, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """float32 (bands, height, width); NaN where nodata or outside the tile."""

    def labels(self, tile: int, window: Window, out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """uint8 (tasks, height, width); 255 where there is no label or outside the tile."""


def source_of(
    rows: Sequence[Row], root: Path, bands: Sequence[str], task_bands: Sequence[int],
    cache: Cache = "off", folder: Path | None = None, shared: bool = False,
) -> Source:  # fmt: skip
    """Pixels of the tiles in `rows`: from their files, from memory (`shared` with workers), or mapped from `folder`."""
    files = Files(rows, root, bands, task_bands)
    if cache == "ram":
        return InMemory(files, shared)
    if cache == "mmap":
        if folder is None:
            raise ConfigError("data.cache=mmap needs data.cache_path: a folder on a fast local disk.")
        return Mapped(files, folder)
    return files


class Files:
    """Rasters as they are on disk; handles stay open, those used longest ago are closed."""

    def __init__(self, rows: Sequence[Row], root: Path, bands: Sequence[str], task_bands: Sequence[int]) -> None:
        self.rows, self.root, self.bands, self.task_bands = rows, root, tuple(bands), list(task_bands)
        self._open: OrderedDict[tuple[str, tuple[float, ...]], RasterReader] = OrderedDict()

    def image(self, tile: int, window: Window, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        row = self.rows[tile]
        reader = self._reader(row["image"], missing_of(row))
        order, place = _order(reader, self.bands), place_of(row)
        inside = window.intersect(Window(0, 0, *place.shape))
        read = reader.image(inside.within(place), order)
        return _placed(read, inside, window, np.nan, out)

    def labels(self, tile: int, window: Window, out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        row = self.rows[tile]
        place = place_of(row)
        inside = window.intersect(Window(0, 0, *place.shape))
        read = self._reader(row["mask"]).labels(inside.within(place))[self.task_bands]
        return _placed(read, inside, window, IGNORE, out)

    def _reader(self, path: str, missing: tuple[float, ...] = ()) -> RasterReader:
        key = (path, missing)
        reader = self._open.get(key)
        if reader is None:
            reader = self._open[key] = RasterReader(self.root / path, missing)
            if len(self._open) > OPEN_FILES:
                self._open.popitem(last=False)[1].close()
        else:
            self._open.move_to_end(key)
        return reader

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": OrderedDict()}

    def size(self, tile: int) -> tuple[int, int]:
        """Bytes of the tile's image and of its labels."""
        row = self.rows[tile]
        pixels = row["height"] * row["width"]
        return 4 * len(self.bands) * pixels, (len(self.task_bands) if row["mask"] else 0) * pixels

    def content(self, tile: int) -> NDArray[np.uint8]:
        """The bytes of the whole image, then those of the labels."""
        row = self.rows[tile]
        window = Window(0, 0, row["height"], row["width"])
        parts = [self.image(tile, window).reshape(-1).view(np.uint8)]
        if self.size(tile)[1]:
            parts.append(self.labels(tile, window).reshape(-1))
        return np.concatenate(parts)


def _order(reader: RasterReader, bands: Sequence[str]) -> list[int] | None:
    """Where this raster has the bands that the first tile has; None when they stand in the same order."""
    return None if reader.info.bands == bands else reader.numbers_of(bands, "Cut it from like scenes.")


def _placed(
    read: NDArray[Any], inside: Window, window: Window, outside: float, out: NDArray[Any] | None = None
) -> NDArray[Any]:
    """What was read of the part of `window` that lies inside, with `outside` around it."""
    if inside == window and out is None:
        return np.ascontiguousarray(read)
    if out is None:
        out = np.empty((len(read), *window.shape), read.dtype)
    if inside != window:
        out.fill(outside)
    if not inside.is_empty:
        rows, cols = inside.relative_to(window).slices
        out[:, rows, cols] = read
    return out


class _Stored:
    """Tiles as arrays in memory or in mapped files, in the layout of `Files.content`."""

    def __init__(self, files: Files) -> None:
        self.files = files

    def _bytes(self, tile: int) -> NDArray[np.uint8]:
        raise NotImplementedError

    def image(self, tile: int, window: Window, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        row, size = self.files.rows[tile], self.files.size(tile)[0]
        return _cut(self._bytes(tile)[:size].view(np.float32), row, window, np.nan, out)

    def labels(self, tile: int, window: Window, out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        row, size = self.files.rows[tile], self.files.size(tile)[0]
        return _cut(self._bytes(tile)[size:], row, window, IGNORE, out)


def _cut(flat: NDArray[Any], row: Row, window: Window, outside: float, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """A window of a tile that is stored whole: one copy, into `out` or anew; never the stored pixels themselves."""
    height, width = row["height"], row["width"]
    inside = window.intersect(Window(0, 0, height, width))
    rows, cols = inside.slices
    if out is None:
        out = np.empty((len(flat) // (height * width), *window.shape), flat.dtype)
    return _placed(flat.reshape(-1, height, width)[:, rows, cols], inside, window, outside, out)


class InMemory(_Stored):
    """All tiles in memory, read once at the start; workers use the same memory when it is `shared`."""

    def __init__(self, files: Files, shared: bool) -> None:
        super().__init__(files)
        sizes = [sum(files.size(tile)) for tile in range(len(files.rows))]
        self.starts = np.cumsum([0, *(-(-size // 16) * 16 for size in sizes)])
        _require_room(int(self.starts[-1]), shared)
        self.pool = torch.empty(int(self.starts[-1]), dtype=torch.uint8)
        if shared:
            self.pool.share_memory_()
        for tile, size in enumerate(sizes):
            self.pool.numpy()[self.starts[tile] : self.starts[tile] + size] = files.content(tile)

    def _bytes(self, tile: int) -> NDArray[np.uint8]:
        start = int(self.starts[tile])
        return self.pool.numpy()[start : start + sum(self.files.size(tile))]


def _require_room(size: int, shared: bool) -> None:
    """Linux kills who writes beyond the end of shared memory, which in containers is often 64 MB, without a word."""
    memory = Path("/dev/shm")
    if shared and memory.is_dir() and shutil.disk_usage(memory).free < size:
        raise ConfigError(
            f"data.cache=ram: the tiles take {size / 1e9:.2f} GB, more than {memory} has free for sharing them with "
            "workers. Use cache=mmap, workers=0, or a larger shared memory (docker run --shm-size)."
        )


class Mapped(_Stored):
    """Each tile in a file of `folder`, written when it is first read, mapped from then on.

    A file's name is a digest of what it was made from: path, size and time of the tile's rasters, its window, bands and
    tasks. So trainings share it, a changed tile gets another one, and files appear whole or not at all, whoever else
    writes the same ones meanwhile. The folder may be deleted at any time when nothing runs.
    """

    def __init__(self, files: Files, folder: Path) -> None:
        super().__init__(files)
        self.folder = folder
        self.names = [self._name(row) for row in files.rows]
        self._mapped: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()

    def _name(self, row: Row) -> str:
        files = self.files
        paths = [(files.root / row[name]).resolve() for name in ("image", "mask") if row[name]]
        stamps = [[str(path), s.st_size, s.st_mtime_ns] for path in paths for s in [path.stat()]]
        place = place_of(row)
        window = [place.row, place.col, place.height, place.width]
        made_from = [LAYOUT, stamps, window, list(missing_of(row)), list(files.bands), files.task_bands]
        return hashlib.sha256(json.dumps(made_from).encode()).hexdigest()[:32]

    def _bytes(self, tile: int) -> NDArray[np.uint8]:
        found = self._mapped.get(tile)
        if found is not None:
            return found
        path = self.folder / self.names[tile][:2] / f"{self.names[tile]}.tile"
        size = sum(self.files.size(tile))
        if not path.is_file() or path.stat().st_size != size:
            with whole(path) as part:
                self.files.content(tile).tofile(part)
        # unlike numpy's, torch's mapping keeps no file open: there may be more tiles than a process may open
        found = self._mapped[tile] = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8).numpy()
        if len(self._mapped) > MAPPED_FILES:
            self._mapped.popitem(last=False)
        return found

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_mapped": OrderedDict()}
