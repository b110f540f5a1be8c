"""The one module that reads pixels of rasters. Everything else speaks arrays, `Grid` and `Window`.

Images are float32 with NaN where there is no measurement; labels are uint8 with 255 where there is no label.
"""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fnmatch import translate
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window as RasterioWindow

from swath.errors import RasterError
from swath.files import files_below
from swath.geo.grid import Grid, Window
from swath.geo.layout import RasterInfo
from swath.geo.sources import GDAL_FAILURES, OTHER_RASTERS, SUFFIXES, info_of, open_raster, opened_raster, unreadable
from swath.geo.validity import Validity, span_of_tag
from swath.geo.windows import strips
from swath.labels import IGNORE
from swath.notices import leave_out

STRIP_PIXELS = 4_000_000

Pixel = TypeVar("Pixel", np.float32, np.uint8)


def describe(path: Path) -> RasterInfo:
    """Read a raster's header. Raises RasterError when there is no readable raster."""
    with opened_raster(path) as dataset:
        return info_of(dataset, path)


class RasterReader:
    """A raster that stays open while its windows are read; reopened by itself in a forked or spawned process.

    `missing` are stored values that stand for no measurement although the file does not say so, in all bands. `bands`
    are names that stand above the file's own. Raises RasterError when there are more or fewer names than bands, or when
    two bands have one name.
    """

    def __init__(self, path: Path, missing: Sequence[float] = (), bands: Sequence[str] | None = None) -> None:
        self.path = path
        self._dataset: Any = None
        self._owner = 0
        info = self._described(self._open())
        self.info = info.with_names(bands) if bands is not None and tuple(bands) != info.bands else info
        self.info.require_distinct_names()
        self._validity = Validity(self.info, tuple(missing))

    def _described(self, dataset: Any) -> RasterInfo:
        """What the header says."""
        return info_of(dataset, self.path)

    def _open(self) -> Any:
        if self._dataset is None or self._owner != os.getpid():  # a handle must not cross a fork
            self._dataset = self._connect()
            self._owner = os.getpid()
        return self._dataset

    def _connect(self) -> Any:
        """The dataset that pixels come from, newly opened."""
        return open_raster(self.path)

    @contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except GDAL_FAILURES as error:
            raise unreadable(self.path, error) from error

    def image(self, window: Window | None = None, bands: Sequence[int] | None = None) -> NDArray[np.float32]:
        """float32 (bands, height, width) of measurements, scaled as the file says; NaN where nodata, missing, masked,
        infinite, or outside the raster. `bands` from 1."""
        window = window or self.info.grid.window
        inside = window.intersect(self.info.grid.window)
        numbers = self._numbers(bands)
        if inside.is_empty:
            return np.full((len(numbers), *window.shape), np.nan, np.float32)
        stored, valid_HW = self._stored(inside, numbers)
        return padded(self._validity.measured(stored, numbers, valid_HW), inside, window, np.nan)

    def labels(self, window: Window | None = None, bands: Sequence[int] | None = None) -> NDArray[np.uint8]:
        """uint8 (bands, height, width); 255 where nodata, masked, or outside the raster. `bands` from 1; None: all, in the
        file's order.

        Raises RasterError when the file is not uint8, is scaled, or calls its class 0 nodata.
        """
        self._validity.require_labels()
        window = window or self.info.grid.window
        inside = window.intersect(self.info.grid.window)
        numbers = self._numbers(bands)
        if inside.is_empty:
            return np.full((len(numbers), *window.shape), IGNORE, np.uint8)
        stored, valid_HW = self._stored(inside, numbers)
        return padded(self._validity.labelled(stored, numbers, valid_HW), inside, window, IGNORE)

    def _numbers(self, bands: Sequence[int] | None) -> list[int]:
        return list(bands) if bands is not None else list(range(1, len(self.info.bands) + 1))

    def _stored(self, window: Window, numbers: Sequence[int]) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """(values as the file holds them, which of the pixels its mask or alpha band calls valid, None without one)."""
        place = _window(window)
        with self._guard():
            dataset = self._open()
            stored = dataset.read(list(numbers), window=place)
            if self.info.masked:
                return stored, dataset.read_masks(1, window=place) > 0
            if self.info.alpha is not None:
                return stored, dataset.read(self.info.alpha, window=place) > 0
        return stored, None

    def close(self) -> None:
        if self._dataset is not None and self._owner == os.getpid():
            self._dataset.close()
        self._dataset = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_dataset": None, "_owner": 0}  # opened again where it is read next


class _WarpedReader(RasterReader):
    """A raster as seen on another grid; in another process, too, where it is opened and warped again."""

    def __init__(self, path: Path, grid: Grid, resampling: Resampling) -> None:
        self.grid, self.resampling = grid, resampling
        super().__init__(path)

    def _described(self, dataset: Any) -> RasterInfo:
        """As the view has it: what the source calls invalid has one value there."""
        source = info_of(self._source, self.path)
        outside = (dataset.nodata,) * len(source.bands)
        return replace(source, grid=self.grid, nodatas=outside, alpha=None, masked=False)

    def _connect(self) -> Any:
        source = open_raster(self.path)
        info, (height, width) = info_of(source, self.path), self.grid.shape
        self._source = source
        if info.grid.difference(self.grid) is not None and (info.grid.crs is None or self.grid.crs is None):
            source.close()
            raise RasterError(
                f"{self.path}: cannot be brought to another grid without a CRS. Declare one, or use one grid."
            )
        place = {"crs": self.grid.crs, "transform": self.grid.transform, "height": height, "width": width}
        turned = info.grid.turned_towards(self.grid)
        return WarpedVRT(
            source, resampling=self.resampling, src_nodata=info.nodata, nodata=_outside(info),
            src_transform=turned.transform, **place,
        )  # fmt: skip

    def close(self) -> None:
        source = self._source if self._owner == os.getpid() else None
        super().close()  # the view goes before what it looks at
        if source is not None:
            source.close()

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_source": None}


def _outside(info: RasterInfo) -> float:
    """The value that a view of a raster has where there is nothing."""
    span = span_of_tag(info.nodata, info.dtype)
    if span is not None:
        return float(info.nodata or 0)
    if np.issubdtype(np.dtype(info.dtype), np.floating):
        return math.nan
    return IGNORE if info.dtype == "uint8" else float(np.iinfo(info.dtype).min)


def padded(read: NDArray[Pixel], inside: Window, window: Window, outside: float) -> NDArray[Pixel]:
    """(bands, height, width) of `window`, `outside` around what was `read` of its part `inside`; `read` itself if that is all."""
    if inside == window:
        return read
    out = np.full((len(read), *window.shape), outside, read.dtype)
    if not inside.is_empty:
        rows, cols = inside.relative_to(window).slices
        out[:, rows, cols] = read
    return out


def read_image(path: Path, window: Window | None = None, missing: Sequence[float] = ()) -> NDArray[np.float32]:
    """One call of `RasterReader.image`."""
    with RasterReader(path, missing) as reader:
        return reader.image(window)


def read_labels(path: Path, window: Window | None = None) -> NDArray[np.uint8]:
    """One call of `RasterReader.labels`."""
    with RasterReader(path) as reader:
        return reader.labels(window)


def require_clear_labels(path: Path) -> None:
    """Raise RasterError for labels or classes of which nobody can tell whether 255 is a class: a file that holds 0 and 255
    only, and does not say which pixels are valid. Reads until another value is found.
    """
    with RasterReader(path) as reader:
        if reader.info.dtype != "uint8" or reader.info.says_what_is_valid:
            return
        found_255 = False
        for strip in strips(reader.info.grid.shape, STRIP_PIXELS):
            labels = reader.labels(strip)
            if ((labels > 0) & (labels < IGNORE)).any():
                return
            found_255 = found_255 or bool((labels == IGNORE).any())
    if found_255:
        raise RasterError(
            f"{path}: holds only 0 and 255, and does not say what 255 is; here it is no label. If it is the class, make it 1: "
            f'gdal_calc.py -A {path.name} --calc="A==255" --type=Byte --outfile=classes_{path.name}. If it is no label, say so: '
            f"gdal_edit.py -a_nodata 255 {path.name}"
        )


@contextmanager
def warped(path: Path, grid: Grid, resampling: Literal["nearest", "bilinear"]) -> Iterator[RasterReader]:
    """A reader of `path` as seen on another grid; warped by window as it is read. NaN where the source has nothing.

    Raises RasterError when one of the two has no CRS and the grids differ.
    """
    with _WarpedReader(path, grid, Resampling[resampling]) as reader:
        yield reader


def _window(window: Window) -> RasterioWindow:
    return RasterioWindow(window.col, window.row, window.width, window.height)


def find_rasters(folder: Path, pattern: str = "*") -> list[Path]:
    """GeoTIFFs below `folder` whose names fit `pattern`, sorted; letter case does not
    matter. Links are followed; hidden files are left out."""
    if not folder.is_dir():
        raise RasterError(f"{folder}: no such folder. Set input_path to the folder that holds the scenes.")
    fits = re.compile(translate(pattern), re.IGNORECASE).match
    files = [path for path in files_below(folder) if fits(path.name)]
    others = Counter(path.suffix.lower() for path in files if path.suffix.lower() in OTHER_RASTERS)
    for suffix, count in others.items():
        leave_out(count, "rasters", folder, f"folders are searched for GeoTIFFs, and these are {suffix}")
    return [path for path in files if path.suffix.lower() in SUFFIXES]
