"""Label faults: planted ones are found and undone, doubt equals brute force, and a known fault of real labels is on top."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import binary_opening, uniform_filter

from swath.data.tables import SCENES, read_scenes, scene_row, write_table
from swath.errors import CatalogError, ConfigError, RasterError
from swath.geo.grid import Grid
from swath.geo.layout import RasterSpec
from swath.geo.morphology import disk
from swath.geo.raster import RasterReader, read_image, read_labels
from swath.geo.raster_writer import write_raster
from swath.prediction.label_disagreement import PredictedMap, disagreements, in_patches
from swath.prediction.label_faults import FindLabelFaultsConfig
from swath.prediction.label_shifts import SceneBands, ShiftPair, ShiftSearch, shifts_of_scene
from tests.conftest import Script
from tests.synthetic import blobs, grid, write_image, write_mask

SHAPE = (120, 136)
BY_LABEL = ShiftSearch(pairs={"label": ShiftPair(reference="label", image="log(band_1)")}, largest=12)


def write_probabilities(path: Path, bands: NDArray[np.float32], place: Grid, names: tuple[str, ...]) -> Path:
    write_raster(path, bands, RasterSpec(grid=place, bands=names, dtype="float32", nodata=-1.0))
    return path


def rolled(mask: NDArray[np.uint8], rows: int, cols: int) -> NDArray[np.uint8]:
    """What is at a pixel comes `rows` further down and `cols` further to the right."""
    return np.roll(mask, (rows, cols), axis=(0, 1))


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """Five scenes with maps: b's labels lie 5 rows up and 7 columns right, c's are somebody else's, e has no labels."""
    rows = []
    rng = np.random.default_rng(0)
    for number, key in enumerate("abcde"):
        place = grid(SHAPE, (400_000.0 + 20_000 * number, 3_700_000.0))
        water = blobs(SHAPE, seed=number)
        image = np.where(water, 0.02, 0.2) * rng.gamma(9, 1 / 9, SHAPE)
        image[:, 60:63] = np.nan
        scene = write_image(tmp_path / "scenes" / "north" / f"{key}.tif", image[None], place)
        truth = {"b": rolled(water, -5, 7), "c": blobs(SHAPE, seed=50)}.get(key, water)
        labels = None if key == "e" else write_mask(tmp_path / "scenes" / "labels" / f"{key}.tif", truth, place)
        rows.append(
            scene_row(scene, tmp_path / "scenes", "north", labels=labels) | ({} if labels else {"labels": None})
        )
        p = np.where(water, 0.8, 0.1).astype(np.float32)
        write_probabilities(tmp_path / "maps/probabilities/north" / f"{key}.tif", p[None], place, ("water",))
    write_table(tmp_path / "scenes" / SCENES, rows)
    return tmp_path


def config(folder: Path, **changes: object) -> FindLabelFaultsConfig:
    fields = {
        "input_path": str(folder / "scenes"), "output_path": str(folder / "faults"), "shift": BY_LABEL,
        "predictions_path": str(folder / "maps"), "pictures": 2,
    }  # fmt: skip
    return FindLabelFaultsConfig(**(fields | changes))  # type: ignore[arg-type]


def done(found: FindLabelFaultsConfig) -> pd.DataFrame:
    """The table that the step leaves."""
    found.finish({job.key: job.run() for job in found.jobs()})
    return pd.read_csv(found.output / "label_faults.csv")


# -------------------------------------------------------------------------------------------------------------- planted


def test_c126_the_shifted_and_the_mislabelled_scene_are_on_top(scenes: Path) -> None:
    table = done(config(scenes))
    shifts = table[table["kind"] == "shift"].set_index("key")
    assert shifts.index[0] == "b"
    assert shifts["is_fault"].tolist() == [True] + [False] * (len(shifts) - 1)
    assert shifts.loc["b", ["rows", "cols"]].tolist() == [-5, 7]
    assert "5 px up and 7 px to the right" in shifts.loc["b", "reason"]
    assert (shifts.loc[["a", "d"], ["rows", "cols"]] == 0).all(axis=None)
    doubts = table[table["kind"] == "disagreement"]
    assert doubts["key"].tolist()[0] == "c"
    assert doubts["rank"].tolist() == [1, 2, 3, 4]
    assert set(doubts["key"]) == set("abcd")
    assert doubts.set_index("key").loc["a", "doubt"] == 0


def test_c126_a_shift_that_is_undone_leaves_the_right_labels_and_the_originals(scenes: Path) -> None:
    before = (scenes / "scenes/labels/b.tif").read_bytes()
    done(config(scenes, correct=True))
    table = read_scenes(scenes / "faults").set_index("key")
    assert table.loc["b", ["label_shift_rows", "label_shift_cols"]].tolist() == [-5, 7]
    assert (table.loc[list("acde"), ["label_shift_rows", "label_shift_cols"]] == 0).all(axis=None)
    assert (scenes / "scenes/labels/b.tif").read_bytes() == before
    moved, right = read_labels(Path(table.loc["b", "labels"]))[0], blobs(SHAPE, seed=1)
    inside = (slice(5, None), slice(None, -7))  # what the shift took over an edge is lost
    assert (moved[inside] == right[inside]).all()
    assert (moved[:5] == 255).all()
    assert (moved[:, -7:] == 255).all()
    assert Path(table.loc["a", "labels"]).resolve() == (scenes / "scenes/labels/a.tif").resolve()
    assert not isinstance(table.loc["e", "labels"], str)
    again = done(config(scenes, input_path=str(scenes / "faults"), output_path=str(scenes / "again")))
    assert not again["is_fault"][again["kind"] == "shift"].any()


def test_c126_windows_of_a_scene_are_listed_apart(scenes: Path) -> None:
    labels = read_labels(scenes / "scenes/labels/a.tif")[0]
    labels[60:, :68] = 1 - labels[60:, :68]
    write_mask(scenes / "scenes/labels/a.tif", labels, grid(SHAPE))
    table = done(config(scenes, block=68, shift=None))
    assert (table["labelled"].groupby(table["key"]).sum() == SHAPE[0] * SHAPE[1]).all()
    assert table.loc[0, ["key", "row", "col", "height", "width"]].tolist() == ["a", 60, 0, 60, 68]
    assert table.loc[0, "doubt"] == pytest.approx(np.where(labels[60:, :68], 0.9, 0.8).mean(), abs=0.02)


def test_c126_pictures_are_of_the_first_rows_and_old_ones_go(scenes: Path) -> None:
    done(config(scenes))
    names = sorted(path.name for path in (scenes / "faults/pictures").iterdir())
    assert [name[:16] for name in names] == ["disagreement_001", "disagreement_002", "shift_001_b.png"]
    done(config(scenes, pictures=1))
    assert len(list((scenes / "faults/pictures").iterdir())) == 2


def test_c126_the_step_is_a_run_and_a_second_start_does_nothing_again(
    scenes: Path, tmp_path: Path, script: Script, last_run: Callable[[], mlflow.entities.Run],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    file = tmp_path / "find.py"
    file.write_text(
        "from swath.prediction.label_faults import FindLabelFaultsConfig\n"
        "from swath.prediction.label_shifts import ShiftPair, ShiftSearch\n"
        "pairs = {'label': ShiftPair(reference='label', image='log(band_1)')}\n"
        f"config = FindLabelFaultsConfig(input_path='{scenes}/scenes', output_path='{scenes}/faults',\n"
        f"    predictions_path='{scenes}/maps', shift=ShiftSearch(pairs=pairs, largest=12), executor='serial')\n"
    )
    assert script("find_label_faults", file) == 0
    run = last_run()
    assert run.data.metrics["label_faults/shifted_scenes"] == 1
    assert run.data.metrics["label_faults/scenes"] == 5
    assert run.data.tags["swath.scored_on"] == "unchecked"  # the maps do not say whose they are
    kept = {file.path for file in mlflow.MlflowClient().list_artifacts(run.info.run_id)}
    assert {"label_faults.csv", "label_faults.parquet", "shift_001_b.png"} <= kept
    assert "5 of 5 items done now" in capsys.readouterr().out
    assert script("find_label_faults", file, pictures=1) == 0
    assert "0 of 5 items done now" in capsys.readouterr().out


# ------------------------------------------------------------------------------------------------------------ by hand


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 9999), st.integers(1, 3))
def test_c126_patches_are_an_opening_by_a_disk(seed: int, radius: int) -> None:
    rng = np.random.default_rng(seed)
    differs = uniform_filter(rng.random((30, 34)), 3) > 0.5
    pad = ((radius, radius), (radius, radius))
    inside = np.pad(differs, pad, constant_values=True)  # what lies beyond the raster erodes nothing
    wanted = binary_opening(inside, disk(radius).astype(bool))[radius:-radius, radius:-radius]
    found = in_patches(differs, np.ones_like(differs), radius)
    assert (found <= differs).all()
    inner = (slice(2 * radius, -2 * radius),) * 2
    np.testing.assert_array_equal(found[inner], wanted[inner])


@pytest.mark.parametrize("kind", ["binary", "several", "classes"])
def test_c126_doubt_is_one_minus_the_probability_of_the_label(kind: str, tmp_path: Path) -> None:
    rng, place = np.random.default_rng(3), grid((30, 40))
    labels = rng.integers(0, 3 if kind == "several" else 2, (30, 40)).astype(np.uint8)
    labels[:4] = 255
    mask = write_mask(tmp_path / "labels.tif", labels, place)
    if kind == "classes":
        classes = rng.integers(0, 2, (30, 40)).astype(np.uint8)
        path, p = write_mask(tmp_path / "map.tif", classes, place), np.stack([classes == 0, classes == 1]).astype(float)
    else:
        raw = rng.random((3 if kind == "several" else 2, 30, 40)).astype(np.float32)
        p = raw / raw.sum(axis=0)
        names = ("water:land", "water:sea", "water:ice") if kind == "several" else ("water",)
        path = write_probabilities(tmp_path / "map.tif", p if kind == "several" else p[1:], place, names)
    total, count = 0.0, 0
    for (row, col), label in np.ndenumerate(labels):
        if label != 255:
            count += 1
            total += (1 - p[label, row, col]) * (p[:, row, col].argmax() != label)
    with RasterReader(mask) as truth, PredictedMap(path, place, None) as found:
        windows = list(disagreements(truth, found, 0, 512, 0))
        parts = list(disagreements(truth, found, 0, 13, 0))
    assert len(windows) == 1
    assert windows[0].labelled == count == sum(part.labelled for part in parts)
    assert windows[0].doubt == pytest.approx(total / count, rel=1e-5)
    assert sum(part.doubt * part.labelled for part in parts) == pytest.approx(total, rel=1e-5)


def test_c126_shifts_of_large_scenes_are_those_of_their_windows_together(
    scenes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from swath.geo.windows import ConstantSize
    from swath.prediction import label_shifts

    found = []
    for size in (1024, 50):
        monkeypatch.setattr(label_shifts, "BLOCK", ConstantSize(size=size, min_overlap=0))
        with (
            RasterReader(scenes / "scenes/north/b.tif") as image,
            RasterReader(scenes / "scenes/labels/b.tif") as labels,
        ):
            found.append(shifts_of_scene(BY_LABEL, SceneBands(image, labels, 0))["label"])
    assert (found[0].rows, found[0].cols) == (found[1].rows, found[1].cols) == (-5, 7)
    assert found[0].strength == pytest.approx(found[1].strength, abs=1e-9)


def test_c126_without_edges_and_without_labels_there_is_no_shift(scenes: Path) -> None:
    place = grid(SHAPE)
    write_mask(scenes / "scenes/labels/a.tif", np.zeros(SHAPE, np.uint8), place)
    results = {job.key: job.run() for job in config(scenes).jobs()}
    assert results["a"]["shift"] == {}
    assert results["e"] == {"disagreement": [], "shift": {}}
    noise = write_image(scenes / "noise.tif", np.random.default_rng(1).gamma(9, 1 / 9, SHAPE)[None], place)
    with RasterReader(noise) as image, RasterReader(scenes / "scenes/labels/b.tif") as labels:
        shift = shifts_of_scene(BY_LABEL, SceneBands(image, labels, 0))["label"]
    assert not BY_LABEL.believes(shift)


def test_c126_flagged_pixels_of_the_image_do_not_count(scenes: Path) -> None:
    """A bright block that the labels do not have draws the shift to itself unless it is flagged."""
    image = read_image(scenes / "scenes/north/b.tif")
    flags = np.zeros(SHAPE, np.float32)
    flags[30:90, 20:110] = 1
    image[0, 30:90, 20:110] = np.where(blobs((60, 90), seed=1)[:, ::-1], 1e-4, 50)
    path = write_image(scenes / "flagged.tif", np.stack([image[0], flags]), grid(SHAPE), ("band_1", "QA"))
    shifts = {}
    with RasterReader(path) as reader, RasterReader(scenes / "scenes/labels/b.tif") as labels:
        for flagged in (None, "QA"):
            search = replace(BY_LABEL, flagged=flagged)
            shifts[flagged] = shifts_of_scene(search, SceneBands(reader, labels, 0))["label"]
    assert (shifts["QA"].rows, shifts["QA"].cols) == (-5, 7)
    assert shifts["QA"].strength > 2 * shifts[None].strength


# ------------------------------------------------------------------------------------------------------------- refused


def test_c126_what_cannot_be_compared_is_refused_by_name(scenes: Path) -> None:
    with pytest.raises(ConfigError, match="-P predictions_path="):
        config(scenes, shift=None, predictions_path=None)
    shutil.copytree(scenes / "maps", scenes / "more")
    with pytest.raises(CatalogError, match="several folders have maps of a, b"):
        config(scenes, predictions_path=f"{scenes}/maps;{scenes}/more").jobs()
    (scenes / "empty/classes").mkdir(parents=True)
    with pytest.raises(CatalogError, match="no map is of a labelled scene"):
        config(scenes, shift=None, predictions_path=str(scenes / "empty")).jobs()
    small = grid((20, 20))
    path = write_mask(scenes / "small.tif", np.zeros((20, 20), np.uint8), small)
    with pytest.raises(RasterError, match=r"small\.tif: not on the grid of its scene: size"):
        PredictedMap(path, grid(SHAPE), None)
    p = write_probabilities(scenes / "p.tif", np.zeros((2, 20, 20), np.float32), small, ("ice", "water"))
    with pytest.raises(RasterError, match="no task snow; it has ice, water"):
        PredictedMap(p, small, "snow")
    missing = replace(BY_LABEL, pairs={"x": ShiftPair(reference="label", image="NDVI")})
    with pytest.raises(ConfigError, match="NDVI needs N or NIR or nir"):
        config(scenes, shift=missing).jobs()[0].run()


# ---------------------------------------------------------------------------------------------------------------- real


@pytest.mark.real_data
def test_c126_the_known_fault_of_real_labels_is_on_top(real_data: Path, tmp_path: Path, script: Script) -> None:
    """aoi4: a patch of grey ground that its polygons call flooded, against a threshold on smoothed VV backscatter."""
    args = {"input_path": real_data / "train", "executor": "serial"}
    assert script("generate_3b_images", "configs/unosat/generate_3b_images.py", output_path=tmp_path / "s", **args) == 0
    assert script("rasterize", "configs/unosat/rasterize.py", output_path=tmp_path / "m", **args) == 0
    for row in read_scenes(tmp_path / "s").to_dict("records"):
        with RasterReader(Path(row["image"])) as reader:
            vv = reader.image(bands=reader.info.numbers_of(["vv"], ""))[0]
            seen = np.isfinite(vv)
            mean = uniform_filter(np.where(seen, vv, 0), 5) / np.maximum(uniform_filter(seen.astype(float), 5), 1e-6)
            dark = 10 * np.log10(np.maximum(mean, 1e-6)) < -17.6
            write_mask(
                tmp_path / "maps/classes" / row["area"] / f"{row['key']}.tif",
                np.where(seen, dark, 255).astype(np.uint8), reader.info.grid,
            )  # fmt: skip
    table = done(
        FindLabelFaultsConfig(
            input_path=str(tmp_path / "s"), masks_path=str(tmp_path / "m"), output_path=str(tmp_path / "faults"),
            predictions_path=str(tmp_path / "maps"), pictures=1,
        )
    )  # fmt: skip
    assert table.loc[0, "area"] == "aoi4"
    assert table.loc[0, "doubt"] > 0.5
    assert table.loc[0, "false_target"] > 0.5
