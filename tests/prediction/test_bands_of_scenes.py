"""Bands of whole scenes from tiles to maps: a training notes the rules, inference makes the same bands of its scenes."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import torch

from swath.data.samples.dataset import TileDataset
from swath.data.scene_bands import MEDIANS, SCENE_BANDS, scene_bands_of
from swath.data.tables import TILE_COLUMNS, TILE_STATS, TILES, read_scenes, read_table, write_table
from swath.data.tiles.cutting import TilesConfig, cut_jobs, cut_scene
from swath.data.tiles.statistics import StatsConfig, scene_jobs, scene_statistics, summarise
from swath.errors import CatalogError
from swath.geo.conditions import Where
from swath.geo.raster import RasterReader, read_image
from swath.geo.scene_bands import Closeness, FromMedian, SceneReader
from swath.geo.windows import ConstantSize
from swath.geo.zones import MissingZones
from swath.nn.preprocess.channels import Bands
from swath.nn.preprocess.optical import Indices
from swath.prediction.config import InferenceConfig
from swath.prediction.scored import infer
from swath.prediction.sliding import SlidingConfig
from swath.training.model_record import ModelRecord, read_record, write_record
from tests.synthetic import PixelNet, backscatter, blobs, grid, write_image, write_mask
from tests.trainings import small, trained

SHAPE, NAMES = (64, 80), ("NIR", "R", "DEM")
LOW, HIGH = Where(band="DEM", at_most=0.1), Where(band="DEM", above=0.1)
RULES = {
    "ONIR": FromMedian(band="NIR", over=LOW),
    "OR": FromMedian(band="R", over=LOW),
    "LAND": Closeness(to=HIGH, reach=30),
}
ZONES = MissingZones(value=0.0, min_pixels=64)


def scenes(root: Path) -> tuple[gpd.GeoDataFrame, dict[str, Path]]:
    """Three scenes with a zone of zeros each, and their label rasters by key."""
    masks = {}
    for number in range(3):
        place, image = grid(SHAPE, (300_000.0 + 50_000 * number, 3_700_000.0)), backscatter(SHAPE, seed=number)
        image[:, 30:45, 10:22] = 0
        write_image(root / "scenes" / f"area{number}" / f"s{number}.tif", image, place, NAMES)
        path = root / "masks" / f"area{number}" / f"s{number}.tif"
        masks[f"s{number}"] = write_mask(path, blobs(SHAPE, number), place)
    return read_scenes(root / "scenes"), masks


def tiles(root: Path, write: bool, rules: Any = RULES) -> gpd.GeoDataFrame:
    """The table of tiles, cut with scene bands, with its statistics beside it."""
    found, masks = scenes(root)
    tiling = ConstantSize(size=40, min_overlap=8)
    jobs = cut_jobs(found, masks, root / "tiles", tiling, write=write, zones=ZONES, scene_bands=rules)
    write_table(root / "tiles" / TILES, [row for job in jobs for row in cut_scene(job)])
    table = read_table(root / "tiles" / TILES, TILE_COLUMNS, "generate_tiles")
    counted = {job.key: scene_statistics(job) for job in scene_jobs(table, root / "tiles", 0.0)}
    settings = StatsConfig(input_path=str(root / "tiles"), min_valid_ratio=0.0)
    table, bands, _ = summarise(table, counted, root / "tiles", root / "tiles", settings)
    write_table(root / "tiles" / TILE_STATS, table)
    return table.assign(statistics=[bands] * len(table))


def learned(root: Path, channels: Any) -> ModelRecord:
    config = small(root / "tiles", root / "out", epochs=1, model=partial(PixelNet), channels=channels)
    split = replace(config.data.split, validation_areas=("area2",))  # type: ignore[type-var]
    training, _ = trained(replace(config, data=replace(config.data, split=split)))
    write_record(training, root / "record")
    return read_record(root / "record", trust=("tests",))


def whole_scene(path: Path) -> np.ndarray:
    """All bands of a scene, as the rules say, NaN in the zone."""
    image = read_image(path)
    image[:, (image == 0).all(axis=0)] = np.nan
    with SceneReader(path, rules=RULES) as reader:
        low = (image[2] <= 0.1) & ~np.isnan(image[0])
        reader.medians = {"ONIR": float(np.median(image[0][low])), "OR": float(np.median(image[1][low]))}
        made = reader.image()
    made[:, np.isnan(image).all(axis=0)] = np.nan
    return made


@pytest.mark.parametrize("write", [True, False], ids=["files", "windows"])
@pytest.mark.parametrize("cache", ["off", "ram", "mmap"])
def test_c47_tiles_hold_the_bands_of_their_scene(tmp_path: Path, write: bool, cache: Any) -> None:
    table = tiles(tmp_path, write)
    dataset = TileDataset(table, tmp_path / "tiles", [], cache=cache, cache_path=tmp_path / "cache")
    assert dataset.bands == (*NAMES, *RULES)
    assert set(table["statistics"].iloc[0]) == set(dataset.bands)
    for number, row in enumerate(table.to_dict("records")):
        made = whole_scene(tmp_path / "scenes" / row["area"] / f"{row['scene']}.tif")
        rows, cols = slice(row["row"], row["row"] + row["height"]), slice(row["col"], row["col"] + row["width"])
        np.testing.assert_allclose(dataset[number]["image"].numpy(), made[:, rows, cols], rtol=1e-6, atol=1e-7)


def test_c47_files_and_windows_are_the_same_to_the_bit(tmp_path: Path) -> None:
    images = []
    for name, write in (("files", True), ("windows", False)):
        table = tiles(tmp_path / name, write)
        dataset = TileDataset(table, tmp_path / name / "tiles", [])
        images.append(torch.stack([dataset[number]["image"] for number in range(len(table))]).nan_to_num(-9))
        digests = table["content"].tolist()
        if write:
            before = digests
    assert torch.equal(*images)
    assert digests == before  # what leaks are found by
    without = tiles(tmp_path / "without", True, {})
    assert without["content"].tolist() == digests
    assert without["valid_ratio"].tolist() == table["valid_ratio"].tolist()


@pytest.mark.parametrize("write", [True, False], ids=["files", "windows"])
def test_c47_c91_inference_makes_the_bands_that_the_training_learned_from(tmp_path: Path, write: bool) -> None:
    tiles(tmp_path, write)
    channels = partial(Indices, indices=("ODVI",), bands=("R", "ONIR", "LAND"), formulas={"ODVI": "ONIR - OR"})
    record = learned(tmp_path, channels)
    assert record.scene_bands == RULES
    assert record.measured_bands == NAMES
    source = tmp_path / "scenes" / "area2" / "s2.tif"
    folder = {"plain": tmp_path / "plain", "made": tmp_path / "made"}
    place = grid(SHAPE, (900_000.0, 3_700_000.0))
    write_image(folder["plain"] / "west" / "far.tif", read_image(source), place, NAMES)
    # a scene that holds the bands already, without the zone, is what the model has to see of the plain one
    write_image(folder["made"] / "west" / "far.tif", whole_scene(source), place, (*NAMES, *RULES))
    maps = {}
    for name, scenes_path in folder.items():
        config = InferenceConfig(
            run_id="r", input_path=str(scenes_path), output_path=str(tmp_path / f"maps_{name}"), device="cpu",
            sliding=SlidingConfig(window=32, overlap=8),
        )  # fmt: skip
        infer(config, record, {}, lambda check: None, lambda number, row, path, labels: None)
        maps[name] = read_image(tmp_path / f"maps_{name}" / "probabilities" / "west" / "far.tif")
    np.testing.assert_allclose(maps["plain"], maps["made"], rtol=1e-5, atol=1e-6)
    assert np.isnan(maps["plain"][:, 32, 12]).all()
    assert np.nanstd(maps["plain"]) > 1e-3


def test_c47_tiles_cut_by_other_rules_do_not_mix(tmp_path: Path) -> None:
    first = tiles(tmp_path / "a", True)
    second = tiles(tmp_path / "b", True, {"ONIR": FromMedian(band="NIR")})
    assert scene_bands_of([first]) == RULES
    assert scene_bands_of([first.drop(columns=SCENE_BANDS)]) == {}
    with pytest.raises(CatalogError, match=r"different scene_bands: s0/tile.*Cut all with the same ones"):
        scene_bands_of([first, second])
    with pytest.raises(CatalogError, match="different scene_bands"):
        scene_bands_of([first, first.drop(columns=SCENE_BANDS)])


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        (SCENE_BANDS, "{", "holds no rules of scene bands"),
        (SCENE_BANDS, '{"X": 3}', "holds something else"),
        (SCENE_BANDS, '{"X": {"__target__": "os:system"}}', "holds no rules"),
        (MEDIANS, None, "lacks medians for ONIR, OR, LAND"),
    ],
)
def test_c47_damaged_rules_in_a_table_are_named(tmp_path: Path, column: str, value: Any, said: str) -> None:
    table = tiles(tmp_path, False)
    damaged = table.assign(**{column: [value] * len(table)})
    with pytest.raises(CatalogError, match=f"{said}.*generate_tiles"):
        TileDataset(damaged, tmp_path / "tiles", [])[0]


def test_c47_the_entry_point_s_config_names_them(tmp_path: Path) -> None:
    scenes(tmp_path)
    config = TilesConfig(
        input_path=str(tmp_path / "scenes"), output_path=str(tmp_path / "tiles"), scene_bands=RULES, write=False,
        tiling=ConstantSize(size=40, min_overlap=8),
    )  # fmt: skip
    results = {job.key: job.run() for job in config.jobs()}
    config.finish(results)
    table = read_table(tmp_path / "tiles" / TILES, TILE_COLUMNS, "generate_tiles")
    assert scene_bands_of([table]) == RULES
    assert Bands(TileDataset(table, tmp_path / "tiles", []).bands, ("LAND",)).names == ("LAND",)
    with RasterReader(tmp_path / "scenes" / "area0" / "s0.tif") as reader:
        assert reader.info.bands == NAMES  # scenes stay as they are
