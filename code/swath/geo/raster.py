"""The one module that opens rasters. Everything else speaks arrays, `Grid` and `Window`.

Images are float32 with NaN where there is no measurement; labels are uint8 with 255 where there is no label.
Files appear whole or not at all: they are written beside their name and renamed when complete.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window as RasterioWindow

from swath.errors import RasterError
from swath.files import atomic_write, files_below, unwritable
from swath.geo.block_cache import bounded_cache
from swath.geo.grid import Grid, Window
from swath.geo.layout import UNNAMED, RasterInfo, RasterSpec
from swath.labels import IGNORE

Pixel = TypeVar("Pixel", np.float32, np.uint8)

GDAL_FAILURES = (RasterioError, rasterio._err.CPLE_BaseError, OSError)
LARGEST = float(np.finfo(np.float32).max)

SUFFIXES = (".tif", ".tiff", ".TIF", ".TIFF")


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    with closing(_dataset(path)) as dataset:
        yield dataset


def _dataset(path: Path) -> Any:
    """Open for reading; a missing, foreign or truncated file becomes a RasterError that names it."""
    if not path.is_file():
        raise RasterError(f"{path}: no such file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # scenes without a place are legal
            return rasterio.open(path)
    except GDAL_FAILURES as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: BaseException) -> RasterError:
    size = path.stat().st_size if path.is_file() else 0
    cause = error.__cause__ or error
    return RasterError(
        f"{path}: cannot be read as a raster ({size} bytes; GDAL: {cause}). "
        "It is truncated or not a raster: copy or download it again, or take it out of the folder."
    )


def _info(dataset: Any, path: Path) -> RasterInfo:
    names = tuple(text or UNNAMED.format(i) for i, text in enumerate(dataset.descriptions, start=1))
    grid = Grid(dataset.crs, dataset.transform, (dataset.height, dataset.width))
    return RasterInfo(
        path=path, grid=grid, bands=names, dtype=dataset.dtypes[0], nodata=dataset.nodata, tags=dataset.tags()
    )


def describe(path: Path) -> RasterInfo:
    """Read a raster's header. Raises RasterError when there is no readable raster."""
    with _opened(path) as dataset:
        return _info(dataset, path)


class RasterReader:
    """A raster that stays open while its windows are read; reopened by itself in a forked or spawned process.

    `missing` are values that stand for no measurement although the file's header does not say so, in all bands. `bands`
    are names that stand above the file's own; RasterError when there are more or fewer than bands.
    """

    def __init__(self, path: Path, missing: Sequence[float] = (), bands: Sequence[str] | None = None) -> None:
        self.path, self.missing = path, tuple(missing)
        self._dataset: Any = None
        self._owner = 0
        self.info = _info(self._open(), path)
        if bands is not None and tuple(bands) != self.info.bands:
            self.info = self.info.with_names(bands)

    def _open(self) -> Any:
        if self._dataset is None or self._owner != os.getpid():  # a handle must not cross a fork
            self._dataset = self._connect()
            self._owner = os.getpid()
        return self._dataset

    def _connect(self) -> Any:
        """The dataset that pixels come from, newly opened."""
        return _dataset(self.path)

    @contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except GDAL_FAILURES as error:
            raise _unreadable(self.path, error) from error

    def image(self, window: Window | None = None, bands: Sequence[int] | None = None) -> NDArray[np.float32]:
        """float32 (bands, height, width); NaN where nodata, missing, infinite, or outside the raster. `bands` from 1."""
        window = window or self.info.grid.window
        inside = window.intersect(self.info.grid.window)
        if inside.is_empty:
            return np.full((len(bands or self.info.bands), *window.shape), np.nan, np.float32)
        with self._guard():
            data = self._open().read(list(bands) if bands else None, window=_window(inside))
        return padded(self._with_gaps(data), inside, window, np.nan)

    def _with_gaps(self, data: NDArray[Any]) -> NDArray[np.float32]:
        """Pixels as float32, NaN where they are no measurement; looked for only where the extremes leave room for one."""
        image = data.astype(np.float32, copy=False)
        none: list[Any] = [] if self.info.nodata is None else [np.asarray(self.info.nodata).astype(data.dtype)]
        none += [float(value) for value in self.missing]  # not cast: -99999 is no uint8, and no value of one
        low, high = float(data.min()), float(data.max())  # NaN when there is one
        if max(-low, high) <= LARGEST and not any(low <= float(value) <= high for value in none):
            return image
        gaps = ~np.isfinite(image)
        for value in none:
            gaps |= data == value
        np.copyto(image, np.float32(np.nan), where=gaps)
        return image

    def labels(self, window: Window | None = None, bands: Sequence[int] | None = None) -> NDArray[np.uint8]:
        """uint8 (bands, height, width); 255 outside the raster. `bands` from 1; None: all, in the file's order.

        Raises RasterError when the file is not uint8.
        """
        if self.info.dtype != "uint8":
            raise RasterError(f"{self.path}: labels must be uint8, found {self.info.dtype}. Make it with `rasterize`.")
        window = window or self.info.grid.window
        inside = window.intersect(self.info.grid.window)
        if inside.is_empty:
            return np.full((len(bands or self.info.bands), *window.shape), IGNORE, np.uint8)
        with self._guard():
            data = self._open().read(list(bands) if bands else None, window=_window(inside))
        return padded(data, inside, window, IGNORE)

    def close(self) -> None:
        if self._dataset is not None and self._owner == os.getpid():
            self._dataset.close()
        self._dataset = None

    def __enter__(self) -> RasterReader:
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

    def _connect(self) -> Any:
        source = _dataset(self.path)
        info, (height, width) = _info(source, self.path), self.grid.shape
        if info.grid.difference(self.grid) is not None and (info.grid.crs is None or self.grid.crs is None):
            source.close()
            raise RasterError(
                f"{self.path}: cannot be brought to another grid without a CRS. Declare one, or use one grid."
            )
        outside = info.nodata if info.nodata is not None else (IGNORE if info.dtype == "uint8" else math.nan)
        place = {"crs": self.grid.crs, "transform": self.grid.transform, "height": height, "width": width}
        self._source = source
        return WarpedVRT(source, resampling=self.resampling, nodata=outside, **place)

    def close(self) -> None:
        source = self._source if self._owner == os.getpid() else None
        super().close()  # the view goes before what it looks at
        if source is not None:
            source.close()

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_source": None}


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


@contextmanager
def warped(path: Path, grid: Grid, resampling: Literal["nearest", "bilinear"]) -> Iterator[RasterReader]:
    """A reader of `path` as seen on another grid; warped by window as it is read. NaN where the source has nothing.

    Raises RasterError when one of the two has no CRS and the grids differ.
    """
    with _WarpedReader(path, grid, Resampling[resampling]) as reader:
        yield reader


def _window(window: Window) -> RasterioWindow:
    return RasterioWindow(window.col, window.row, window.width, window.height)


# ------------------------------------------------------------------------------------------------------------ writing


class RasterWriter:
    """Writes windows of a new GeoTIFF. Used as a context: the file gets its name when the block ends without error."""

    def __init__(self, path: Path, spec: RasterSpec) -> None:
        self.path, self.spec = path, spec
        self._part = path
        self._dataset: Any = None
        self._files = ExitStack()
        self._failure: RasterError | None = None

    def __enter__(self) -> RasterWriter:
        with ExitStack() as files, self._guard():
            files.enter_context(bounded_cache())
            self._part = files.enter_context(atomic_write(self.path, failures=()))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                self._dataset = rasterio.open(self._part, "w", **self.spec.profile())
            self._describe()
            self._files = files.pop_all()
        return self

    def _describe(self) -> None:
        """Names of bands, tags and colours."""
        self._dataset.descriptions = tuple(self.spec.bands)
        self._dataset.update_tags(**(self.spec.tags or {}))
        if self.spec.colors:
            self._dataset.write_colormap(1, dict(self.spec.colors))
        else:
            others = [ColorInterp.undefined] * (len(self.spec.bands) - 1)
            self._dataset.colorinterp = [ColorInterp.gray, *others]

    def write(self, array: NDArray[Any], window: Window | None = None) -> None:
        """Write (bands, height, width); parts of the window outside the raster are dropped. NaN becomes nodata."""
        window = window or self.spec.grid.window
        inside = window.intersect(self.spec.grid.window)
        if inside.is_empty:
            return
        rows, cols = inside.relative_to(window).slices
        with self._guard():
            for number, band in enumerate(array[:, rows, cols], start=1):  # one at a time: half the memory
                band_1HW = self._stored(band)[None]  # rasterio would copy two dimensions into three
                self._dataset.write(band_1HW, [number], window=_window(inside))

    def _stored(self, band_HW: NDArray[Any]) -> NDArray[Any]:
        """A band as the file holds it."""
        if self.spec.dtype == "float32" and self.spec.nodata is not None and (gaps := np.isnan(band_HW)).any():
            band_HW = np.where(gaps, np.float32(self.spec.nodata), band_HW)
        return band_HW.astype(self.spec.dtype, copy=False)

    @contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except GDAL_FAILURES as error:
            self._failure = RasterError(unwritable(self.path, error))
            raise self._failure from error

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        failure = error or self._failure  # also one that somebody caught: the file is not whole
        with self._guard(), self._files:
            if failure is not None:
                with suppress(*GDAL_FAILURES):
                    self._dataset.close()
                raise failure
            self._dataset.close()  # GDAL writes what it still holds: a full disk can show here
            if self.spec.overviews:
                self._optimise()

    def _optimise(self) -> None:
        """Replace the growing file by a cloud-optimised copy; the driver wants all pixels before it writes the first."""
        copy = self._part.with_name(f"{self._part.name}.cog")
        rasterio.shutil.copy(self._part, copy, **self.spec.cloud_optimised())
        os.replace(copy, self._part)


def write_raster(path: Path, array: NDArray[Any], spec: RasterSpec) -> None:
    """Write a whole array (bands, height, width) at once."""
    with RasterWriter(path, spec) as writer:
        writer.write(array)


def find_rasters(folder: Path, pattern: str = "*") -> list[Path]:
    """GeoTIFFs below `folder` whose names fit `pattern`, sorted. Links are followed; hidden files are left out."""
    if not folder.is_dir():
        raise RasterError(f"{folder}: no such folder. Set input_path to the folder that holds the scenes.")
    return [p for p in files_below(folder) if p.suffix in SUFFIXES and fnmatch(p.name, pattern)]
