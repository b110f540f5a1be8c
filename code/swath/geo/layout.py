"""What a raster's header says, and what a raster that is to be written is to be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from swath.errors import RasterError
from swath.geo.grid import Grid, Window

FILL = -99999.0
"""Stands for no measurement in files that swath writes, where a source has no value of its own for it."""

UNNAMED = "band_{}"
"""Name of a band that has no description, by its number from 1."""


@dataclass(frozen=True, kw_only=True)
class RasterInfo:
    """What a raster's header says. `bands` are the descriptions, or band_1, band_2, ... where there are none.

    An alpha band is none of them: it says which pixels are valid.
    """

    path: Path
    grid: Grid
    bands: tuple[str, ...]
    dtype: str
    nodatas: tuple[float | None, ...]
    """Nodata tag of each band, of the values as they are stored."""
    tags: Mapping[str, str]
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    """Of each band: a measurement is the stored value times the scale, plus the offset."""
    alpha: int | None = None
    """Number of the alpha band, counted from 1: the last one of the file."""
    masked: bool = False
    """Whether a mask inside the file, or in its .msk file, says which pixels are valid."""

    @property
    def nodata(self) -> float | None:
        """The nodata tag of the first band."""
        return self.nodatas[0]

    @property
    def is_scaled(self) -> bool:
        """Whether measurements are other numbers than the stored values."""
        return any(scale != 1 for scale in self.scales) or any(offset != 0 for offset in self.offsets)

    @property
    def says_what_is_valid(self) -> bool:
        """Whether a tag, a mask or an alpha band says which pixels are valid."""
        return self.masked or self.alpha is not None or self.nodata is not None

    @property
    def fill(self) -> float:
        """A value for no measurement in a float32 copy: the nodata tag if it can be that one, else -99999."""
        tags = set(self.nodatas)
        tag = self.nodata
        kept = tag is not None and len(tags) == 1 and not self.is_scaled and np.isfinite(np.float32(tag))
        return float(tag) if kept and tag is not None else FILL

    def with_names(self, bands: Sequence[str]) -> RasterInfo:
        """The same with other names of bands; names for the alpha band, too, make it a band like the others.

        Raises RasterError when there are more or fewer names than bands.
        """
        if self.alpha is not None and len(bands) == self.alpha:
            nodatas = (*self.nodatas, self.nodata)
            scales, offsets = (*self.scales, 1.0), (*self.offsets, 0.0)
            return replace(self, bands=tuple(bands), nodatas=nodatas, scales=scales, offsets=offsets, alpha=None)
        if len(bands) != len(self.bands):
            raise RasterError(
                f"{self.path}: has {len(self.bands)} bands, its table names {len(bands)} ({', '.join(bands)}). "
                "Name each band of the file once."
            )
        return replace(self, bands=tuple(bands))

    def require_tile(self, window: Window, is_file: bool) -> None:
        """Raise RasterError for a tile that the raster cannot hold: a table that names it is of another file.

        A tile with a file of its own (`is_file`) is all of it; a window of a scene may leave the scene in part.
        """
        fits = window == self.grid.window if is_file else not window.intersect(self.grid.window).is_empty
        if not fits:
            height, width = self.grid.shape
            raise RasterError(
                f"{self.path}: has {width} x {height} px, and its table says that a tile of {window.width} x {window.height} px "
                f"lies at row {window.row}, column {window.col}. Cut the tiles again: generate_tiles -P replace=True"
            )

    def require_distinct_names(self) -> None:
        """Raise RasterError when two bands have one name: nobody could tell which is meant."""
        twice = sorted({name for name in self.bands if self.bands.count(name) > 1})
        if twice:
            raise RasterError(
                f"{self.path}: several of its bands are called {', '.join(twice)} ({', '.join(self.bands)}). Give each its "
                "own description, or name them in the column `bands` of scenes.parquet."
            )

    def numbers_of(self, bands: Sequence[str], remedy: str) -> list[int]:
        """Numbers of the bands with these names, counted from 1. Raises RasterError, which ends with `remedy`."""
        missing = [band for band in bands if band not in self.bands]
        if missing:
            raise RasterError(f"{self.path}: no band {', '.join(missing)}; it has {', '.join(self.bands)}. {remedy}")
        return [self.bands.index(band) + 1 for band in bands]

    def position_of_task(self, task: str | None, remedy: str) -> int:
        """Position of a task's band, counted from 0; None means the first one.

        A raster of one band serves a task of any name. Raises RasterError, which ends with `remedy`.
        """
        if task is None or len(self.bands) == 1:
            return 0
        return self.numbers_of([task], remedy)[0] - 1

    def numbers_of_tasks(self, tasks: Sequence[str], remedy: str) -> list[int]:
        """Numbers of the tasks' bands, counted from 1. A single band without a name serves a single task of any name.

        Raises RasterError, which ends with `remedy`, for a task that no band is named by.
        """
        has_no_names = self.bands == (UNNAMED.format(1),)
        if has_no_names and len(tasks) == 1:
            return [1]
        return self.numbers_of(tasks, remedy)


@dataclass(frozen=True, kw_only=True)
class RasterSpec:
    """What a file is to be: its grid, band names, dtype, nodata and layout.

    ``block=None`` makes the whole raster one block: the fastest layout for tiles that are read whole. ``overviews``
    makes it a compressed cloud-optimised GeoTIFF with overviews of that resampling.
    """

    grid: Grid
    bands: Sequence[str]
    dtype: Literal["uint8", "int8", "int32", "float32"]
    nodata: float | None = None
    block: int | None = 512
    compress: bool = False
    overviews: Literal["mode", "average"] | None = None
    tags: Mapping[str, str] | None = None
    colors: Mapping[int, tuple[int, int, int, int]] | None = None
    interleave: Literal["band", "pixel"] = "band"
    """Whether a block holds one band, or the bands of a pixel stand side by side."""

    def profile(self) -> dict[str, Any]:
        height, width = self.grid.shape
        layout = {"blockxsize": self.block or _multiple(width), "blockysize": self.block or _multiple(height)}
        packing: dict[str, Any] = {"compress": "DEFLATE", "zlevel": 1} if self.compress and not self.overviews else {}
        if packing and self.dtype == "float32":
            packing["predictor"] = 3
        if self.nodata is not None:
            packing["SPARSE_OK"] = "TRUE"  # a block without a value takes no room
        return {
            "driver": "GTiff", "dtype": self.dtype, "count": len(self.bands), "height": height, "width": width,
            "crs": self.grid.crs, "transform": self.grid.transform, "nodata": self.nodata, "tiled": True,
            "interleave": self.interleave, "BIGTIFF": "IF_SAFER", **layout, **packing,
        }  # fmt: skip

    def cloud_optimised(self) -> dict[str, Any]:
        """Options of GDAL's COG driver. ZSTD packs floats at twice the speed of DEFLATE; classes may go anywhere."""
        packing = {"compress": "ZSTD", "predictor": "YES"} if self.dtype == "float32" else {"compress": "DEFLATE"}
        return {
            "driver": "COG", "blocksize": self.block or 512, "level": 1, "overview_resampling": self.overviews,
            "bigtiff": "IF_SAFER", "num_threads": "ALL_CPUS", **packing,
        }  # fmt: skip


def _multiple(length: int) -> int:
    """Blocks of tiled TIFFs are multiples of 16."""
    return -(-length // 16) * 16
