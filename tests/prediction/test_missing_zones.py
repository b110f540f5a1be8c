"""Missing zones from tiles to maps: a training notes them, inference finds them in its own scenes, scores leave them out."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest

from swath.data.tables import TILE_COLUMNS, TILE_STATS, TILES, read_scenes, read_table, write_table
from swath.data.tiles.cutting import Cut, cut_jobs, cut_scene
from swath.data.tiles.statistics import StatsConfig, scene_jobs, scene_statistics, summarise
from swath.geo.raster import read_image, read_labels
from swath.geo.windows import ConstantSize
from swath.geo.zones import MissingZones
from swath.prediction.config import InferenceConfig
from swath.prediction.scored import infer
from swath.prediction.sliding import SlidingConfig
from swath.training.model_record import ModelRecord, read_record, write_record
from tests.synthetic import PixelNet, backscatter, blobs, grid, write_image, write_mask, write_scenes
from tests.trainings import small, trained

SHAPE, BANDS = (64, 80), ("vh", "vv", "mean")
ZONE, SMALL = (slice(10, 20), slice(30, 50)), (slice(40, 47), slice(5, 14))


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> ModelRecord:
    """The record of a training whose tiles have lost zones of zeros, read from its files."""
    root = tmp_path_factory.mktemp("zones")
    write_scenes(root / "scenes", 3, SHAPE, root / "masks")
    scenes = read_scenes(root / "scenes")
    masks = {row.key: root / "masks" / row.area / Path(row.image).name for row in scenes.itertuples()}
    jobs: list[Cut] = cut_jobs(
        scenes, masks, root / "tiles", ConstantSize(size=40, min_overlap=8), zones=MissingZones()
    )
    write_table(root / "tiles" / TILES, [row for job in jobs for row in cut_scene(job)])
    tiles = read_table(root / "tiles" / TILES, TILE_COLUMNS, "generate_tiles")
    counted = {job.key: scene_statistics(job) for job in scene_jobs(tiles, root / "tiles", 0.0)}
    settings = StatsConfig(input_path=str(root / "tiles"), min_valid_ratio=0.0)
    write_table(root / "tiles" / TILE_STATS, summarise(tiles, counted, root / "tiles", root / "tiles", settings)[0])
    config = small(root / "tiles", root / "out", epochs=1, model=partial(PixelNet))
    split = replace(config.data.split, validation_areas=("area2",))  # type: ignore[type-var]
    training, _ = trained(replace(config, data=replace(config.data, split=split)))
    write_record(training, root / "record")
    return read_record(root / "record", trust=("tests",))


def scene(root: Path, zone_value: float) -> tuple[gpd.GeoDataFrame, Path]:
    """A scene far from the training's with a large zone of a value and a small one of zeros, and its labels' folder."""
    place, image = grid(SHAPE, (700_000.0, 3_700_000.0)), backscatter(SHAPE, seed=9, gap=0)
    image[:, *ZONE] = zone_value
    image[:, *SMALL] = 0
    write_image(root / "scenes" / "west" / "far.tif", image, place, BANDS)
    write_mask(root / "masks" / "west" / "far.tif", blobs(SHAPE, 3), place)
    return read_scenes(root / "scenes"), root / "masks"


def maps(record: ModelRecord, root: Path, zone_value: float) -> tuple[np.ndarray, np.ndarray, dict[str, float]]:
    """Probabilities, classes and scores of the scene with a zone of a value."""
    _, masks = scene(root, zone_value)
    config = InferenceConfig(
        run_id="r", input_path=str(root / "scenes"), labels_path=str(masks), output_path=str(root / "maps"), device="cpu",
        sliding=SlidingConfig(window=32, overlap=8),
    )  # fmt: skip
    found = infer(config, record, {}, lambda check: None, lambda number, row, path, labels: None)
    soft, classes = (root / "maps" / kind / "west" / "far.tif" for kind in ("probabilities", "classes"))
    return read_image(soft), read_labels(classes)[0], found.tables["test"].metrics("test")


def test_c45_c91_inference_finds_the_zones_that_the_training_s_tiles_have_lost(
    record: ModelRecord, tmp_path: Path
) -> None:
    assert record.missing_zones == MissingZones(value=0.0, min_pixels=64)
    zeros, classes, scores = maps(record, tmp_path / "zeros", 0.0)
    nodata, _, _ = maps(record, tmp_path / "nodata", np.nan)
    np.testing.assert_array_equal(zeros, nodata)  # windows of 32 px: each sees a part of the zone
    expected = np.zeros(SHAPE, bool)
    expected[ZONE] = True
    np.testing.assert_array_equal(classes == 255, expected)
    truth = np.where(expected, 255, blobs(SHAPE, 3))
    valid = truth != 255
    both = ((classes == 1) & (truth == 1) & valid).sum()
    assert scores["test/iou_fg"] == both / (((classes == 1) | (truth == 1)) & valid).sum()
    unaware = replace(record, missing_zones=None)
    _, classes, _ = maps(unaware, tmp_path / "unaware", 0.0)
    assert (classes != 255).all()


def test_c45_c88_labels_on_a_finer_grid_do_not_count_in_zones_either(record: ModelRecord, tmp_path: Path) -> None:
    _, masks = scene(tmp_path, 0.0)
    fine = np.kron(blobs(SHAPE, 3), np.ones((2, 2), np.uint8))
    write_mask(masks.parent / "fine" / "west" / "far.tif", fine, grid((128, 160), (700_000.0, 3_700_000.0), 5.0))
    config = InferenceConfig(
        run_id="r", input_path=str(tmp_path / "scenes"), labels_path=str(masks), output_path=str(tmp_path / "maps"),
        also_score={"fine": str(masks.parent / "fine")}, device="cpu",
    )  # fmt: skip
    tables = infer(config, record, {}, lambda check: None, lambda number, row, path, labels: None).tables
    coarse, finer = (table.totals()["water"] for table in (tables["test"], tables["fine"]))
    np.testing.assert_array_equal(finer, 4 * coarse)
    assert coarse.sum() == SHAPE[0] * SHAPE[1] - 200
