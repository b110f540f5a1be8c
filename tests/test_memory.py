"""Memory of preparation does not grow with the scene: children on scenes 40,000 px wide, nearly all of them empty."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.windows import Window

from experiments.benchmarks.preparation import cost, part
from swath.geo.vector import write_vectors
from tests.synthetic import NODATA, UTM, grid, polygons

WIDTH = 40_000
LIMIT = 300
"""MB on top of what imports take; a scene of 40,000 px square has 6,400 MB a band."""


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
            file.write(values, window=Window(0, 0, 200, 200))
    write_vectors(root / "area" / "area.shp", polygons(place))
    return root


@pytest.mark.parametrize(
    "height", [2_000, pytest.param(40_000, marks=pytest.mark.slow)], ids=lambda height: f"{height} rows"
)
def test_preparation_takes_the_same_memory_for_any_scene(tmp_path: Path, height: int) -> None:
    raw = sparse_scene(tmp_path / "raw", height)
    folders = [(raw, "scenes"), (raw, "masks"), (tmp_path / "scenes", "tiles")]
    names = ("bands", "masks", "tiles")
    used = {n: cost(part(n, a, tmp_path / b)).megabytes for n, (a, b) in zip(names, folders, strict=True)}
    used["statistics"] = cost(part("statistics", tmp_path / "tiles")).megabytes
    assert max(used.values()) < LIMIT, used
    size = sum(path.stat().st_size for path in (tmp_path / "scenes").rglob("*.tif"))
    assert size < 20e6, "empty blocks take room"
    tiles = list((tmp_path / "tiles" / "images").rglob("*.tif"))
    assert len(tiles) >= (height // 512) * (WIDTH // 512)
