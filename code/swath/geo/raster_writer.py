"""The one module that writes rasters: GeoTIFFs that appear whole or not at all.

They are written beside their name and renamed when complete, and when their directory agrees with their length: where a
disk is full while a file is closed, GDAL says nothing.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning
from rasterio.windows import Window as RasterioWindow

from swath.errors import RasterError
from swath.files import atomic_write, unwritable
from swath.geo.block_cache import bounded_cache
from swath.geo.grid import Window
from swath.geo.layout import RasterSpec
from swath.geo.sources import GDAL_FAILURES
from swath.geo.tiff import Blocks, require_whole

SIDE_FILES = (".ovr", ".msk", ".msk.ovr", ".aux.xml")
"""What GDAL reads beside a raster and takes for a part of it."""


class RasterWriter:
    """Writes windows of a new GeoTIFF. Used as a context: the file gets its name when the block ends without error."""

    def __init__(self, path: Path, spec: RasterSpec) -> None:
        self.path, self.spec = path, spec
        self._part = path
        self._dataset: Any = None
        self._files = ExitStack()
        self._failure: RasterError | None = None
        profile = spec.profile()
        self._block = (int(profile["blockysize"]), int(profile["blockxsize"]))
        blocks = [-(-side // size) for side, size in zip(spec.grid.shape, self._block, strict=True)]
        self._filled = np.zeros((len(spec.bands), *blocks), bool)  # (bands, rows, columns) of blocks that hold a value

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
                self._note_filled(number - 1, band_1HW[0], inside)
                self._dataset.write(
                    band_1HW, [number], window=RasterioWindow(inside.col, inside.row, inside.width, inside.height)
                )

    def _note_filled(self, band: int, stored_HW: NDArray[Any], window: Window) -> None:
        """Note the blocks of a band in which a window has values other than nodata."""
        nodata = self.spec.nodata
        if nodata is None:
            self._filled[band] = True  # GDAL writes every block
            return
        height, width = self._block
        for row in range(window.row // height, -(-(window.row + window.height) // height)):
            for col in range(window.col // width, -(-(window.col + window.width) // width)):
                if not self._filled[band, row, col]:
                    block = Window(row * height, col * width, height, width).intersect(window)
                    part_HW = stored_HW[block.relative_to(window).slices]
                    self._filled[band, row, col] = _holds_value(part_HW, nodata)

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
            self._dataset.close()  # GDAL writes what it still holds, and may say nothing when the disk is full
            self._require_blocks(self._require_whole(self._part))
            if self.spec.overviews:
                self._optimise()
            for suffix in SIDE_FILES:  # of an older raster of that name
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)

    def _require_whole(self, written: Path) -> Blocks:
        try:
            return require_whole(written)
        except ValueError as error:
            raise OSError(f"{written.stat().st_size} bytes were written; {error}") from error

    def _require_blocks(self, blocks: Blocks) -> None:
        """Raise OSError when a block that holds a value was not written: GDAL says nothing of one that it loses at the end."""
        filled = self._filled.any(axis=0) if self.spec.interleave == "pixel" else self._filled
        stored = blocks.stored.reshape(filled.shape)
        lost = int((filled & ~stored).sum())
        if lost:
            raise OSError(f"{lost} of {filled.sum()} blocks were not written")

    def _optimise(self) -> None:
        """Replace the growing file by a cloud-optimised copy; the driver wants all pixels before it writes the first."""
        copy = self._part.with_name(f"{self._part.name}.cog")
        rasterio.shutil.copy(self._part, copy, **self.spec.cloud_optimised())
        self._require_whole(copy)
        os.replace(copy, self._part)


def _holds_value(values_HW: NDArray[Any], nodata: float) -> bool:
    """Whether an array holds anything but nodata. Its middle is looked at first: that is nearly always enough."""
    height, width = values_HW.shape
    middle_HW = values_HW[height // 2 : height // 2 + 1, width // 2 : width // 2 + 1]
    for part_HW in (middle_HW, values_HW):
        is_value = ~np.isnan(part_HW) if np.isnan(nodata) else part_HW != nodata
        if is_value.any():
            return True
    return False


def write_raster(path: Path, array: NDArray[Any], spec: RasterSpec) -> None:
    """Write a whole array (bands, height, width) at once."""
    with RasterWriter(path, spec) as writer:
        writer.write(array)
