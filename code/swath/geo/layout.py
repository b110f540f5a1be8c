"""What a raster's header says, and what a raster that is to be written is to be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from swath.geo.grid import Grid


@dataclass(frozen=True, kw_only=True)
class RasterInfo:
    """What a raster's header says. `bands` are the descriptions, or band_1, band_2, ... where there are none."""

    path: Path
    grid: Grid
    bands: tuple[str, ...]
    dtype: str
    nodata: float | None
    tags: Mapping[str, str]


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
