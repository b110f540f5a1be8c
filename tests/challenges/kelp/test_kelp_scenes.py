"""Kelp tiles: generated ones in the challenge's format, their import in both layouts, and what import refuses."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import rasterio

from swath.challenges.kelp.import_scenes import ImportKelpConfig, kelp_jobs
from swath.challenges.kelp.product import BANDS, COLUMNS, MISSING, OPTICAL, SATURATED, SIDE
from swath.challenges.kelp.simulate import METADATA_NAME, KelpScenesConfig
from swath.config import load
from swath.data.leakage.embeddings import BandThumbnail
from swath.data.leakage.likeness import as_text
from swath.data.leakage.scene_groups import group_by_vectors
from swath.data.splits.assign import AssignFoldsConfig
from swath.data.tables import SCENES, read_scenes
from swath.errors import CatalogError, RasterError, SwathError
from swath.geo.layout import RasterSpec
from swath.geo.raster import RasterReader, describe, read_labels
from swath.geo.raster_writer import write_raster
from swath.notices import collected
from tests.conftest import Script


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 tiles of 6 places, one of them open sea, one like another."""
    folder = tmp_path_factory.mktemp("kelp") / "input"
    make(folder)
    return folder


def make(folder: Path, **changes: object) -> None:
    config = KelpScenesConfig(output_path=str(folder), aois=6, tiles=16, **changes)  # type: ignore[arg-type]
    config.finish({job.key: job.run() for job in config.jobs()})


@pytest.fixture
def source(made: Path, tmp_path: Path) -> Path:
    """A copy to damage; files are linked until they are replaced."""
    return Path(shutil.copytree(made, tmp_path / "input", copy_function=lambda a, b: Path(b).hardlink_to(a)))


def planted(made: Path) -> pd.DataFrame:
    return pd.read_csv(made / "truth" / "tiles.csv").set_index("tile_id")


def stored(path: Path) -> np.ndarray:
    with rasterio.open(path) as dataset:
        return dataset.read()


def config_of(source: Path, **changes: object) -> ImportKelpConfig:
    output = str(source.parent / "scenes")
    return ImportKelpConfig(input_path=str(source), output_path=output, **changes)  # type: ignore[arg-type]


def refused(source: Path, **changes: object) -> str:
    config = config_of(source, **changes)
    with pytest.raises(SwathError) as error:
        [job.run() for job in config.jobs()]
    return str(error.value)


# ---------------------------------------------------------------------------------------------------------- generated


def test_c20_generated_tiles_are_in_the_format_of_the_challenge(made: Path) -> None:
    truth, images = planted(made), sorted(made.glob("t*/images/*.tif"))
    assert len(images) == len(truth) == 16
    table = pd.read_csv(made / METADATA_NAME)
    assert list(table.columns) == list(COLUMNS)
    assert len(table) == 16 + int(truth["in_train"].sum())  # test tiles have no row of labels
    for path in images:
        info = describe(path)
        assert (info.grid.shape, info.dtype, info.nodata, info.grid.crs) == ((SIDE, SIDE), "int32", None, None)
        image = stored(path)
        row = truth.loc[path.stem.split("_")[0]]
        optical, qa, height = image[:5], image[5], image[6]
        measured = optical[(optical != MISSING) & (optical != SATURATED)]
        assert np.quantile(measured, 0.01) > 6000
        assert np.quantile(measured, 0.99) < 36000
        assert set(np.unique(qa)) <= {0, 1}
        assert bool((optical == MISSING).any()) == row["is_striped"]
        assert bool((optical == SATURATED).any()) == row["is_saturated"]
        assert bool((height == MISSING).any()) == row["lacks_elevation"]
        assert (qa[(optical == MISSING).any(axis=0)] == 1).all()
        if row["is_sea"]:
            assert set(np.unique(height)) <= {0, MISSING}


def test_c07_generated_tiles_follow_the_seed(made: Path, tmp_path: Path) -> None:
    for name, seed in (("again", 0), ("other", 1)):
        config = KelpScenesConfig(output_path="x", aois=6, tiles=16, seed=seed)
        job = config.scenes_to_make(tmp_path / name)[0]
        job.run()
    first = sorted((tmp_path / "again").glob("*/images/*.tif"))
    assert first
    for path in first:
        twin = made / path.relative_to(tmp_path / "again")
        assert (stored(path) == stored(twin)).all()
    assert {p.name for p in first}.isdisjoint(p.name for p in (tmp_path / "other").rglob("*.tif"))


def test_c21_planted_faults_are_what_the_truth_says(made: Path) -> None:
    truth = planted(made)
    wrong = truth[truth["is_mislabelled"]]
    moved = truth[truth["shift_rows"] != 0]
    assert len(wrong) == 1
    assert len(moved) == 2
    mask = read_labels(made / "train" / "masks" / f"{wrong.index[0]}_kelp.tif")
    assert mask.mean() == pytest.approx(0.9, abs=0.001)
    assert truth.groupby("aoi")["in_train"].nunique().max() == 2  # a place on both sides


@pytest.mark.slow
def test_no_threshold_of_one_index_finds_kelp_as_well_as_a_classifier_of_bands_and_neighbours(tmp_path: Path) -> None:
    from sklearn.ensemble import HistGradientBoostingClassifier

    config = KelpScenesConfig(output_path="x", aois=24, tiles=24, seed=3, test_share=0.4)
    jobs = [job for job in config.scenes_to_make(tmp_path) if not job.is_sea]
    rows = [row for job in jobs for row in job.run() if not row["is_mislabelled"] and not row["shift_rows"]]
    paths = {path.stem: path for path in tmp_path.rglob("*.tif")}
    parts: dict[bool, list[tuple[np.ndarray, np.ndarray]]] = {True: [], False: []}
    for row in rows:
        image = stored(paths[f"{row['tile_id']}_satellite"]).astype(np.float32)
        nir, red = image[1] * 2.75e-5 - 0.2, image[2] * 2.75e-5 - 0.2
        index_HW = np.clip((nir - red) / np.maximum(nir + red, 0.01), -1, 1)
        water = np.median(image[:5, image[6] <= 0], axis=1)[:, None, None]
        around = [cv2.blur(band, (side, side)) for band in (index_HW, *(image[:5] - water)) for side in (3, 7, 15)]
        features = np.stack([index_HW, *(image[:5] - water), *around]).reshape(24, -1).T
        use = (image[6] == 0).ravel() & (image[5] == 0).ravel()
        labels = stored(paths[f"{row['tile_id']}_kelp"]).ravel()
        parts[row["in_train"]].append((features[use], labels[use]))
    (x, y), (test_x, test_y) = (tuple(map(np.concatenate, zip(*parts[side], strict=True))) for side in (True, False))
    cuts = np.linspace(-0.5, 0.9, 57)
    index = max(dice(test_x[:, 0] > cut, test_y) for cut in cuts)  # the best of them on the test itself
    some = np.random.default_rng(0).choice(len(x), 60_000, replace=False)
    model = HistGradientBoostingClassifier(max_iter=60, random_state=0).fit(x[some], y[some])
    learned = dice(model.predict(test_x) > 0, test_y)
    assert 0.2 < index < 0.8
    assert learned > index + 0.08


def dice(found: np.ndarray, truth: np.ndarray) -> float:
    return float(2 * (found & (truth == 1)).sum() / (found.sum() + (truth == 1).sum()))


# ------------------------------------------------------------------------------------------------------------- import


def test_c20_import_names_the_files_and_says_what_they_are_like(made: Path, tmp_path: Path, script: Script) -> None:
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*.tif")}
    args = {"input_path": made, "output_path": tmp_path / "scenes", "truth_path": made / "truth" / "labels"}
    assert script("import_scenes", "configs/kelp/import_scenes.py", executor="serial", **args) == 0
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*.tif")} == before
    assert not list((tmp_path / "scenes").rglob("*.tif"))
    scenes = read_scenes(tmp_path / "scenes").set_index("key")
    truth = planted(made)
    assert len(scenes) == 16
    for key, row in scenes.iterrows():
        assert (row["original_split"] == "train") == truth.loc[key, "in_train"]
        assert row["target_pixels"] == truth.loc[key, "kelp_pixels"]
        image = stored(Path(row["image"]))
        with RasterReader(Path(row["image"]), (row["nodata"],), row["bands"]) as reader:
            assert reader.info.bands == BANDS
            assert (np.isnan(reader.image()) == (image == MISSING)).all()
        qa, height = image[5], image[6]
        assert row["corrupted_pixels"] == (qa == 1).sum()
        assert row["qa_ok"] == (not (qa == 1).any())
        assert row["dem_missing_pct"] == pytest.approx(100 * (height == MISSING).mean())
        assert row["dem_zero_pct"] == pytest.approx(100 * (height == 0).mean())
        assert row["almost_all_water"] == ((height <= 0).mean() > 0.98)
        assert row["missing_pct"] == pytest.approx(100 * (image[: len(OPTICAL)] == MISSING).any(axis=0).mean())
        assert row["high_target"] == truth.loc[key, "is_mislabelled"]


def test_c13_a_second_import_does_only_what_is_missing(
    source: Path, tmp_path: Path, script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    args = {"input_path": source, "output_path": tmp_path / "scenes", "executor": "serial"}
    assert script("import_scenes", "configs/kelp/import_scenes.py", **args) == 0
    first = (tmp_path / "scenes" / SCENES).read_bytes()
    mask = sorted((source / "train" / "masks").glob("*.tif"))[0]
    labels = read_labels(mask)
    mask.unlink()
    spec = RasterSpec(grid=describe(sorted(source.rglob("*.tif"))[0]).grid, bands=("",), dtype="uint8")
    write_raster(mask, 1 - labels, spec)
    capsys.readouterr()
    assert script("import_scenes", "configs/kelp/import_scenes.py", **args) == 0
    assert "1 of 16 items done now, 15 before" in capsys.readouterr().out
    assert (tmp_path / "scenes" / SCENES).read_bytes() != first


def test_c20_both_layouts_give_the_same_table(made: Path, tmp_path: Path) -> None:
    make(tmp_path / "archives", layout="archives")
    assert (tmp_path / "archives" / "train_satellite").is_dir()
    rows = [
        {job.key: {n: v for n, v in job.run().items() if n not in ("image", "labels")} for job in kelp_jobs(config, tmp_path)}
        for config in (config_of(made), config_of(tmp_path / "archives"))
    ]  # fmt: skip
    assert rows[0] == rows[1]


def test_c20_labels_that_are_no_bytes_are_copied_as_bytes(source: Path) -> None:
    for mask in (source / "train" / "masks").glob("*.tif"):
        labels = read_labels(mask)
        grid = describe(mask).grid
        mask.unlink()
        write_raster(mask, labels.astype(np.int32), RasterSpec(grid=grid, bands=("",), dtype="int32"))
    config = config_of(source)
    jobs = [job for job in config.jobs() if job.labels]  # type: ignore[attr-defined]
    row = jobs[0].run()
    assert row["labels"].startswith("labels/")
    assert (read_labels(config.output / row["labels"])[0] == stored(jobs[0].labels)[0]).all()  # type: ignore[attr-defined]


def without_twin(source: Path) -> str:
    mask = sorted((source / "train" / "masks").glob("*.tif"))[0]
    mask.unlink()
    return mask.name[:8]


def without_image(source: Path) -> str:
    image = sorted((source / "train" / "images").glob("*.tif"))[0]
    image.unlink()
    return image.name[:8]


def without_row(source: Path) -> str:
    path = source / METADATA_NAME
    lines = path.read_text().splitlines()
    path.unlink()
    path.write_text("\n".join([lines[0], *lines[2:]]))
    return lines[1][:8]


@pytest.mark.parametrize("damage", [without_twin, without_image, without_row])
def test_c20_incomplete_tiles_are_named_and_may_be_left_out(damage: Callable[[Path], str], source: Path) -> None:
    tile = damage(source)
    message = refused(source)
    assert tile in message
    assert "-P incomplete=leave_out" in message
    with collected() as left_out:
        jobs = config_of(source, incomplete="leave_out").jobs()
    assert tile not in {job.key for job in jobs}
    assert len(jobs) == 15
    assert any(tile in notice.why for notice in left_out)


def test_c20_wrong_files_are_refused_by_name(source: Path, tmp_path: Path) -> None:
    image = sorted((source / "train" / "images").glob("*.tif"))[0]
    deeper = source / "train" / "images" / "copy" / image.name
    deeper.parent.mkdir()
    shutil.copy(image, deeper)
    assert f"both {image.name[:8]}" in refused(source)
    shutil.rmtree(deeper.parent)
    shutil.copy(image, source / "test" / "images" / image.name)
    assert image.name[:8] in refused(source)
    (source / "test" / "images" / image.name).unlink()
    pixels = stored(image)[:, :300]
    image.unlink()
    grid = describe(sorted(source.rglob("*.tif"))[0]).grid
    spec = RasterSpec(grid=type(grid)(None, grid.transform, (300, SIDE)), bands=("",) * 7, dtype="int32")
    write_raster(image, pixels, spec)
    with pytest.raises(RasterError, match=f"{image.name}: is 300 x 350 px of 7 bands"):
        [job.run() for job in config_of(source).jobs()]


def test_c20_damaged_metadata_is_refused_by_row_and_value(source: Path) -> None:
    path = source / METADATA_NAME
    text = path.read_text()
    path.unlink()
    path.write_text(text.replace(",kelp,True", ",Kelp,True", 1))
    assert "'Kelp'" in refused(source)
    path.write_text(text + text.splitlines()[1] + "\n")
    assert "twice" in refused(source)
    path.write_text(text.replace("in_train", "train"))
    assert "lacks the columns in_train" in refused(source)
    path.unlink()
    assert len(config_of(source).jobs()) == 16  # folders say the sides as well


def test_c20_a_folder_without_tiles_is_refused(tmp_path: Path) -> None:
    assert "train_satellite" in refused(tmp_path)


# -------------------------------------------------------------------------------------------------------------- chain


def test_c18_c19_places_are_found_and_folds_take_none_apart(made: Path, tmp_path: Path, script: Script) -> None:
    steps = (
        ("import_scenes", {"input_path": made, "output_path": tmp_path / "scenes"}),
        ("group_scenes", {"input_path": tmp_path / "scenes", "output_path": tmp_path / "grouped"}),
        ("assign_folds", {"input_path": tmp_path / "grouped", "output_path": tmp_path / "folds", "folds.folds": 2}),
    )
    for name, args in steps:
        assert script(name, f"configs/kelp/{name}.py", executor="serial", **args) == 0
    table = read_scenes(tmp_path / "folds").set_index("key")
    truth = planted(made)
    truth["place"] = [key if row["is_sea"] else f"aoi {row['aoi']}" for key, row in truth.iterrows()]
    pairs = table["area"].groupby(truth["place"]).nunique()
    assert (pairs == 1).all()
    assert table["area"].nunique() == truth["place"].nunique()
    both = truth.groupby("aoi")["in_train"].transform("nunique") > 1
    assert set(table.index[table["on_several_sides"]]) == set(truth.index[both & ~truth["is_sea"]])
    wrong = truth.index[truth["is_mislabelled"]][0]
    assert table.loc[wrong, "left_out"] == "high_target"
    assert table.loc[wrong, ["split_0", "split_1"]].isna().all()
    assert (tmp_path / "folds" / "left_out.csv").read_text() == f"key,reason\n{wrong},high_target\n"
    assert all(Path(image).is_file() for image in table["image"])
    assert isinstance(load("configs/kelp/assign_folds.py", AssignFoldsConfig), AssignFoldsConfig)


def test_c18_a_gap_in_elevation_does_not_take_a_tile_from_its_place() -> None:
    from swath.challenges.kelp.simulate_coast import elevation, simulate_coast

    embedding, keys, texts = BandThumbnail(band="DEM"), [], {}
    for place in range(4):
        coast = simulate_coast(np.random.default_rng(place))
        for date in range(2):
            height = elevation(coast, np.random.default_rng((place, date))).astype(np.float32)
            if date:
                height[:, 230:] = np.nan
            vector = embedding.vector(height[None])
            assert vector is not None
            key = f"p{place}_{date}"
            keys.append(key)
            texts[key] = as_text(vector)
    group = group_by_vectors(pd.Series(keys), texts, 0.97)
    assert group.tolist() == [f"p{key[1]}_0" for key in keys]


def test_both_of_two_layouts_are_refused(source: Path) -> None:
    shutil.copytree(source / "train" / "images", source / "train_satellite")
    with pytest.raises(CatalogError, match="train/images and train_satellite"):
        config_of(source).jobs()
