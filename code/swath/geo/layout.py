"""What a raster's header says, and what a raster that is to be written is to be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from swath.errors import RasterError
from swath.geo.grid import Grid

UNNAMED = "band_{}"
"""Name of a band that has no description, by its number from 1."""


@dataclass(frozen=True, kw_only=True)
class RasterInfo:
    """What a raster's header says. `bands` are the descriptions, or band_1, band_2, ... where there are none."""

    path: Path
    grid: Grid
    bands: tuple[str, ...]
    dtype: str
    nodata: float | None
    tags: Mapping[str, str]

    def with_names(self, bands: Sequence[str]) -> RasterInfo:
        """The same with other names of bands. Raises RasterError when there are more or fewer names than bands."""
        if len(bands) != len(self.bands):
            raise RasterError(
                f"{self.path}: has {len(self.bands)} bands, its table names {len(bands)} ({', '.join(bands)}). "
                "Name each band of the file once."
            )
        return replace(self, bands=tuple(bands))

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
    dtype: Literal["uint8", "float32"]
    nodata: float | None = None
    block: int | None = 512
    compress: bool = False
    overviews: Literal["mode", "average"] | None = None
    tags: Mapping[str, str] | None = None
    colors: Mapping[int, tuple[int, int, int, int]] | None = None

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
            "interleave": "band", "BIGTIFF": "IF_SAFER", **layout, **packing,
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
