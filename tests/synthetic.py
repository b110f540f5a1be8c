"""Makers of scenes, masks, polygons and tables of tiles; everything seeded and small."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import segmentation_models_pytorch as smp
import shapely
import torch
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from swath.geo.grid import Grid
from swath.geo.layout import RasterSpec
from swath.geo.raster_writer import write_raster

UTM = CRS.from_epsg(32638)
NODATA = -99999.0


def grid(
    shape: tuple[int, int] = (64, 80), origin: tuple[float, float] = (400_000.0, 3_700_000.0), pixel: float = 10.0
) -> Grid:
    """A north-up grid in UTM 38N."""
    return Grid(UTM, Affine(pixel, 0, origin[0], 0, -pixel, origin[1]), shape)


def blobs(shape: tuple[int, int], seed: int = 0, share: float = 0.3) -> NDArray[np.uint8]:
    """uint8 mask with a few irregular connected shapes, about `share` of it 1."""
    rng = np.random.default_rng(seed)
    coarse = rng.random((shape[0] // 8 + 2, shape[1] // 8 + 2))
    smooth = np.kron(coarse, np.ones((8, 8)))[: shape[0], : shape[1]] + 0.15 * rng.random(shape)
    return (smooth > np.quantile(smooth, 1 - share)).astype(np.uint8)


def write_image(path: Path, array: NDArray[np.float32], place: Grid, bands: tuple[str, ...] | None = None) -> Path:
    """A float32 GeoTIFF with nodata -99999 where `array` (bands, height, width) is NaN."""
    names = bands or tuple(f"band_{i + 1}" for i in range(len(array)))
    write_raster(path, array.astype(np.float32), RasterSpec(grid=place, bands=names, dtype="float32", nodata=NODATA))
    return path


def write_mask(path: Path, array: NDArray[np.uint8], place: Grid, bands: tuple[str, ...] = ("water",)) -> Path:
    """A uint8 label GeoTIFF with nodata 255; `array` is (height, width) or (bands, height, width)."""
    stack = array if array.ndim == 3 else array[None]
    write_raster(path, stack, RasterSpec(grid=place, bands=bands, dtype="uint8", nodata=255, compress=True))
    return path


def polygons(place: Grid, attribute: str = "DN", value: int = 255, crs: str | None = None) -> gpd.GeoDataFrame:
    """Three polygons inside the grid: a rotated rectangle, a triangle, and a square with a hole."""
    x_min, y_min, x_max, y_max = place.bounds
    w, h = x_max - x_min, y_max - y_min
    box = shapely.affinity.rotate(shapely.box(x_min + 0.1 * w, y_min + 0.1 * h, x_min + 0.4 * w, y_min + 0.3 * h), 20)
    triangle = shapely.Polygon(
        [(x_min + 0.5 * w, y_min + 0.1 * h), (x_min + 0.9 * w, y_min + 0.2 * h), (x_min + 0.6 * w, y_min + 0.5 * h)]
    )
    outer = shapely.box(x_min + 0.2 * w, y_min + 0.55 * h, x_min + 0.5 * w, y_min + 0.9 * h)
    ring = outer.difference(shapely.box(x_min + 0.3 * w, y_min + 0.65 * h, x_min + 0.4 * w, y_min + 0.8 * h))
    frame = gpd.GeoDataFrame({attribute: [value] * 3}, geometry=[box, triangle, ring], crs=place.crs.to_wkt())
    return frame.to_crs(crs) if crs else frame


def write_area(
    root: Path,
    area: str,
    place: Grid,
    dates: tuple[str, ...] = ("20150102t145957",),
    seed: int = 0,
    labelled: bool = True,
) -> Path:
    """An area in the UNOSAT layout: <area>/<DATE>/s1a_<area>_{vh,vv}_ASC_<date>.tif and <area>/<area>.shp (DN = 255).

    Water is dark in both bands; a few columns at the right edge are nodata, one more in VV than in VH.
    """
    rng = np.random.default_rng(seed)
    water = blobs(place.shape, seed)
    for date in dates:
        for band, (land, wet), gap in (("vh", (0.03, 0.002), 3), ("vv", (0.15, 0.01), 4)):
            image = np.where(water, wet, land) * rng.gamma(4.4, 1 / 4.4, place.shape)
            image[:, -gap:] = np.nan
            write_image(root / area / date.upper() / f"s1a_{area}_{band}_ASC_{date}.tif", image[None], place, (band,))
    if labelled:
        from swath.geo.polygons import polygonize
        from swath.geo.vector import write_vectors

        frame = polygonize(water, place).rename(columns={"id": "DN"}).assign(DN=255)
        write_vectors(root / area / f"{area}.shp", frame)
    return root / area


class PixelNet(nn.Module):
    """A network that looks at single pixels only: two 1 x 1 convolutions."""

    def __init__(self, in_channels: int, classes: int, width: int = 8) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(in_channels, width, 1), nn.ReLU(), nn.Conv2d(width, classes, 1))

    def forward(self, image_BCHW: Tensor) -> Tensor:
        return self.layers(image_BCHW)


class TinyNet(nn.Module):
    """A few 3 x 3 convolutions with batch norm and dropout: everything that a resumed training has to restore."""

    def __init__(self, in_channels: int, classes: int, width: int = 8, dropout: float = 0.1) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout2d(dropout),
            nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, classes, 1),
        )  # fmt: skip

    def forward(self, image_BCHW: Tensor) -> Tensor:
        return self.layers(image_BCHW)


class SlowNet(TinyNet):
    """A network that takes its time, so that something can happen to a training under way; it may fail in the end."""

    def __init__(self, in_channels: int, classes: int, seconds: float = 0.03, fails_at: int | None = None) -> None:
        super().__init__(in_channels, classes, dropout=0.0)
        self.seconds, self.fails_at, self.calls = seconds, fails_at, 0

    def forward(self, image_BCHW: Tensor) -> Tensor:
        time.sleep(self.seconds)
        self.calls += 1
        if self.calls == self.fails_at:
            raise ValueError("the network gave up")
        return super().forward(image_BCHW)


class NanNet(nn.Module):
    """A network whose output is not a number."""

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__()
        self.layer = nn.Conv2d(in_channels, classes, 1)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        return self.layer(image_BCHW) * torch.nan


def rows_of(frame: gpd.GeoDataFrame) -> list[dict[str, Any]]:
    """A table's rows as dicts, for readable assertions."""
    return list(frame.drop(columns="geometry").to_dict("records"))


def echoes(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """float32 linear backscatter of about -35 to 5 dB, all above 0."""
    spread = torch.rand(shape, generator=torch.Generator().manual_seed(seed))
    return 10 ** (4 * spread - 3.5)


def labels(shape: tuple[int, ...], classes: int = 2, ignored: float = 0.2, seed: int = 0) -> Tensor:
    """uint8 class numbers, about a share `ignored` of them 255."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(0, classes, shape, generator=generator).to(torch.uint8)
    drawn[torch.rand(shape, generator=generator) < ignored] = 255
    return drawn


def backscatter(shape: tuple[int, int], bands: int = 3, seed: int = 0, gap: int = 3) -> NDArray[np.float32]:
    """float32 (bands, height, width) of positive noise; the last `gap` columns are NaN."""
    image = np.random.default_rng(seed).gamma(2.0, 0.1, (bands, *shape)).astype(np.float32)
    if gap:
        image[:, :, -gap:] = np.nan
    return image


def write_scenes(root: Path, count: int, shape: tuple[int, int], masks: Path | None = None) -> list[Path]:
    """`count` 3-band scenes <root>/area<i>/s1a_area<i>_ASC_20150102.tif, 50 km apart, with masks where wanted."""
    paths = []
    for i in range(count):
        place = grid(shape, (300_000.0 + 50_000 * i, 3_700_000.0))
        name = f"s1a_area{i}_ASC_20150102.tif"
        paths.append(write_image(root / f"area{i}" / name, backscatter(shape, seed=i), place, ("vh", "vv", "mean")))
        if masks:
            write_mask(masks / f"area{i}" / name, blobs(shape, i), place)
    return paths


def texture(shape: tuple[int, int], seed: int = 0, bands: int = 2, looks: float = 4.4) -> NDArray[np.float32]:
    """float32 (bands, height, width) linear backscatter: land of several scales with water in it, under speckle."""
    rng = np.random.default_rng(seed)
    land = sum(gaussian_filter(rng.standard_normal(shape), s) * s for s in (2, 6, 20))
    smooth = gaussian_filter(rng.standard_normal(shape), 15)
    clean = 0.1 * np.exp(0.5 * land) * np.where(smooth > np.quantile(smooth, 0.7), 0.05, 1)
    return (clean * rng.gamma(looks, 1 / looks, (bands, *shape))).astype(np.float32)


def tile_table(
    boxes: Sequence[tuple[float, float, float]],
    name: str = "t",
    areas: Sequence[str] = (),
    crs: str | None = "EPSG:32638",
    scenes: Sequence[str] = (),
) -> gpd.GeoDataFrame:
    """Square tiles (x, y, side) with keys <name><i>, each of a scene `name` in an area `name` if not told otherwise."""
    shapes = [shapely.box(x, y, x + side, y + side) for x, y, side in boxes]
    keys = [f"{name}{i}" for i in range(len(boxes))]
    columns = {"key": keys, "scene": list(scenes) or [name] * len(keys), "area": list(areas) or [name] * len(keys)}
    return gpd.GeoDataFrame(columns | {"crs": [crs] * len(keys)}, geometry=shapes)


def times(folder: Path, pattern: str = "*.tif") -> dict[str, int]:
    """Modification time of each file below a folder, by relative path."""
    return {p.relative_to(folder).as_posix(): p.stat().st_mtime_ns for p in sorted(folder.rglob(pattern))}


def cut_in_half(path: Path) -> Path:
    """Drop the second half of a file's bytes, as a broken download does."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return path


TINY_VIT = partial(
    smp.DPT, encoder_name="tu-vit_tiny_patch16_224", encoder_weights=None, encoder_depth=4, img_size=32,
    dynamic_img_size=True, num_classes=0, final_norm=False, embed_dim=16, num_heads=2, mlp_ratio=1.0,
    decoder_fusion_channels=8, decoder_intermediate_channels=(8, 8, 8, 8),
)  # fmt: skip
"""A segmentation network with a vision transformer, for tests."""
