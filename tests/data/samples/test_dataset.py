"""Samples from tiles: the right pixels, each labelled pixel once, and files that are named when they fail."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader

from swath.data.samples.dataset import Crops, TileDataset, collate
from swath.data.samples.samplers import Draw
from swath.data.samples.storage import Cache
from swath.data.samples.tile_tables import read_tiles, tiles_from_folders, tiles_from_lists
from swath.data.tables import TILE_COLUMNS, TILES, read_table
from swath.errors import CatalogError, ConfigError, RasterError
from swath.geo.raster import find_rasters, read_image, read_labels
from swath.labels import IGNORE
from tests.conftest import Script
from tests.synthetic import backscatter, blobs, cut_in_half, grid, write_image, write_mask, write_scenes

SHAPE = (70, 90)


@pytest.fixture
def tiles(script: Script, tmp_path: Path) -> Path:
    write_scenes(tmp_path / "scenes", 2, SHAPE, tmp_path / "masks")
    paths = {"input_path": tmp_path / "scenes", "masks_path": tmp_path / "masks", "output_path": tmp_path / "tiles"}
    overrides = {"tiling__size": 40, "tiling__min_overlap": 10, "executor": "serial"}
    assert script("generate_tiles", "configs/demo/generate_tiles.py", **paths, **overrides) == 0
    return tmp_path / "tiles"


def dataset(folder: Path, **options: object) -> TileDataset:
    return TileDataset(read_table(folder / TILES, TILE_COLUMNS, "generate_tiles"), folder, ["water"], **options)


def test_c36_samples_are_the_files_and_labels_count_every_pixel_once(tiles: Path) -> None:
    data = dataset(tiles)
    seen = {i: np.full(SHAPE, IGNORE, np.uint8) for i in range(2)}
    count = {i: np.zeros(SHAPE, int) for i in range(2)}
    for i, row in enumerate(data.rows):
        sample = data[i]
        assert set(sample) == {"image", "target", "key", "window"}
        assert (sample["image"].dtype, sample["target"]["water"].dtype) == (torch.float32, torch.uint8)
        assert sample["key"] == row["key"]
        area, window = int(row["area"][-1]), sample["window"]
        scene = backscatter(SHAPE, seed=area)
        np.testing.assert_array_equal(sample["image"].numpy(), scene[:, *window.slices])
        target = sample["target"]["water"].numpy()
        here = target != IGNORE
        count[area][window.slices] += here
        seen[area][window.slices][here] = target[here]
    for area in range(2):
        assert (count[area] == 1).all()
        assert np.array_equal(seen[area], blobs(SHAPE, area))


def test_c36_random_crops_are_windows_of_the_scene_and_depend_on_the_seed_only(tiles: Path) -> None:
    data = dataset(tiles, crops=Crops(size=16))
    for number in range(20):
        draw = Draw(number % len(data), (7, number))
        sample, again = data[draw], data[draw]
        area, window = int(data.rows[draw.tile]["area"][-1]), sample["window"]
        assert window.shape == (16, 16)
        np.testing.assert_array_equal(sample["image"].numpy(), backscatter(SHAPE, seed=area)[:, *window.slices])
        np.testing.assert_array_equal(sample["target"]["water"].numpy(), blobs(SHAPE, area)[window.slices])
        assert again["window"] == window
    windows = {data[Draw(0, (7, n))]["window"] for n in range(20)}
    assert len(windows) > 10


def test_c36_a_crop_larger_than_the_tile_is_padded_with_nothing(tiles: Path) -> None:
    sample = dataset(tiles, crops=Crops(size=64))[Draw(0, (0, 0))]
    assert sample["image"].shape == (3, 64, 64)
    assert torch.isnan(sample["image"][:, 40:]).all()
    assert (sample["target"]["water"][40:] == IGNORE).all()
    assert (sample["target"]["water"][:40, :40] != IGNORE).all()


def test_c36_seeking_crops_hold_the_target_more_often(tmp_path: Path) -> None:
    mask = np.zeros((128, 128), np.uint8)
    mask[:28, :28] = 1
    write_image(tmp_path / "i" / "x.tif", backscatter((128, 128), gap=0), grid((128, 128)))
    write_mask(tmp_path / "m" / "x.tif", mask, grid((128, 128)))
    table = tiles_from_folders(tmp_path / "i", tmp_path / "m")
    share = {}
    for seek in (0.0, 1.0):
        data = TileDataset(table, tmp_path, ["water"], crops=Crops(size=32, seek_target=seek))
        share[seek] = np.mean([data[Draw(0, (0, n))]["target"]["water"].any().item() for n in range(60)])
    assert share[0.0] < 0.2 < 0.5 < share[1.0]


def test_c36_workers_give_the_same_batches(tiles: Path) -> None:
    data = dataset(tiles)
    alone, shared = (list(DataLoader(data, 4, num_workers=n, collate_fn=collate)) for n in (0, 1))
    assert [b["key"] for b in alone] == [b["key"] for b in shared]
    for a, b in zip(alone, shared, strict=True):
        assert torch.equal(torch.nan_to_num(a["image"]), torch.nan_to_num(b["image"]))
        assert torch.equal(a["target"]["water"], b["target"]["water"])
        assert a["window"] == b["window"]


def test_c37_table_folders_and_lists_give_equal_data_sets(tiles: Path) -> None:
    images, masks = (
        {p.parent.name.replace("_vh_", "_3b_") + "/" + p.stem: p for p in find_rasters(tiles / k)}
        for k in ("images", "masks")
    )
    for key, path in masks.items():  # folders pair by relative name
        target = tiles / "same" / f"{key}.tif"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    tables = [
        tiles_from_folders(tiles / "images", tiles / "same"),
        tiles_from_lists(images, masks),
    ]
    whole = dataset(tiles)
    for table in tables:
        data = TileDataset(table, tiles, ["water"])
        assert len(data) == len(whole)
        by_key = {data.rows[i]["key"]: i for i in range(len(data))}
        for row in whole.rows:
            sample = data[by_key[f"{Path(row['image']).parent.name}/{Path(row['image']).stem}"]]
            np.testing.assert_array_equal(sample["image"].numpy(), read_image(tiles / row["image"]))
            np.testing.assert_array_equal(sample["target"]["water"].numpy(), read_labels(tiles / row["mask"])[0])


def test_c37_empty_input_and_lone_files_raise(tiles: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CatalogError, match="no image files given: the folder or list is empty"):
        tiles_from_folders(tmp_path / "empty", None)
    with pytest.raises(CatalogError, match="no image files given"):
        tiles_from_lists({}, {})
    with pytest.raises(CatalogError, match=r"2 files have no partner of the same name: a, b"):
        tiles_from_lists({"a": tmp_path}, {"b": tmp_path})
    with pytest.raises(CatalogError, match=r"no tiles left to read\. Check data\.split and the skip rule"):
        TileDataset(read_table(tiles / TILES, TILE_COLUMNS, "generate_tiles").iloc[:0], tiles, ["water"])


def test_c41_without_masks_there_is_no_target(script: Script, tmp_path: Path) -> None:
    write_scenes(tmp_path / "scenes", 1, SHAPE)
    paths = {"input_path": tmp_path / "scenes", "output_path": tmp_path / "tiles", "executor": "serial"}
    assert (
        script("generate_tiles", "configs/demo/generate_test_tiles.py", **paths, tiling__size=32, tiling__stride=32)
        == 0
    )
    data = dataset(tmp_path / "tiles")
    sample = data[len(data) - 1]
    assert sample["target"] == {}
    assert (sample["window"].row, sample["window"].col) == (64, 64)
    np.testing.assert_array_equal(sample["image"][:, :6, :26].numpy(), backscatter(SHAPE)[:, 64:, 64:])
    lone = TileDataset(tiles_from_folders(tmp_path / "scenes", None), tmp_path, ["water"])
    assert lone[0]["target"] == {}


def test_c36_missing_files_are_listed_before_any_is_read(tiles: Path) -> None:
    lost = [next((tiles / kind).rglob("tile_0_0.tif")) for kind in ("images", "masks")]
    for path in lost:
        path.unlink()
    with pytest.raises(
        CatalogError, match=r"tiles: 2 files of the table are missing.*Run `generate_tiles` again"
    ) as caught:
        dataset(tiles)
    assert all(str(path) in str(caught.value) for path in lost)


def test_c36_a_truncated_tile_is_named_when_it_is_read(tiles: Path) -> None:
    data = dataset(tiles)
    path = cut_in_half(tiles / data.rows[3]["image"])
    assert data[2]["key"]
    with pytest.raises(RasterError, match=rf"{path.name}: cannot be read as a raster"):
        data[3]


def test_c36_an_unknown_task_lists_the_masks_bands(tiles: Path) -> None:
    with pytest.raises(RasterError, match=r"no band ice; it has water"):
        TileDataset(read_table(tiles / TILES, TILE_COLUMNS, "generate_tiles"), tiles, ["ice"])


TWO_TASKS = ("SIC", "SOD")


def two_task_tiles(root: Path) -> tuple[gpd.GeoDataFrame, dict[str, dict[str, np.ndarray]]]:
    """Two tiles whose masks hold the same two tasks in opposite orders, and the labels of each by task."""
    truth = {}
    for key, order in (("a", TWO_TASKS), ("b", TWO_TASKS[::-1])):
        truth[key] = {"SIC": blobs((32, 40), seed=1), "SOD": 5 + blobs((32, 40), seed=2)}
        write_image(root / "images" / f"{key}.tif", backscatter((32, 40), gap=0), grid((32, 40)))
        labels = np.stack([truth[key][task] for task in order]).astype(np.uint8)
        write_mask(root / "masks" / f"{key}.tif", labels, grid((32, 40)), order)
    return tiles_from_folders(root / "images", root / "masks"), truth


@pytest.mark.parametrize("cache", ["off", "ram", "mmap"])
def test_c36_c60_labels_are_found_by_name_in_every_mask(tmp_path: Path, cache: Cache) -> None:
    table, truth = two_task_tiles(tmp_path)
    data = TileDataset(table, tmp_path, TWO_TASKS, Crops(size=16), cache=cache, cache_path=tmp_path / "cache")
    draws = [Draw(tile, (5, number)) for tile in (0, 1) for number in range(3)]
    batch = data.__getitems__(draws)
    for task in TWO_TASKS:
        for tile, key in enumerate("ab"):
            np.testing.assert_array_equal(data[tile]["target"][task].numpy(), truth[key][task])
        for i, draw in enumerate(draws):
            expected = truth["ab"[draw.tile]][task][batch["window"][i].slices]
            np.testing.assert_array_equal(batch["target"][task][i].numpy(), expected)


def test_c36_c60_a_later_mask_without_a_task_is_named_when_it_is_read(tmp_path: Path) -> None:
    table, _ = two_task_tiles(tmp_path)
    write_mask(tmp_path / "masks" / "b.tif", np.zeros((2, 32, 40), np.uint8), grid((32, 40)), ("SIC", "FLOE"))
    data = TileDataset(table, tmp_path, TWO_TASKS)
    assert set(data[0]["target"]) == set(TWO_TASKS)
    with pytest.raises(
        RasterError, match=r"b\.tif: no band SOD; it has SIC, FLOE\. Name the tasks as the bands of the masks"
    ):
        data[1]


def test_c36_one_band_without_a_name_serves_one_task(tmp_path: Path) -> None:
    table, _ = two_task_tiles(tmp_path)
    labels = blobs((32, 40), seed=3)
    for key in "ab":
        write_mask(tmp_path / "masks" / f"{key}.tif", labels, grid((32, 40)), ("",))
    np.testing.assert_array_equal(TileDataset(table, tmp_path, ["water"])[1]["target"]["water"].numpy(), labels)
    with pytest.raises(RasterError, match=r"no band SIC, SOD; it has band_1"):
        TileDataset(table, tmp_path, TWO_TASKS)


def test_c14_tiles_need_their_statistics(tiles: Path) -> None:
    with pytest.raises(CatalogError, match=r"tile_stats\.parquet: no such table\. Run `generate_tiles_stats`"):
        read_tiles(tiles)


MISSING = [None, float("nan"), ""]
"""How tables hold a mask that is not there."""


@pytest.mark.parametrize("missing", MISSING, ids=["None", "NaN", "empty"])
@pytest.mark.parametrize("cache", ["off", "ram", "mmap"])
def test_c41_tiles_without_a_mask_are_the_same_however_a_table_says_so(
    tiles: Path, tmp_path: Path, missing: object, cache: str
) -> None:
    table = read_table(tiles / TILES, TILE_COLUMNS, "generate_tiles")
    expected = [dataset(tiles)[i]["image"] for i in range(len(table))]
    bare = table.assign(mask=pd.Series([missing] * len(table), dtype=object))
    options = {"cache": cache, "cache_path": tmp_path / "cache"}
    data = TileDataset(bare, tiles, ["water"], **options)
    drawn = TileDataset(bare, tiles, ["water"], Crops(size=16, seek_target=0.5, min_labelled=0.1), **options)
    for i, image in enumerate(expected):
        sample = data[i]
        assert sample["target"] == {}
        assert torch.equal(sample["image"].nan_to_num(-1), image.nan_to_num(-1))
    assert drawn.__getitems__([Draw(0, (1,)), Draw(1, (2,))])["target"] == {}


@pytest.mark.parametrize("missing", MISSING, ids=["None", "NaN", "empty"])
@pytest.mark.parametrize("at", [0, 3])
def test_c36_a_mask_that_some_tiles_lack_is_named(tiles: Path, missing: object, at: int) -> None:
    table = read_table(tiles / TILES, TILE_COLUMNS, "generate_tiles")
    masks = table["mask"].astype(object)
    masks[at] = missing
    with pytest.raises(CatalogError, match=rf"1 of {len(table)} tiles have no mask, the first: {table['key'][at]}\."):
        TileDataset(table.assign(mask=masks), tiles, ["water"])


def test_c36_scenes_of_different_sizes_in_one_batch_say_what_to_set(tmp_path: Path) -> None:
    for i, shape in enumerate(((20, 24), (20, 24), (30, 24))):
        write_image(tmp_path / "i" / f"{i}.tif", backscatter(shape), grid(shape))
        write_mask(tmp_path / "m" / f"{i}.tif", blobs(shape), grid(shape))
    data = TileDataset(tiles_from_folders(tmp_path / "i", tmp_path / "m"), tmp_path, ["water"])
    assert collate([data[0], data[1]])["image"].shape == (2, 3, 20, 24)
    with pytest.raises(
        ConfigError, match=r"different sizes: 0 \(20 x 24 px\) and 2 \(30 x 24 px\).*data\.validation_batch=1"
    ):
        collate([data[0], data[2]])
