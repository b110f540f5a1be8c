"""Statistics of tiles and bands against numpy on all pixels at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swath.data.running_statistics import band_moments, band_statistics, merge_moments
from swath.data.samples.tile_tables import read_tiles, tiles_from_folders
from swath.data.tables import TILE_COLUMNS, TILE_STATS, TILES, read_table, write_table
from swath.data.tiles.statistics import scene_jobs, scene_statistics, tile_row
from swath.errors import RasterError
from swath.geo.raster import read_image, read_labels
from swath.labels import IGNORE
from tests.conftest import Script
from tests.synthetic import grid, times, write_image, write_mask, write_scenes

LAW = settings(max_examples=50, deadline=None)


def rank_error(values: np.ndarray, estimate: float, share: float) -> float:
    """How far, as a share of the values, an estimated quantile lies from the wanted one."""
    low, high = (values < estimate).mean(), (values <= estimate).mean()
    return float(max(0, low - share, share - high))


def image_of(rng: np.random.Generator, kind: str) -> np.ndarray:
    shape = (2, *rng.integers(1, 90, 2))
    makers: dict[str, Callable[[], np.ndarray]] = {
        "gamma": lambda: rng.gamma(0.5, 3, shape),
        "far": lambda: 1e4 + rng.normal(0, 1, shape),
        "two": lambda: rng.integers(0, 2, shape).astype(float),
        "skewed": lambda: rng.normal(rng.normal(0, 20), rng.gamma(1.0), shape),
    }
    image = makers[kind]().astype(np.float32)
    image[rng.random(shape) < rng.choice([0, 0.1, 0.9, 1.0])] = np.nan
    return image


@LAW
@given(st.integers(0, 10_000), st.integers(1, 12), st.sampled_from(["gamma", "far", "two", "skewed"]), st.booleans())
def test_c22_merged_statistics_equal_numpy_on_all_pixels(seed: int, count: int, kind: str, nested: bool) -> None:
    rng = np.random.default_rng(seed)
    images = [image_of(rng, kind) for _ in range(count)]
    parts = [band_moments(image) for image in images]
    half = count // 2
    merged = merge_moments([merge_moments(parts[:half]), merge_moments(parts[half:])] if nested and half else parts)
    table = band_statistics(merged, ("a", "b"))
    for i, band in enumerate(("a", "b")):
        values = np.concatenate([image[i][np.isfinite(image[i])] for image in images]).astype(np.float64)
        found = table[band]
        assert found["count"] == len(values)
        assert all(np.isfinite(v) for v in found.values())
        if not len(values):
            assert set(found) == {"count", "std"}
            continue
        assert found["mean"] == pytest.approx(np.nanmean(values), rel=1e-5, abs=1e-5)
        assert found["std"] == pytest.approx(np.nanstd(values), rel=1e-5, abs=1e-5)
        assert (found["min"], found["max"]) == (values.min(), values.max())
        for name, share in (("q01", 0.01), ("q50", 0.5), ("q99", 0.99)):
            if kind != "two" and len(values) >= 1000:
                assert rank_error(values, found[name], share) <= 0.005
            assert values.min() <= found[name] <= values.max()


@pytest.mark.parametrize("kind", ["speckle", "smooth", "columns"])
def test_c22_quantiles_of_a_large_image_are_within_half_a_percentile(kind: str) -> None:
    rng, shape = np.random.default_rng(3), (600, 512)
    image = {
        "speckle": lambda: rng.gamma(0.5, 3, shape),
        "smooth": lambda: np.add.outer(np.linspace(0, 1, shape[0]), np.linspace(0, 2, shape[1])),
        "columns": lambda: (
            np.tile(np.arange(shape[1]) % 8, (shape[0], 1)) + rng.random(shape)
        ),  # what a stride could miss
    }[kind]().astype(np.float32)
    image[7:9] = np.nan
    values = image[np.isfinite(image)]
    found = band_statistics(band_moments(image[None]), ("a",))["a"]
    assert (found["count"], found["min"], found["max"]) == (values.size, values.min(), values.max())
    assert found["mean"] == pytest.approx(values.astype(np.float64).mean(), rel=1e-9)
    for name, share in (("q01", 0.01), ("q50", 0.5), ("q99", 0.99)):
        assert rank_error(values, found[name], share) <= 0.005


@LAW
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.5, 1.0]))
def test_c15_skip_rule_is_constant_empty_or_too_little_seen(seed: int, threshold: float) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, rng.integers(1, 3), (2, 3, 3)).astype(np.float32)
    image[:, rng.random((3, 3)) < rng.choice([0, 0.4, 1.0])] = np.nan
    row = tile_row(image, None, band_moments(image), threshold)
    valid = np.isfinite(image).all(axis=0)
    constant = valid.any() and all(len(np.unique(band[valid])) == 1 for band in image)
    assert row["valid_ratio"] == valid.mean()
    assert row["skip"] == (not valid.any() or constant or valid.mean() < threshold)


def test_c14_target_ratio_is_over_labelled_pixels() -> None:
    mask = np.array([[[0, 1, IGNORE, IGNORE], [0, 2, 0, IGNORE]]], np.uint8)
    image = np.arange(8, dtype=np.float32).reshape(1, 2, 4)
    row = tile_row(image, mask, band_moments(image), 0)
    assert row["target_ratio"] == 2 / 5
    assert row["labelled_ratio"] == 5 / 8
    nothing = tile_row(image, np.full_like(mask, IGNORE), band_moments(image), 0)
    assert (nothing["target_ratio"], nothing["labelled_ratio"]) == (0, 0)


def test_c14_counts_and_target_shares_go_by_the_tasks_names_in_every_mask(tmp_path: Path) -> None:
    labels = {"SIC": np.zeros((20, 20), np.uint8), "SOD": np.full((20, 20), 2, np.uint8)}
    labels["SIC"][:5] = 1
    for i, order in enumerate((("SIC", "SOD"), ("SOD", "SIC"))):
        write_image(tmp_path / "i" / f"{i}.tif", np.ones((2, 20, 20), np.float32), grid((20, 20)))
        write_mask(tmp_path / "m" / f"{i}.tif", np.stack([labels[task] for task in order]), grid((20, 20)), order)
    jobs = scene_jobs(tiles_from_folders(tmp_path / "i", tmp_path / "m"), tmp_path, 0.0, fingerprints=False)
    rows = [row for job in jobs for row in scene_statistics(job)["tiles"]]
    assert [row["target_ratio"] for row in rows] == [0.25, 0.25]
    assert [row["classes_SIC"] for row in rows] == [[300, 100]] * 2
    assert [row["classes_SOD"] for row in rows] == [[0, 0, 400]] * 2


def test_c14_a_mask_without_the_task_of_the_target_shares_is_named(tmp_path: Path) -> None:
    for i, tasks in enumerate((("SIC", "SOD"), ("SOD", "FLOE"))):
        write_image(tmp_path / "i" / f"{i}.tif", np.ones((2, 8, 8), np.float32), grid((8, 8)))
        write_mask(tmp_path / "m" / f"{i}.tif", np.zeros((2, 8, 8), np.uint8), grid((8, 8)), tasks)
    _, second = scene_jobs(tiles_from_folders(tmp_path / "i", tmp_path / "m"), tmp_path, 0.0)
    with pytest.raises(RasterError, match=r"1\.tif: no band SIC; it has SOD, FLOE\. Give all masks the same tasks"):
        scene_statistics(second)


@LAW
@given(st.integers(0, 10_000), st.integers(2, 12), st.sampled_from(["gamma", "far", "two", "skewed"]))
def test_c22_the_order_of_the_parts_changes_no_bit(seed: int, count: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    images = [image_of(rng, kind) for _ in range(count)]
    for image in images[::2]:
        image[image == 0] = -0.0
    parts = [band_moments(image) for image in images]
    expected = json.dumps(merge_moments(parts))
    for _ in range(5):
        assert json.dumps(merge_moments([parts[i] for i in rng.permutation(count)])) == expected


@pytest.mark.system
def test_c22_c15_shuffled_tiles_and_any_number_of_workers_give_the_same_bytes(
    stats: Callable[..., int], script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """130 tiles a scene: more than are merged at once, so that the order decides what is merged with what."""
    write_scenes(tmp_path / "scenes", 5, (130, 170), tmp_path / "masks")
    paths = {"input_path": tmp_path / "scenes", "masks_path": tmp_path / "masks", "output_path": tmp_path / "tiles"}
    tiling = {"tiling__size": 16, "tiling__min_overlap": 2, "missing_zones": None}
    assert script("generate_tiles", "configs/demo/generate_tiles.py", **paths, **tiling, executor="serial") == 0
    table = read_table(tmp_path / "tiles" / TILES, TILE_COLUMNS, "generate_tiles")
    assert table.groupby("scene").size().min() > 128
    capsys.readouterr()
    found = set()
    for turn, kind in enumerate(("serial", "threads", "threads", "threads")):
        shuffled = table.sample(frac=1, random_state=turn) if turn else table
        shuffled.to_parquet(tmp_path / "tiles" / TILES, index=False)  # in this order, which write_table would not leave
        output = tmp_path / f"out{turn}"
        assert stats(tmp_path / "tiles", output_path=output, executor=kind, workers=4, min_valid_ratio=0.5) == 0
        counts = capsys.readouterr().out.splitlines()[-1]
        found.add(((output / "band_stats.json").read_bytes(), (output / TILE_STATS).read_bytes(), counts))
    assert len(found) == 1


@pytest.fixture
def tiles(script: Script, tmp_path: Path) -> Path:
    """Tiles of three areas; one scene is constant on its left half, one has a large gap."""
    scenes = write_scenes(tmp_path / "scenes", 3, (64, 96), tmp_path / "masks")
    image = read_image(scenes[1])
    image[:, :, :40] = 0
    write_image(scenes[1], image, grid((64, 96), (350_000.0, 3_700_000.0)), ("vh", "vv", "mean"))
    image = read_image(scenes[2])
    image[:, :20, :20] = np.nan
    write_image(scenes[2], image, grid((64, 96), (400_000.0, 3_700_000.0)), ("vh", "vv", "mean"))
    paths = {"input_path": tmp_path / "scenes", "masks_path": tmp_path / "masks", "output_path": tmp_path / "tiles"}
    overrides = {"tiling__size": 32, "tiling__min_overlap": 0, "executor": "serial", "missing_zones": None}
    assert script("generate_tiles", "configs/demo/generate_tiles.py", **paths, **overrides) == 0
    return tmp_path / "tiles"


@pytest.fixture
def stats(script: Script) -> Callable[..., int]:
    def run(tiles: Path, **overrides: object) -> int:
        given = {"input_path": tiles, "executor": "serial"} | overrides
        return script("generate_tiles_stats", "configs/demo/generate_tiles_stats.py", **given)

    return run


def test_c14_table_and_band_file_equal_numpy_joined_by_key(
    stats: Callable[..., int], tiles: Path, tmp_path: Path
) -> None:
    table = read_table(tiles / TILES, TILE_COLUMNS, "generate_tiles")
    write_table(tiles / TILES, table.sample(frac=1, random_state=1))  # the order of rows means nothing
    assert stats(tiles, output_path=tmp_path / "elsewhere", min_valid_ratio=0.5) == 0
    found = read_table(tmp_path / "elsewhere" / TILE_STATS, [*TILE_COLUMNS, "skip"], "generate_tiles_stats")
    assert len(found) == 18
    pixels = []
    for row in found.to_dict("records"):
        image = read_image(tmp_path / "elsewhere" / row["image"])  # paths are relative to the table
        mask = read_labels(tmp_path / "elsewhere" / row["mask"])[0]
        pixels.append(image.reshape(3, -1))
        valid = np.isfinite(image).all(axis=0)
        assert row["valid_ratio"] == valid.mean()
        assert row["target_ratio"] == pytest.approx((mask[mask != IGNORE] > 0).mean())
        assert row["fold"] == int(row["area"][-1])
        for name, function in (("min", np.nanmin), ("max", np.nanmax), ("mean", np.nanmean), ("std", np.nanstd)):
            expected = [function(band.astype(np.float64)) for band in image]
            np.testing.assert_allclose(row[f"img_{name}"], expected, rtol=1e-5, atol=1e-7)
    constant = found[found["key"].isin([f"s1a_area1_ASC_20150102/tile_0_{r}" for r in (0, 32)])]
    assert set(found[found["skip"]]["key"]) == set(constant["key"])
    assert len(read_tiles(tmp_path / "elsewhere")) == 16

    bands = json.loads((tmp_path / "elsewhere" / "band_stats.json").read_text())
    assert list(bands) == ["vh", "vv", "mean"]
    for band, values in zip(bands.values(), np.concatenate(pixels, axis=1).astype(np.float64), strict=True):
        assert band["mean"] == pytest.approx(np.nanmean(values), rel=1e-5)
        assert band["std"] == pytest.approx(np.nanstd(values), rel=1e-5)
        assert (band["min"], band["max"]) == (np.nanmin(values), np.nanmax(values))
        for name, share in (("q01", 0.01), ("q50", 0.5), ("q99", 0.99)):
            assert rank_error(values[np.isfinite(values)], band[name], share) <= 0.005


def test_c15_default_threshold_skips_any_gap_and_counts_are_reported(
    stats: Callable[..., int], tiles: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stats(tiles, min_valid_ratio=1.0) == 0
    found = read_table(tiles / TILE_STATS, ["skip"], "generate_tiles_stats")
    assert found["skip"].sum() == (found["valid_ratio"] < 1).sum() + 2
    assert f"tiles 18, skipped {found['skip'].sum()}" in capsys.readouterr().out


@pytest.mark.system
def test_c13_statistics_are_not_done_twice_and_a_lost_tile_is_named(
    stats: Callable[..., int], tiles: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stats(tiles) == 0
    first = (tiles / TILE_STATS).read_bytes(), times(tiles)
    assert stats(tiles) == 0
    assert "0 of 3 items done now, 3 before" in capsys.readouterr().out
    assert ((tiles / TILE_STATS).read_bytes(), times(tiles)) == first
    assert stats(tiles, min_valid_ratio=0.5) == 1
    assert "other settings (min_valid_ratio: " in capsys.readouterr().err
    assert stats(tiles, min_valid_ratio=0.5, replace=True) == 0
    assert "3 of 3 items done now" in capsys.readouterr().out
    lost = next((tiles / "images").rglob("tile_0_0.tif"))
    lost.unlink()
    assert stats(tiles, min_valid_ratio=0.5) == 1
    said = capsys.readouterr().err
    assert f"{tiles / TILES}: 1 files of the table are missing: {lost}. Run `generate_tiles` again." in said


def test_c14_missing_table_says_which_step_to_run(
    stats: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stats(tmp_path) == 1
    assert f"{tmp_path / TILES}: no such table. Run `generate_tiles`" in capsys.readouterr().err


def test_c16_a_fold_for_every_area_or_an_error(
    stats: Callable[..., int], tiles: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stats(tiles, folds='{"area0": 0, "area1": 1}') == 1
    assert "no fold for the areas area2" in capsys.readouterr().err


def test_c19_folds_of_groups_are_written_with_their_columns(script: Script, tiles: Path, tmp_path: Path) -> None:
    config = tmp_path / "folds.py"
    config.write_text(
        "from swath.data.splits.folds import GroupFolds\nfrom swath.data.tiles.statistics import StatsConfig\n"
        f"config = StatsConfig(input_path={str(tiles)!r}, executor='serial', folds=GroupFolds(folds=2, strata=()))\n"
    )
    assert script("generate_tiles_stats", config, min_valid_ratio=0.5) == 0
    table = read_tiles(tiles)
    assert {"group", "fold", "split_0", "split_1", "content", "thumbnail"} <= set(table)
    assert table["group"].nunique() == 3  # tiles of one scene stay together
    assert table.groupby("group")["fold"].nunique().tolist() == [1, 1, 1]
    assert set(table["fold"]) == {0, 1}
    assert ((table["split_1"] == "validation") == (table["fold"] == 1)).all()
    assert table["content"].notna().all()
    assert table["content"].nunique() == len(table)


def test_c14_tiles_without_masks_have_no_target(stats: Callable[..., int], script: Script, tmp_path: Path) -> None:
    write_scenes(tmp_path / "scenes", 1, (64, 64))
    paths = {"input_path": tmp_path / "scenes", "output_path": tmp_path / "tiles", "executor": "serial"}
    tiling = {"tiling__size": 32, "tiling__stride": 32}
    assert script("generate_tiles", "configs/demo/generate_test_tiles.py", **paths, **tiling) == 0
    assert stats(tmp_path / "tiles") == 0
    found = read_tiles(tmp_path / "tiles")
    assert "target_ratio" not in found
    assert len(found) == 4


def test_c22_a_label_band_of_zeros_and_ones_keeps_its_ends(tmp_path: Path) -> None:
    path = write_mask(tmp_path / "m.tif", np.eye(50, dtype=np.uint8), grid((50, 50)))
    table = band_statistics(band_moments(read_image(path)), ("water",))["water"]
    assert (table["min"], table["max"], table["q50"]) == (0, 1, 0)
    assert table["mean"] == pytest.approx(0.02)
