"""Rasters appear whole or not at all, on a disk that is really full, too; nothing of an older one stays beside them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from swath.errors import RasterError
from swath.geo.layout import RasterSpec
from swath.geo.raster import read_image
from swath.geo.raster_writer import write_raster
from tests.full_disk import fill, small_disk
from tests.geo.test_validity import masked
from tests.synthetic import grid

PAGE = 4096


@pytest.mark.parametrize(
    "layout",
    [{"block": None}, {"block": 64}, {"block": 64, "compress": True}, {"block": 128, "overviews": "average"}],
    ids=str,
)
def test_c128_a_full_disk_leaves_no_raster(tmp_path: Path, layout: dict[str, Any]) -> None:
    """With room for none, some and nearly all of the file: an error and no file, then the file that was due."""
    data = np.random.default_rng(0).random((1, 200, 200)).astype(np.float32)
    spec = RasterSpec(grid=grid((200, 200)), bands=("a",), dtype="float32", nodata=-1, **layout)
    write_raster(tmp_path / "due.tif", data, spec)
    due = (tmp_path / "due.tif").read_bytes()
    refused = 0
    with small_disk(tmp_path / "disk", 2**20) as disk:
        for pages in range(0, -(-len(due) // PAGE) + 8, 3):
            taken = fill(disk, pages * PAGE)
            path = disk / "a.tif"
            with suppress(RasterError):
                write_raster(path, data, spec)
            left = [file.name for file in disk.iterdir()]
            assert left in (["taken"], ["a.tif", "taken"], ["taken", "a.tif"])
            refused += not path.exists()
            if path.exists():
                assert path.read_bytes() == due
                path.unlink()
            taken.unlink()
        write_raster(disk / "a.tif", data, spec)
        assert (disk / "a.tif").read_bytes() == due
    assert refused > 5


def test_c116_what_lay_beside_an_older_raster_is_no_part_of_the_new_one(tmp_path: Path) -> None:
    path = masked(tmp_path / "a.tif", np.ones((64, 64), np.float32), np.zeros((64, 64), bool), internal=False)
    with rasterio.Env(TIFF_USE_OVR=True), rasterio.open(path, "r+") as file:
        file.build_overviews([2])
    (tmp_path / "a.tif.aux.xml").write_text("<PAMDataset><Metadata/></PAMDataset>")
    (tmp_path / "b.tif.msk").write_bytes(b"another raster's")
    spec = RasterSpec(grid=grid((64, 64)), bands=("a",), dtype="float32")
    write_raster(path, np.full((1, 64, 64), 5, np.float32), spec)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.tif", "b.tif.msk"]
    assert (read_image(path) == 5).all()
