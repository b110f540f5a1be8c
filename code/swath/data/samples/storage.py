"""Where the pixels of tiles come from: rasters that stay open, memory, or files mapped into memory. All give the same.

A tile is a file of its own or, where its row has `at_row` and `at_col`, a window of a larger file at that place: a
scene, which then needs no tiles on disk.
Nothing that is open crosses a fork, is sent to a spawned process, or is read by two threads.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from swath.contents import contents_of
from swath.data.scene_bands import scene_bands_decide, tile_reader
from swath.data.tables import Row, bands_of, is_file, mask_of, missing_of, place_of
from swath.data.zones import zones_of
from swath.errors import CatalogError, ConfigError
from swath.files import atomic_write
from swath.geo.grid import Window
from swath.geo.raster import Pixel, RasterReader, padded
from swath.labels import IGNORE

Cache = Literal["off", "ram", "mmap"]

OPEN_FILES = 128
"""Rasters that a thread keeps open, if the process may open twice as many with all its threads."""
READERS = 8
"""Threads at most that fill the memory of cache="ram"."""
MAPPED_FILES = 16_384
"""Files that a process keeps mapped; Linux allows 65,530 in all."""
LAYOUT = 3
"""Changes when cached files are written in another way."""


NAME_TASKS = "Name the tasks as the bands of the masks."
"""What to do about a mask without a band for a task."""


class Source(Protocol):
    """Pixels by the tile's position in the table; windows count from the tile's corner and may leave the tile.

    What they give may be the stored pixels themselves: to be copied before it is changed or given away.
    """

    def image(self, tile: int, window: Window) -> NDArray[np.float32]:
        """float32 (bands, height, width); NaN where nodata or outside the tile."""

    def labels(self, tile: int, window: Window) -> NDArray[np.uint8]:
        """uint8 (tasks, height, width); 255 where there is no label or outside the tile."""


def source_of(
    rows: Sequence[Row], root: Path, bands: Sequence[str], tasks: Sequence[str],
    cache: Cache = "off", folder: Path | None = None, threads: int = 1,
) -> Source:  # fmt: skip
    """Pixels of the tiles in `rows`: from their files, from memory, or mapped from `folder`; read by so many threads.

    `bands` and `tasks` are found by their names in every file, in whatever order it has them.
    """
    files = Files(rows, root, bands, tasks, threads)
    if cache == "ram":
        return InMemory(files)
    if cache == "mmap":
        if folder is None:
            raise ConfigError("data.cache=mmap needs data.cache_path: a folder on a fast local disk.")
        return Mapped(files, folder)
    return files


class _Handles(threading.local):
    """The rasters that one thread has open."""

    def __init__(self) -> None:
        self.readers: OrderedDict[tuple[str, tuple[float, ...]], RasterReader] = OrderedDict()


class Files:
    """Rasters as they are on disk; each thread's handles stay open, those used longest ago are closed."""

    def __init__(
        self, rows: Sequence[Row], root: Path, bands: Sequence[str], tasks: Sequence[str], threads: int = 1
    ) -> None:
        self.rows, self.root, self.bands, self.tasks = rows, root, tuple(bands), tuple(tasks)
        may, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.most = OPEN_FILES if may == resource.RLIM_INFINITY else max(2, min(OPEN_FILES, may // 2 // threads))
        self._open = _Handles()

    def image(self, tile: int, window: Window) -> NDArray[np.float32]:
        row = self.rows[tile]
        reader = self._reader(row["image"], row)
        order, place = _order(reader, self.bands), place_of(row)
        reader.info.require_tile(place, is_file(row))
        inside = window.intersect(Window(0, 0, *place.shape))
        here, zones = inside.within(place), zones_of(row)
        read = reader.image(here, order)
        return padded(zones.hide(read, here, np.nan) if zones else read, inside, window, np.nan)

    def labels(self, tile: int, window: Window) -> NDArray[np.uint8]:
        row = self.rows[tile]
        place = place_of(row)
        inside = window.intersect(Window(0, 0, *place.shape))
        mask = mask_of(row)
        if mask is None:
            raise CatalogError(f"{row['key']}: has no mask. Set masks_path in generate_tiles, or leave the tile out.")
        reader = self._reader(mask)
        reader.info.require_tile(place, is_file(row))
        numbers = reader.info.numbers_of_tasks(self.tasks, NAME_TASKS)
        here, zones = inside.within(place), zones_of(row)
        read = reader.labels(here, numbers)
        return padded(zones.hide(read, here, IGNORE) if zones else read, inside, window, IGNORE)

    def _reader(self, path: str, about: Row | None = None) -> RasterReader:
        """The raster of an image, with what its row says `about` it, or of labels."""
        key, readers = (path, missing_of(about) if about else ()), self._open.readers
        reader = readers.get(key)
        if reader is None:
            reader = tile_reader(self.root / path, about) if about else RasterReader(self.root / path)
            readers[key] = reader
            if len(readers) > self.most:
                readers.popitem(last=False)[1].close()
        else:
            readers.move_to_end(key)
        return reader

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_open"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state | {"_open": _Handles()}

    def size(self, tile: int) -> tuple[int, int]:
        """Bytes of the tile's image and of its labels."""
        row = self.rows[tile]
        pixels = row["height"] * row["width"]
        return 4 * len(self.bands) * pixels, (len(self.tasks) if mask_of(row) else 0) * pixels

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
    return None if reader.info.bands == bands else reader.info.numbers_of(bands, "Cut it from like scenes.")


class _Stored:
    """Tiles as arrays in memory or in mapped files, in the layout of `Files.content`."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self._fresh()

    def _fresh(self) -> None:
        self._arrays: OrderedDict[int, tuple[NDArray[np.float32], NDArray[np.uint8]]] = OrderedDict()
        self._making = [threading.Lock() for _ in range(64)]

    def _content(self, tile: int) -> NDArray[np.uint8]:
        """The tile's bytes, to be kept; called by one thread at a time for a tile."""
        raise NotImplementedError

    def image(self, tile: int, window: Window) -> NDArray[np.float32]:
        return _cut((self._arrays.get(tile) or self._make(tile))[0], window, np.nan)

    def labels(self, tile: int, window: Window) -> NDArray[np.uint8]:
        return _cut((self._arrays.get(tile) or self._make(tile))[1], window, IGNORE)

    def _make(self, tile: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        row, size = self.files.rows[tile], self.files.size(tile)[0]
        shape = -1, row["height"], row["width"]
        with self._making[tile % len(self._making)]:
            content = self._content(tile)
            arrays = content[:size].view(np.float32).reshape(shape), content[size:].reshape(shape)
            self._arrays[tile] = arrays
            if len(self._arrays) > MAPPED_FILES:
                self._arrays.popitem(last=False)
        return arrays

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_arrays", "_making")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self._fresh()


def _cut(stored: NDArray[Pixel], window: Window, outside: float) -> NDArray[Pixel]:
    """A window of a tile that is stored whole, without a copy where it lies inside."""
    top, left, bottom, right = window.row, window.col, window.row + window.height, window.col + window.width
    if 0 <= top <= bottom <= stored.shape[1] and 0 <= left <= right <= stored.shape[2]:  # nearly always: a short cut
        return stored[:, top:bottom, left:right]
    inside = window.intersect(Window(0, 0, *stored.shape[1:]))
    rows, cols = inside.slices
    return padded(stored[:, rows, cols], inside, window, outside)


class InMemory(_Stored):
    """All tiles in memory, read once at the start; loader processes, forked or spawned, use the same memory."""

    def __init__(self, files: Files) -> None:
        super().__init__(files)
        sizes = [sum(files.size(tile)) for tile in range(len(files.rows))]
        self.starts = np.cumsum([0, *(-(-size // 16) * 16 for size in sizes)])
        self.pool = torch.empty(int(self.starts[-1]), dtype=torch.uint8)
        with ThreadPoolExecutor(min(READERS, os.cpu_count() or 1)) as threads:
            for _ in threads.map(self._read, range(len(sizes))):
                pass  # an error of a thread appears here

    def _read(self, tile: int) -> None:
        content = self.files.content(tile)
        self.pool.numpy()[self.starts[tile] : self.starts[tile] + len(content)] = content

    def _content(self, tile: int) -> NDArray[np.uint8]:
        start = int(self.starts[tile])
        return self.pool.numpy()[start : start + sum(self.files.size(tile))]

    def __getstate__(self) -> dict[str, Any]:
        if not self.pool.is_shared():  # pickled tensors are moved to shared memory
            _require_room(len(self.pool))
        return super().__getstate__()


def _require_room(size: int) -> None:
    """Linux kills who writes beyond the end of shared memory, which in containers is often 64 MB, without a word."""
    memory = Path("/dev/shm")
    if memory.is_dir() and shutil.disk_usage(memory).free < size:
        raise ConfigError(
            f"data.cache=ram: the tiles take {size / 1e9:.2f} GB, more than {memory} has free for sharing them with "
            "spawned processes. Use cache=mmap, threads, or a larger shared memory (docker run --shm-size)."
        )


class Mapped(_Stored):
    """Each tile in a file of `folder`, written when it is first read, mapped from then on.

    A file's name is a digest of what it was made from: the contents of the tile's rasters, its window, missing zones,
    bands and tasks. So trainings share it, a changed tile gets another one, and files appear whole or not at all,
    whoever else writes the same ones meanwhile. The folder may be deleted at any time when nothing runs.
    """

    def __init__(self, files: Files, folder: Path) -> None:
        super().__init__(files)
        self.folder = folder
        contents = contents_of(path for row in files.rows for path in self._paths(row))
        self.names = [self._name(row, contents) for row in files.rows]

    def _paths(self, row: Row) -> list[Path]:
        return [self.files.root / name for name in (row["image"], mask_of(row)) if name]

    def _name(self, row: Row, contents: Mapping[Path, str | None]) -> str:
        files = self.files
        rasters = [contents[path] for path in self._paths(row)]
        place = place_of(row)
        window = [place.row, place.col, place.height, place.width]
        zones = zones_of(row)
        runs = zones.runs.tolist() if zones else []
        names = list(bands_of(row) or ())
        made_from = [LAYOUT, rasters, window, list(missing_of(row)), names, list(files.bands), list(files.tasks), runs]
        made_from += scene_bands_decide([row]).values()
        return hashlib.sha256(json.dumps(made_from).encode()).hexdigest()[:32]

    def _content(self, tile: int) -> NDArray[np.uint8]:
        path = self.folder / self.names[tile][:2] / f"{self.names[tile]}.tile"
        size = sum(self.files.size(tile))
        if not path.is_file() or path.stat().st_size != size:
            with atomic_write(path) as part:
                self.files.content(tile).tofile(part)
        # unlike numpy's, torch's mapping keeps no file open: there may be more tiles than a process may open
        return torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8).numpy()
