"""Rasters appear whole or not at all, on a disk that is really full, too; nothing of an older one stays beside them."""

from __future__ import annotations

import math
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from swath.errors import RasterError
from swath.geo.grid import Window
from swath.geo.layout import RasterSpec
from swath.geo.raster import read_image
from swath.geo.raster_writer import RasterWriter, write_raster
from swath.geo.tiff import TILES
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


@pytest.mark.parametrize("nodata", [None, -1.0, math.nan])
def test_c128_a_block_that_gdal_lost_is_noticed(tmp_path: Path, nodata: float | None) -> None:
    """Blocks without a value take no room; a block with one has to be there."""
    data = np.full((2, 100, 200), np.nan if nodata is None or math.isnan(nodata) else nodata, np.float32)
    data[1, 70:, 130:] = 5
    spec = RasterSpec(grid=grid((100, 200)), bands=("a", "b"), dtype="float32", nodata=nodata, block=64)
    with RasterWriter(tmp_path / "a.tif", spec) as writer:
        for row in range(0, 100, 30):
            writer.write(data[:, row : row + 30], Window(row, 0, min(30, 100 - row), 200))
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif")[1, 70:, 130:], 5)
    writer = RasterWriter(tmp_path / "a.tif", spec)
    writer.__enter__()
    writer.write(data)
    writer._dataset.close()
    drop_last_block(writer._part)
    writer._dataset = NullDataset()
    with pytest.raises(RasterError, match=r"a\.tif: cannot be written \(1 of \d+ blocks were not written\)"):
        writer.__exit__(None, None, None)


class NullDataset:
    """Stands for a data set that has been closed already."""

    def close(self) -> None:
        pass


def drop_last_block(path: Path) -> None:
    """Set the place of the last block to 0, as GDAL leaves a block that it could not write."""
    data = bytearray(path.read_bytes())
    (at,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, at)
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        tag, _, number, where = struct.unpack_from("<HHII", data, entry)
        if tag == TILES[0]:
            struct.pack_into("<I", data, where + 4 * (number - 1), 0)
    path.write_bytes(data)


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
