"""Memory does not grow with the scene: every step in a child on scenes 40,000 px wide, nearly all of them empty."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.windows import Window as RasterioWindow

from experiments.benchmarks.preparation import cost, part
from swath.geo.grid import Window
from swath.geo.raster import describe, read_image, read_labels
from swath.geo.vector import write_vectors
from tests.synthetic import NODATA, UTM, grid, polygons, write_image

pytestmark = pytest.mark.system

WIDTH = 40_000
LIMIT = 300
"""MB on top of what imports take; a scene of 40,000 px square has 6,400 MB a band."""


STRIP_LIMIT = 80e-6 * 512 * WIDTH
"""MB for inference, whose strips are a window high and as wide as the scene: bytes of all that is kept of a pixel."""

HEIGHTS = pytest.mark.parametrize(
    "height", [2_000, pytest.param(40_000, marks=pytest.mark.slow)], ids=lambda height: f"{height} rows"
)

CORNER = Window(0, 0, 1024, 1024)


def sparse_scene(root: Path, height: int) -> Path:
    """VH, VV and labels of a scene without a value but for a corner of 200 px."""
    place = grid((height, WIDTH))
    profile = {
        "driver": "GTiff", "dtype": "float32", "count": 1, "height": height, "width": WIDTH, "nodata": NODATA,
        "crs": UTM, "transform": place.transform, "tiled": True, "SPARSE_OK": True,
    }  # fmt: skip
    values = np.random.default_rng(0).random((1, 200, 200), np.float32)
    for band in ("vh", "vv"):
        path = root / "area" / f"s1a_area_{band}_ASC_20150102t145957.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        with rasterio.open(path, "w", **profile) as file:
            file.write(values, window=RasterioWindow(0, 0, 200, 200))
    write_vectors(root / "area" / "area.shp", polygons(place))
    return root


@HEIGHTS
def test_every_step_takes_the_same_memory_for_any_scene(tmp_path: Path, height: int) -> None:
    raw, scenes, masks, tiles = (tmp_path / name for name in ("raw", "scenes", "masks", "tiles"))
    sparse_scene(raw, height)
    used = {name: cost(part(name, raw, to)).megabytes for name, to in (("bands", scenes), ("masks", masks))}
    used["tiles"] = cost(part("tiles", scenes, tiles, masks)).megabytes
    used["statistics"] = cost(part("statistics", tiles)).megabytes
    ((scene,), (mask,)) = (list(folder.rglob("*.tif")) for folder in (scenes, masks))
    used["merge"] = program("merge", tiles, mask, tmp_path / "merged.tif")
    used["polygons"] = program("polygons", mask)
    write_image(scene.parent / "small.tif", read_image(scene, CORNER), grid(CORNER.shape), describe(scene).bands)
    used["inference"] = program("inference", scene, tmp_path / "maps")
    assert used.pop("inference") < STRIP_LIMIT
    assert max(used.values()) < LIMIT, used
    assert scene.stat().st_size < 20e6, "empty blocks take room"
    assert len(list((tiles / "images").rglob("*.tif"))) >= (height // 512) * (WIDTH // 512)
    assert (read_labels(tmp_path / "merged.tif", CORNER) == read_labels(mask, CORNER)).all()
    (classes,) = (tmp_path / "maps" / "classes").rglob("scene.tif")
    assert describe(classes).grid.shape == (height, WIDTH)
    assert (read_labels(classes, Window(0, 0, 200, 200)) != 255).all()


def program(name: str, *paths: Path) -> float:
    """Peak memory in MB, above what imports take."""
    return cost([sys.executable, "-m", "tests.memory_programs", name, *map(str, paths)]).megabytes
