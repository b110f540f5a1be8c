"""Which rasters are of one scene: by tables first, then by names; and what a table of scenes says above its files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from swath.data.pairing import by_key, pair_masks
from swath.data.samples.dataset import TileDataset
from swath.data.tables import LABELS, SCENES, TILES, label_row, read_scenes, read_table, scene_row, write_table
from swath.data.tiles.cutting import TilesConfig
from swath.errors import CatalogError, RasterError
from swath.geo.raster import find_rasters, read_image
from swath.geo.windows import ConstantSize
from swath.labels import IGNORE
from tests.synthetic import blobs, grid, write_image, write_mask

SHAPE = (48, 64)


def three_bands(path: Path, value: float = 0.5) -> Path:
    """A scene whose bands have no names and whose gap is an undeclared -1."""
    image = np.full((3, *SHAPE), value, np.float32) + np.arange(3, dtype=np.float32)[:, None, None]
    image[:, :, :8] = -1
    return write_image(path, image, grid(SHAPE))


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """A folder whose table names labels, bands and nodata of its one scene."""
    root = tmp_path / "scenes"
    image = three_bands(root / "images" / "a.tif")
    labels = write_mask(root / "anywhere" / "else.tif", blobs(SHAPE), grid(SHAPE))
    row = scene_row(image, root, "north", "first", labels)
    write_table(root / SCENES, [row | {"bands": ["swir", "nir", "red"], "nodata": -1.0}])
    return root


def cut(scenes: Path, output: Path, write: bool) -> TileDataset:
    """Tiles as `generate_tiles` makes them, without masks_path."""
    settings = TilesConfig(
        input_path=str(scenes), output_path=str(output), tiling=ConstantSize(size=32, min_overlap=8), write=write
    )
    settings.finish({job.key: job.run() for job in settings.jobs()})
    return TileDataset(read_table(output / TILES, ("key",), "generate_tiles"), output, ["water"])


@pytest.mark.parametrize("write", [True, False])
def test_c47_c45_c36_a_table_of_scenes_names_labels_bands_and_nodata(scenes: Path, tmp_path: Path, write: bool) -> None:
    assert pair_masks(read_scenes(scenes), None) == {"first": scenes / "anywhere" / "else.tif"}
    data = cut(scenes, tmp_path / "tiles", write)
    assert tuple(data.bands) == ("swir", "nir", "red")
    labels = blobs(SHAPE)
    for i in range(len(data)):
        sample, row = data[i], data.rows[i]
        window = np.s_[row["row"] : row["row"] + 32, row["col"] : row["col"] + 32]
        gap = np.zeros(SHAPE, bool)
        gap[:, :8] = True
        assert np.array_equal(np.isnan(sample["image"][0].numpy()), gap[window])
        known = sample["target"]["water"].numpy() != IGNORE
        assert np.array_equal(sample["target"]["water"].numpy()[known], labels[window][known])


def test_c47_a_table_that_names_too_few_bands_is_refused(scenes: Path, tmp_path: Path) -> None:
    table = read_table(scenes / SCENES, ("key",), "import_scenes")
    write_table(scenes / SCENES, table.assign(bands=[["swir", "nir"]]))
    with pytest.raises(RasterError, match=r"a\.tif: has 3 bands, its table names 2 \(swir, nir\)"):
        cut(scenes, tmp_path / "tiles", write=True)


def test_c81_a_table_of_labels_says_of_which_scene_they_are(tmp_path: Path) -> None:
    path = write_mask(tmp_path / "north" / "drawn_by_hand.tif", blobs(SHAPE), grid(SHAPE))
    other = write_mask(tmp_path / "north" / "scene_b.tif", blobs(SHAPE), grid(SHAPE))
    write_table(tmp_path / LABELS, [label_row(path, tmp_path, "scene_a", "north")])
    assert by_key(tmp_path) == {"scene_a": path, "scene_b": other}
    assert by_key(tmp_path / "north") == {"scene_a": path, "scene_b": other}


def test_c81_parts_of_names_that_do_not_matter(tmp_path: Path) -> None:
    write_mask(tmp_path / "s1_vh_1.tif", blobs(SHAPE), grid(SHAPE))
    write_mask(tmp_path / "vh_tiles" / "tile_0_0.tif", blobs(SHAPE), grid(SHAPE))  # the first part is the name itself
    assert set(by_key(tmp_path)) == {"s1_vh_1", "vh/tile_0_0"}
    assert set(by_key(tmp_path, ("vh", "vv"))) == {"s1_1", "vh/tile_0_0"}
    write_mask(tmp_path / "s1_vv_1.tif", blobs(SHAPE), grid(SHAPE))
    with pytest.raises(CatalogError, match=r"are the same scene by name \(s1_1\)"):
        by_key(tmp_path, ("vh", "vv"))


def test_c45_tiles_that_are_cut_declare_what_the_table_said(scenes: Path, tmp_path: Path) -> None:
    cut(scenes, tmp_path / "tiles", write=True)
    first = find_rasters(tmp_path / "tiles" / "images")[0]
    assert np.isnan(read_image(first)[:, :, :8]).all()
