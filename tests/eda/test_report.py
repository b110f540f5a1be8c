"""Flags of tiles, tiles left out for doubtful labels, and the report on a data set: brute force over pixels as oracle."""

from __future__ import annotations

import csv
import gc
import io
import re
import shutil
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path

import cv2
import geopandas as gpd
import mlflow
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from swath.config import load
from swath.data.running_statistics import band_moments
from swath.data.samples.tile_tables import read_tiles, tiles_from_folders
from swath.data.tables import SCENES, TILE_STATS, read_table, scene_row, write_table
from swath.data.tiles.quality import skip_reasons, tile_flags
from swath.data.tiles.statistics import tile_row
from swath.eda.overview import EdaConfig, overview, remarks
from swath.eda.overview import read_explored_tiles as read_all_tiles
from swath.eda.pixel_sample import draw_pixels
from swath.eda.report import CAPTIONS, draw
from swath.errors import ConfigError
from swath.geo.raster import RasterReader, read_image, read_labels
from swath.labels import IGNORE
from tests.conftest import Script
from tests.synthetic import backscatter, blobs, grid, write_image, write_mask

BANDS = ("vh", "vv", "mean")
DECIBEL = ("vh", "vv", "mean")


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.05, 0.95), st.sampled_from([0.0, 0.5, 1.0]))
def test_c20_c21_flags_and_reasons_equal_counting_pixels(seed: int, high: float, min_valid: float) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, rng.integers(1, 3), (2, 4, 5)).astype(np.float32)
    image[:, rng.random((4, 5)) < rng.choice([0, 0.4, 1.0])] = np.nan
    mask = (rng.random((1, 4, 5)) < rng.choice([0, 0.3, 0.6, 1.0])).astype(np.uint8)
    mask[rng.random(mask.shape) < rng.choice([0, 0.3, 1.0])] = IGNORE
    row = tile_row(image, mask if rng.random() < 0.9 else None, band_moments(image), min_valid)
    if "target_ratio" not in row:
        mask[:] = IGNORE
    valid, labelled = np.isfinite(image).all(axis=0), mask != IGNORE
    percent = 100 * (mask[labelled] == 1).mean() if labelled.any() else np.nan
    constant = valid.any() and all(np.ptp(band[valid]) == 0 for band in image)

    table = pd.DataFrame([row])
    flags = tile_flags(table, high).iloc[0]
    assert flags["has_target"] == bool((mask == 1).any())
    assert flags["target_pct"] == pytest.approx(percent, nan_ok=True)
    assert flags["high_target"] == bool(percent > 100 * high)
    assert (flags["unlabelled"], flags["no_data"]) == (not labelled.any(), not valid.any())
    assert flags["constant"] == constant

    reason = skip_reasons(table, high).iloc[0]
    if not valid.any():
        assert reason == "no valid pixel"
    elif constant:
        assert reason == "all valid pixels equal"
    elif valid.mean() < min_valid:
        assert reason == "too few valid pixels"
    else:
        assert reason == (f"target share above {100 * high:g} %" if percent > 100 * high else "")
    assert (skip_reasons(table).iloc[0] != "") == row["skip"]


# ------------------------------------------------------------------------------------------------ a folder of tiles


def add_scene(root: Path, area: str, date: str, image: np.ndarray, mask: np.ndarray, east: float) -> None:
    place = grid(image.shape[1:], (300_000.0 + east, 3_700_000.0))
    name = f"s1a_{area}_ASC_{date}.tif"
    write_image(root / "scenes" / area / name, image, place, BANDS)
    write_mask(root / "masks" / area / name, mask, place)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes and masks. North: two dates, two sizes, one tile all target. South: nothing measured. West: hardly any
    target, a third constant, a few pixels without label."""
    root = tmp_path_factory.mktemp("data")
    shape = (64, 96)
    mask = blobs(shape, 1)
    mask[:32, :32] = 1
    add_scene(root, "north", "20150102", backscatter(shape, seed=1), mask, 0)
    add_scene(root, "north", "20150114", backscatter((64, 64), seed=2), mask[:, :64], 0)
    add_scene(root, "south", "20150102", np.full((3, *shape), np.nan, np.float32), blobs(shape, 3), 50_000)
    image, rare = backscatter(shape, seed=4), np.zeros(shape, np.uint8)
    image[:, :, :32] = 0.25
    rare[40, 50:52], rare[34:60, 56:] = 1, IGNORE
    add_scene(root, "west", "20150103", image, rare, 100_000)
    return root


def prepared(script: Script, data: Path, output: Path, masks: bool = True, **overrides: object) -> Path:
    """Tiles of 32 px with statistics, made by the entry points."""
    paths = {"input_path": data / "scenes", "output_path": output, "executor": "serial"}
    config = "configs/demo/generate_tiles.py" if masks else "configs/demo/generate_test_tiles.py"
    tiling: dict[str, object] = {"tiling__size": 32}
    tiling |= {"masks_path": data / "masks", "tiling__min_overlap": 8} if masks else {"tiling__stride": 32}
    assert script("generate_tiles", config, **paths, **tiling) == 0
    stats = {"input_path": output, "executor": "serial", "min_valid_ratio": 0.05} | overrides
    assert script("generate_tiles_stats", "configs/demo/generate_tiles_stats.py", **stats) == 0
    return output


@pytest.fixture
def tiles(script: Script, data: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """The data's tiles, made once."""
    made = data.parent / f"{data.name}-tiles"
    return made if made.is_dir() else prepared(script, data, made)


@pytest.mark.system
def test_c21_doubtful_tiles_are_listed_and_take_no_part_when_asked(
    script: Script, data: Path, tiles: Path, tmp_path: Path, last_run: Callable[[], mlflow.entities.Run]
) -> None:
    before = read_table(tiles / TILE_STATS, ["reason"], "")
    assert set(before.loc[before["area"] == "south", "reason"]) == {"no valid pixel"}
    assert set(before["reason"]) == {"", "no valid pixel", "all valid pixels equal"}
    assert before["target_ratio"].max() == 1
    after_path = prepared(script, data, tmp_path / "tiles", max_target_ratio=0.4)
    after = read_table(after_path / TILE_STATS, ["reason"], "")
    doubtful = set(before.loc[~before["skip"] & (before["target_ratio"] > 0.4), "key"])
    assert doubtful
    assert set(after.loc[after["reason"] == "target share above 40 %", "key"]) == doubtful
    assert set(read_tiles(after_path)["key"]) == set(read_tiles(tiles)["key"]) - doubtful
    listed = mlflow.artifacts.load_text(f"runs:/{last_run().info.run_id}/skipped.csv")
    rows = {row["key"]: row["reason"] for row in csv.DictReader(io.StringIO(listed))}
    skipped = after[after["skip"]]
    assert rows == dict(zip(skipped["key"], skipped["reason"], strict=True))


# --------------------------------------------------------------------------------------------------------- the numbers


def config_of(tiles: Path, **changes: object) -> EdaConfig:
    return EdaConfig(input_path=str(tiles), output_path="unused", **changes)  # type: ignore[arg-type]


def test_c23_overview_equals_counting_the_pixels_of_all_tiles(tiles: Path) -> None:
    table = read_all_tiles(config_of(tiles), tiles, None)
    found = overview(table, ["area", "fold", "date"]).set_index(["area", "fold", "date"])
    expected: dict[tuple[object, ...], list[tuple[np.ndarray, np.ndarray, object]]] = {}
    for row in table.to_dict("records"):
        pair = (np.isfinite(read_image(tiles / row["image"])).all(axis=0), read_labels(tiles / row["mask"])[0])
        expected.setdefault((row["area"], row["fold"], row["date"]), []).append((*pair, row["scene"]))
    assert set(found.index) == set(expected)
    assert {key[2] for key in expected} == {"20150102", "20150103", "20150114"}
    for key, members in expected.items():
        valid = np.stack([v for v, _, _ in members])
        labels = np.stack([m for _, m, _ in members])
        labelled, target = labels != IGNORE, labels == 1
        assert found.loc[key, "tiles"] == len(members)
        assert found.loc[key, "scenes"] == len({scene for *_, scene in members})
        assert found.loc[key, "valid_share"] == pytest.approx(valid.mean())
        assert found.loc[key, "target_share"] == pytest.approx(target.sum() / labelled.sum())
        assert found.loc[key, "has_target"] == target.any(axis=(1, 2)).sum()
        share = target.sum(axis=(1, 2)) / labelled.sum(axis=(1, 2))
        assert found.loc[key, "high_target"] == (share > 0.4).sum()
        assert found.loc[key, "no_data"] == (~valid.any(axis=(1, 2))).sum()


def test_c23_all_pixels_drawn_are_those_of_the_scenes_each_once(tiles: Path, data: Path) -> None:
    table = read_all_tiles(config_of(tiles), tiles, None)
    sample = draw_pixels(table, tiles, DECIBEL, 1000, 10**9, seed=0)
    linear = {"background": [], "target": [], "anywhere": []}  # type: dict[str, list[np.ndarray]]
    for path in sorted((data / "scenes").rglob("*.tif")):
        image = read_image(path).reshape(3, -1)
        mask = read_labels(Path(str(path).replace("/scenes/", "/masks/"))).ravel()
        for name, which in (("background", mask == 0), ("target", mask == 1), ("anywhere", mask >= 0)):
            linear[name].append(image[:, which & np.isfinite(image).any(axis=0)])
    for name, parts in linear.items():
        expected = 10 * np.log10(np.concatenate(parts, axis=1).astype(float))
        drawn = getattr(sample, name).to_numpy().T
        order, ours = np.lexsort(expected), np.lexsort(drawn)
        np.testing.assert_allclose(drawn[:, ours], expected[:, order], rtol=1e-12)
        if name == "anywhere":
            np.testing.assert_allclose(sample.correlation, np.corrcoef(expected), rtol=1e-9)
    assert sample.units == dict.fromkeys(BANDS, "dB")


def test_c23_pixels_of_the_target_are_those_of_the_first_task_by_name(tmp_path: Path) -> None:
    rare, common = np.zeros((20, 20), np.uint8), np.ones((20, 20), np.uint8)
    rare[:2] = 1
    bands = np.where(rare, 7.0, 1.0).astype(np.float32)
    for key, order in (("a", ("rare", "common")), ("b", ("common", "rare"))):
        write_image(tmp_path / "i" / f"{key}.tif", bands[None], grid((20, 20)), ("height",))
        labels = np.stack([{"rare": rare, "common": common}[task] for task in order])
        write_mask(tmp_path / "m" / f"{key}.tif", labels, grid((20, 20)), order)
    table = tiles_from_folders(tmp_path / "i", tmp_path / "m")
    table = table.assign(no_data=False, has_target=True, target_pct=10.0, valid_ratio=1.0)
    sample = draw_pixels(table, tmp_path, (), 10, 10**6, seed=0)
    assert sample.target["height"].tolist() == [7.0] * 80
    assert sample.background["height"].tolist() == [1.0] * 720


def test_c23_draws_follow_the_seed_and_open_no_more_tiles_than_asked(
    tiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = read_all_tiles(config_of(tiles), tiles, None)
    opened: list[Path] = []
    start = RasterReader.__init__

    def counted(self: RasterReader, path: Path, *rest: object) -> None:
        opened.append(path)
        start(self, path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(RasterReader, "__init__", counted)
    first = draw_pixels(table, tiles, DECIBEL, 3, 500, seed=7)
    assert len(opened) == 2 * 2 * 3  # image and mask, anywhere and on the target
    assert 350 <= len(first.anywhere) <= 650
    assert first.anywhere.equals(draw_pixels(table, tiles, DECIBEL, 3, 500, seed=7).anywhere)
    assert not first.anywhere.equals(draw_pixels(table, tiles, DECIBEL, 3, 500, seed=8).anywhere)


def test_c23_bands_in_decibels_already_or_of_another_kind_stay_as_they_are(tiles: Path, tmp_path: Path) -> None:
    shutil.copytree(tiles, tmp_path / "tiles")
    for path in (tmp_path / "tiles" / "images").rglob("*.tif"):
        image = read_image(path)
        image[0] = 10 * np.log10(image[0])
        with RasterReader(path) as reader:
            place = reader.info.grid
        write_image(path, image, place, ("vh", "vv", "slope"))
    table = read_all_tiles(config_of(tiles), tmp_path / "tiles", None)
    sample = draw_pixels(table, tmp_path / "tiles", DECIBEL, 100, 10**6, seed=0)
    assert sample.units == {"vh": "", "vv": "dB", "slope": ""}
    assert sample.anywhere["vh"].max() > -10
    assert sample.anywhere["slope"].min() >= 0


def test_c23_no_band_is_taken_for_linear_power_unless_the_config_says_so(tiles: Path) -> None:
    assert config_of(tiles).decibel == ()
    table = read_all_tiles(config_of(tiles), tiles, None)
    plain = draw_pixels(table, tiles, config_of(tiles).decibel, 100, 10**6, seed=0)
    assert plain.units == dict.fromkeys(BANDS, "")
    shown = draw_pixels(table, tiles, ("VH",), 100, 10**6, seed=0)
    assert shown.units == {"vh": "dB", "vv": "", "mean": ""}
    np.testing.assert_allclose(shown.anywhere["vh"], 10 * np.log10(plain.anywhere["vh"]))
    assert shown.anywhere["vv"].equals(plain.anywhere["vv"])
    for challenge in ("demo", "unosat"):
        assert load(f"configs/{challenge}/eda.py", EdaConfig).decibel == BANDS
    assert load("configs/ai4arctic/eda.py", EdaConfig).decibel == ()


def test_c23_what_stands_out_is_said_with_names(tiles: Path, data: Path) -> None:
    rows = [scene_row(path, data / "scenes") for path in sorted((data / "scenes").rglob("*.tif"))]
    scenes = gpd.GeoDataFrame([*rows, rows[0] | {"key": "lost", "area": "east"}])
    config = config_of(tiles)
    table = read_all_tiles(config, tiles, scenes)
    correlation = pd.DataFrame([[1, 0.5, -0.99], [0.5, 1, 0.1], [-0.99, 0.1, 1]], BANDS, BANDS)
    text = "\n".join(remarks(table, scenes, config, correlation))
    counts = {flag: int(table[flag].sum()) for flag in ("constant", "no_data", "high_target")}
    total = len(table)
    assert "1 of 3 areas have little target, below 1 % of their labelled pixels: west 0.0" in text
    assert (
        f"{counts['high_target']} of {total} tiles have a target share above 40 %: s1a_north_ASC_20150102/tile_0_0 100 %"
        in text
    )
    assert (
        f"{counts['constant']} of {total} tiles hold a single value in every band: s1a_west_ASC_20150103/tile_0_0"
        in text
    )
    assert f"{counts['no_data']} of {total} tiles have no valid pixel" in text
    assert "1 of 4 scenes have no valid pixel at all: s1a_south_ASC_20150102" in text
    assert "1 of 5 scenes have no tiles: lost" in text
    assert "1 of 3 areas have scenes on different grids" in text
    assert "north: s1a_north_ASC_20150102 against s1a_north_ASC_20150114 (size 96 x 64 px against 64 x 64 px)" in text
    assert "Bands that say nearly the same, by their correlation: vh and mean (-0.990)" in text
    assert "No tile with target takes part in fold 1" in text  # south
    assert f"no valid pixel: {counts['no_data']}; all valid pixels equal: {counts['constant']}" in text
    plain = table[(table["area"] == "north") & (table["date"] == "20150114") & ~table["high_target"]]
    assert remarks(plain, None, config, correlation.abs() * 0.1) == []
    torn = plain.assign(group="one", fold=np.arange(len(plain)))
    assert "1 of 1 groups of tiles" in remarks(torn, None, config, correlation * 0.1)[-1]


# --------------------------------------------------------------------------------------------------- through the script


@pytest.mark.system
def test_c23_c25_report_tables_and_figures_are_artifacts_of_the_run(
    script: Script, tiles: Path, data: Path, tmp_path: Path, last_run: Callable[[], mlflow.entities.Run],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    shutil.copytree(data / "scenes", tmp_path / "scenes")
    rows = [scene_row(path, tmp_path / "scenes") for path in sorted((tmp_path / "scenes").rglob("*.tif"))]
    write_table(tmp_path / "scenes" / SCENES, rows)
    paths = {"input_path": tiles, "scenes_path": tmp_path / "scenes", "output_path": tmp_path / "eda"}
    sets = {"test_scenes_path": tmp_path / "scenes", "validation_fold": 1}  # south
    assert script("eda", "configs/demo/eda.py", **paths, **sets) == 0
    assert "- 1 of 3 areas have little target" in capsys.readouterr().out
    run = last_run()
    assert run.data.tags["swath.kind"] == "eda"
    fetched = Path(mlflow.artifacts.download_artifacts(run_id=run.info.run_id, dst_path=str(tmp_path / "run")))
    for name in ("report.html", "eda.csv", "eda.parquet", "suspicious_tiles.csv", "shift.csv", "scene_weights.csv"):
        assert (fetched / name).read_bytes() == (tmp_path / "eda" / name).read_bytes()
    assert {p.stem for p in (fetched / "figures").iterdir()} == set(CAPTIONS)
    for path in (fetched / "figures").iterdir():
        picture = cv2.imread(str(path))
        assert picture is not None
        assert picture.std() > 5, f"{path.name} is empty"

    table = pd.read_parquet(tmp_path / "eda/eda.parquet")
    read = pd.read_csv(tmp_path / "eda/eda.csv", dtype={"date": str})
    pd.testing.assert_frame_equal(table, read, check_dtype=False)
    assert run.data.metrics["eda/tiles"] == table["tiles"].sum()
    listed = pd.read_csv(tmp_path / "eda/suspicious_tiles.csv")
    assert listed["target_pct"].is_monotonic_decreasing
    assert listed["reason"].iloc[0] == "target share 100.0 %"
    assert len(listed) == run.data.metrics["eda/high_target"]

    shift = pd.read_csv(tmp_path / "eda/shift.csv").pivot(index="value", columns="set", values="scenes")
    assert shift.loc["south", ["training", "validation", "test"]].tolist() == [0, 1, 1]
    assert shift.loc["north", ["training", "validation", "test"]].tolist() == [2, 0, 2]
    assert pd.read_csv(tmp_path / "eda/scene_weights.csv")["weight"].sum() == pytest.approx(1)

    page = (tmp_path / "eda/report.html").read_text()
    embedded = {b64decode(data) for data in re.findall(r"base64,([^']+)'", page)}
    assert embedded == {p.read_bytes() for p in (tmp_path / "eda/figures").iterdir()}
    assert "1 of 3 areas have little target" in page
    assert "s1a_north_ASC_20150102/tile_0_0" in page
    assert not list((tmp_path / "eda").rglob("*.part*"))


@pytest.mark.system
def test_c23_tiles_without_labels_get_a_report_without_target_and_old_figures_go(
    script: Script, data: Path, tiles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "eda"
    assert script("eda", "configs/demo/eda.py", input_path=tiles, scenes_path=None, output_path=output) == 0
    assert (output / "figures/target_share.png").is_file()
    (output / "figures/mine.png").write_text("keep")
    plain = prepared(script, data, tmp_path / "tiles", masks=False)
    assert script("eda", "configs/demo/eda.py", input_path=plain, scenes_path=None, output_path=output) == 0
    assert {p.stem for p in (output / "figures").iterdir()} == set(CAPTIONS) - {"target_share", "shift"} | {"mine"}
    assert "No tile has labels" in capsys.readouterr().out
    assert pd.read_csv(output / "eda.csv")["target_share"].isna().all()


def test_c23_missing_tables_and_senseless_draws_are_answered(
    script: Script, tiles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = {"input_path": tiles, "scenes_path": tmp_path, "output_path": tmp_path / "eda"}
    assert script("eda", "configs/demo/eda.py", **paths) == 1
    step = "`import_scenes` (or the challenge's own step that makes scenes)"
    said = f"{tmp_path / SCENES}: no such table. Run {step} with output_path={tmp_path} first."
    assert said in capsys.readouterr().err
    assert (
        script("eda", "configs/demo/eda.py", input_path=tmp_path, scenes_path=None, output_path=tmp_path / "eda") == 1
    )
    assert "tile_stats.parquet: no such table. Run `generate_tiles_stats`" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="sample_tiles=0"):
        config_of(tiles, sample_tiles=0)


def figures_alive() -> int:
    return sum(type(thing) is Figure for thing in gc.get_objects())


@pytest.mark.system
def test_c23_figures_of_many_areas_dates_and_odd_tables_stay_readable_and_leave_memory(
    tiles: Path, tmp_path: Path
) -> None:
    before = figures_alive()
    config = config_of(tiles, splits=("fold", "side"))
    table = read_all_tiles(config, tiles, None)
    many = pd.concat([table.assign(area=f"area{i:03d}", date=f"20{i % 90 + 10}0102", fold=i) for i in range(40)])
    many = gpd.GeoDataFrame(many, crs=table.crs).assign(key=np.arange(len(many)).astype(str), scene=many["area"])
    sample = draw_pixels(table, tiles, DECIBEL, 5, 1000, seed=0)
    drawn = {path.stem: cv2.imread(str(path)).shape for path in draw(many, None, sample, config, tmp_path)}
    assert set(drawn) == set(CAPTIONS) - {"shift"}
    assert max(max(shape) for shape in drawn.values()) < 2000
    nowhere = table.assign(crs=None, fold=0, side="training", skip=False)
    empty = draw_pixels(table.assign(no_data=True), tiles, DECIBEL, 5, 1000, seed=0)
    assert {p.stem for p in draw(nowhere, None, empty, config, tmp_path)} == set(CAPTIONS) - {
        "map", "band_histograms", "band_correlation", "shift",
    }  # fmt: skip
    assert figures_alive() <= before
