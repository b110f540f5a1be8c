"""Sea ice from scenes to scores: whole scenes as tiles, resolutions side by side, and scores on the challenge's grid."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from sklearn import metrics as sk
from sklearn.dummy import DummyClassifier

from swath import config as configs
from swath.challenges.ai4arctic.charts import CHARTS
from swath.challenges.ai4arctic.import_scenes import ImportIceConfig
from swath.challenges.ai4arctic.simulate import IceScenesConfig
from swath.challenges.ai4arctic.submission import IceSubmissionConfig, read_submission
from swath.challenges.ai4arctic.tasks import AUTOICE, FLOE, SIC, SOD
from swath.data.pairing import by_key
from swath.data.samples.samplers import InverseSize, ShiftCorrection
from swath.data.samples.tile_tables import read_folders
from swath.data.splits.split import RandomSplit, divide
from swath.data.tables import SCENES, read_scenes, write_table
from swath.errors import CatalogError
from swath.geo.layout import RasterSpec
from swath.geo.netcdf import NetcdfReader
from swath.geo.raster import describe, read_labels
from swath.geo.raster_writer import write_raster
from swath.nn.model import Classification, Regression, build_model
from swath.nn.networks.unet import UNet
from swath.scoring.baselines import constant_guesses, constant_metrics
from swath.scoring.composite import combined_frame, combined_text
from swath.scoring.config import ValidateConfig
from swath.scoring.scenes import score_scene
from swath.scoring.table import ScoreTable
from swath.studies.pipeline import PipelineConfig, plan_steps
from swath.training.batches import Batches
from swath.training.config import TrainingConfig
from swath.training.trainer import build_training
from tests.conftest import ROOT, Script
from tests.trainings import quiet, trained

SIZE = 140
CHANNELS = ("nersc_sar_primary", "nersc_sar_secondary", "btemp_18_7v", "btemp_36_5h")
TASKS = {"SIC": Regression(classes=SIC), "SOD": Classification(classes=SOD), "FLOE": Classification(classes=FLOE)}


def imported(source: Path, output: Path, factor: int, **changes: object) -> None:
    config = ImportIceConfig(
        input_path=str(source), output_path=str(output), factor=factor, channels=CHANNELS, **changes,  # type: ignore[arg-type]
    )  # fmt: skip
    write_table(output / SCENES, [job.run() for job in config.scenes_to_import(output)])


@pytest.fixture(scope="module")
def ice(tmp_path_factory: pytest.TempPathFactory, store: str) -> Path:
    """Generated scenes, imported at 80 and 200 m, and tabled whole by the entry points."""
    import importlib

    from swath import tracking

    folder = tmp_path_factory.mktemp("ice")
    made = IceScenesConfig(output_path="unused", train_scenes=6, test_scenes=2, size=SIZE, seed=3)
    for job in made.scenes_to_make(folder / "input"):
        job.run()
    steps: list[tuple[str, str, dict[str, object]]] = []
    for factor in (2, 5):
        imported(folder / "input/test", folder / f"test{factor}", factor, labels_path=str(folder / "input/truth"), ignore_nodata=False)  # fmt: skip
        scenes, whole = folder / f"train{factor}", folder / f"whole{factor}"
        imported(folder / "input/train", scenes, factor)
        steps += [
            ("generate_tiles", "generate_tiles_scenes", {
                "input_path": scenes, "masks_path": scenes / "labels", "output_path": whole,
            }),
            ("generate_tiles_stats", "generate_tiles_stats_scenes", {"input_path": whole}),
        ]  # fmt: skip
    for name, config, overrides in steps:
        arguments = [f"--config_path=configs/ai4arctic/{config}.py", *(f"--{k}={v}" for k, v in overrides.items())]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.argv", [name, *arguments, "--executor=serial"])
            assert tracking.cli(importlib.import_module(name).main) == 0
    return folder


def demo(ice: Path, output: Path, **changes: object) -> TrainingConfig:
    """The pipeline's training on the fixture's scenes, smaller still."""
    config = configs.load("configs/ai4arctic/training_demo.py", TrainingConfig)
    data = replace(config.data, tiles_path=str(ice / "whole5"), crop=32, samples_per_epoch=80)
    validation = replace(config.validation, panels=1, every=1)
    return replace(
        config, data=data, validation=validation, model=partial(config.model, network=partial(UNet, filters=(8, 16))),
        epochs=8, output_path=str(output), device="cpu", **changes,  # type: ignore[arg-type]
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------------------- whole scenes


def test_c38_c78_a_table_of_whole_scenes_leaves_them_where_they_are(ice: Path) -> None:
    table = gpd.read_parquet(ice / "whole5" / "tile_stats.parquet")
    scenes = read_scenes(ice / "train5").set_index("key")
    assert sorted(table["scene"]) == sorted(scenes.index)
    assert not list((ice / "whole5").rglob("*.tif"))
    for row in table.itertuples():
        assert (row.row, row.col, row.height, row.width) == (0, 0, *scenes.loc[row.scene, ["height", "width"]])
        assert (row.core_height, row.core_width) == (row.height, row.width)
        labels = read_labels(ice / "whole5" / row.mask)
        for band, chart in enumerate(CHARTS):
            counts = np.bincount(labels[band].ravel(), minlength=256)[:255]
            found = getattr(row, f"classes_{chart}")
            np.testing.assert_array_equal(found, counts[: len(found)])  # 255 is no class
            assert not counts[len(found) :].any()


def test_c38_crops_of_whole_scenes_have_the_labels_that_the_config_wants(ice: Path, tmp_path: Path) -> None:
    config = demo(ice, tmp_path)
    config = replace(config, data=replace(config.data, cache="off", min_labelled=0.9))
    corners = set()
    for batch in Batches(config, torch.device("cpu"), list(config.tasks)).training_loader(0, epoch=0):
        labelled = torch.stack([target != 255 for target in batch["target"].values()]).any(0)
        assert (labelled.flatten(1).float().mean(1) >= 0.9).all()
        assert batch["image"].shape == (8, 4, 32, 32)
        corners |= {(window.row, window.col) for window in batch["window"]}
    assert len(corners) > 48  # of 96 draws: no fixed tiles


# ----------------------------------------------------------------------------------------------------------- resolutions


def test_c55_scenes_of_two_resolutions_are_one_set_and_drawn_equally_often(ice: Path, tmp_path: Path) -> None:
    config = demo(ice, tmp_path)
    folders = [ice / "whole2", ice / "whole5"]
    root, tiles = read_folders(folders)
    assert tiles["key"].is_unique
    assert tiles["factor"].value_counts().to_dict() == {2: 6, 5: 6}
    assert all((root / path).is_file() for path in [*tiles["image"], *tiles["mask"]])
    kept = tiles[(tiles["factor"] == 5) | (tiles["scene"] == tiles["scene"].min())]  # one scene against six
    drawn = kept["factor"].to_numpy()[InverseSize().indices(kept, 4000, np.random.default_rng(0))]
    assert (drawn == 5).mean() == pytest.approx(0.5, abs=0.04)
    sides = divide(tiles, RandomSplit(fractions=(0.5, 0.5, 0.0), by="scene"), ("same area",))
    assert not set(sides.training["scene"]) & set(sides.validation["scene"])
    both = replace(config, data=replace(config.data, tiles_path=";".join(map(str, folders)), cache="off"))
    keys = {key.rpartition("@")[2] for batch in Batches(both, torch.device("cpu"), list(both.tasks)).training_loader(0, epoch=0) for key in batch["key"]}  # fmt: skip
    assert keys == {"whole2", "whole5"}
    with pytest.raises(CatalogError, match="named twice"):
        read_folders([ice / "whole2"] * 2)


def test_c54_a_training_draws_scenes_as_the_test_set_has_them(ice: Path, tmp_path: Path) -> None:
    config = demo(ice, tmp_path)
    sampler = ShiftCorrection(test_path=str(ice / "test5"), fields=("provider",))
    config = replace(config, data=replace(config.data, sampler=sampler, cache="off", samples_per_epoch=400, crop=8, min_labelled=0.0))  # fmt: skip
    batches = Batches(config, torch.device("cpu"), list(config.tasks))
    drawn = [key.split("/")[0][-3:] for b in batches.training_loader(0, epoch=0) for key in b["key"]]
    train, test = batches.folds.train["provider"], read_scenes(ice / "test5")["provider"]
    assert set(train) == {"cis", "dmi"}
    share = {name: (test == name).mean() or 1 / 6 for name in ("cis", "dmi")}
    assert drawn.count("cis") / len(drawn) == pytest.approx(share["cis"] / sum(share.values()), abs=0.08)


# ---------------------------------------------------------------------------------------------------------------- scores


def autoice(truth: dict[str, NDArray[np.uint8]], guess: dict[str, NDArray[np.uint8]]) -> float:
    """The challenge's score by scikit-learn, of flat arrays by chart; 255 does not count."""
    values = {}
    for chart in CHARTS:
        seen = truth[chart] != 255
        pair = truth[chart][seen], guess[chart][seen]
        values[chart] = sk.r2_score(*pair) if chart == "SIC" else sk.f1_score(*pair, average="weighted")
    return float((2 * values["SIC"] + 2 * values["SOD"] + values["FLOE"]) / 5)


def guesses_at_200_m(ice: Path, folder: Path) -> None:
    """Charts at 200 m: the labels with a third of the pixels drawn anew, and a gap."""
    rng = np.random.default_rng(1)
    for path in by_key(ice / "test5" / "labels").values():
        labels = read_labels(path)
        drawn = np.stack([rng.integers(0, n, labels.shape[1:]) for n in CHARTS.values()])
        classes = np.where((rng.random(labels.shape[1:]) < 0.3) | (labels == 255), drawn, labels).astype(np.uint8)
        classes[:, 4, :5] = 255
        spec = RasterSpec(grid=describe(path).grid, bands=tuple(CHARTS), dtype="uint8", nodata=255)
        write_raster(folder / path.parent.name / path.name, classes, spec)


def official(
    ice: Path, submitted: Path
) -> dict[str, tuple[dict[str, NDArray[np.uint8]], dict[str, NDArray[np.uint8]]]]:
    """By scene: charts of the truth files and of a submission, flat."""
    found = {}
    for key, charts in read_submission(submitted).items():
        with NetcdfReader(ice / "input" / "truth" / f"{key}_prep_reference.nc") as reader:
            truth = {chart: reader.read(chart).ravel() for chart in CHARTS}
        found[key] = truth, {chart: values.ravel() for chart, values in charts.items()}
    return found


def test_c76_c82_scores_at_80_m_are_those_of_the_submission_as_a_whole_and_by_condition(
    ice: Path, tmp_path: Path
) -> None:
    guesses_at_200_m(ice, tmp_path / "classes")
    submission = IceSubmissionConfig(
        input_path=str(tmp_path / "classes"), scenes_path=str(ice / "test5"), output_path=str(tmp_path / "out")
    ).submit({})
    by_scene = official(ice, submission.archive)
    scenes = read_scenes(ice / "test2").set_index("key", drop=False)
    config = configs.load("configs/ai4arctic/validate.py", ValidateConfig)
    table = ScoreTable(config.tasks, replace(config.scoring, resamples=50))
    truth = by_key(ice / "test2" / "labels")
    for key, path in by_key(tmp_path / "classes").items():
        score = score_scene(path, truth[key], None, config.tasks, on=config.scoring.grid)
        table.add(key, str(scenes.loc[key, "area"]), score, scenes.loc[key].to_dict())
    everything = [{c: np.concatenate([pair[i][c] for pair in by_scene.values()]) for c in CHARTS} for i in (0, 1)]
    assert table.metrics("test")["test/combined"] == pytest.approx(autoice(*everything), abs=1e-9)
    frame = combined_frame(table)
    for field in ("area", "month", "provider"):
        rows = frame[frame["of"] == field].set_index("name")
        assert set(rows.index.astype(str)) == set(scenes[field].astype(str))
        for value, row in rows.iterrows():
            keys = scenes.index[scenes[field].astype(str) == str(value)]
            some = [{c: np.concatenate([by_scene[k][i][c] for k in keys]) for c in CHARTS} for i in (0, 1)]
            assert row["combined"] == pytest.approx(autoice(*some), abs=1e-9)
    text = "\n".join(combined_text(frame, table.settings.combined))
    assert text.startswith("combined = (2 SIC/r2 + 2 SOD/f1_weighted + 1 FLOE/f1_weighted) / 5")


def test_c76_a_map_on_other_ground_is_refused_and_the_same_grid_is_asked_for(
    ice: Path, tmp_path: Path, script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    guesses_at_200_m(ice, tmp_path)
    paths = {"preds_path": tmp_path, "gt_path": ice / "test2" / "labels", "scenes_path": ice / "test2"}
    assert script("validate", "configs/ai4arctic/validate.py", **paths, scoring__grid="same") == 1
    assert 'scoring.grid="labels"' in capsys.readouterr().err
    for path in by_key(tmp_path).values():
        half = read_labels(path)[:, :20]
        grid = replace(describe(path).grid, shape=half.shape[1:])
        write_raster(path, half, RasterSpec(grid=grid, bands=tuple(CHARTS), dtype="uint8", nodata=255))
    assert script("validate", "configs/ai4arctic/validate.py", **paths) == 1
    assert "do not cover the same ground" in capsys.readouterr().err


def test_c76_a_constant_guess_scores_as_the_dummy_of_sklearn(ice: Path) -> None:
    table = gpd.read_parquet(ice / "whole5" / "tile_stats.parquet")
    labels = np.concatenate([read_labels(ice / "whole5" / p).reshape(3, -1) for p in table["mask"]], axis=1)
    guesses = constant_guesses(table, TASKS)
    sic = labels[0][labels[0] != 255].astype(float)
    assert guesses["SIC"] == round(sic.mean())
    rng = np.random.default_rng(0)
    for band, name in ((1, "SOD"), (2, "FLOE")):
        seen = labels[band][labels[band] != 255]
        dummy = DummyClassifier(strategy="most_frequent").fit(np.zeros((len(seen), 1)), seen)
        truth = rng.integers(0, CHARTS[name], 500)
        totals = {name: sk.confusion_matrix(truth, rng.permutation(truth), labels=range(CHARTS[name]))}
        found = constant_metrics(totals, guesses, TASKS, {}, "test")[f"test/{name}/constant_f1_weighted"]
        assert guesses[name] == dummy.predict(np.zeros((1, 1)))[0]
        expected = sk.f1_score(truth, dummy.predict(np.zeros((500, 1))), average="weighted")
        assert found == pytest.approx(expected)
    assert constant_guesses(table.drop(columns=["classes_SOD"]), TASKS).keys() == {"SIC", "FLOE"}


@pytest.mark.system
def test_c76_c82_a_small_training_beats_the_constant_guess_and_keeps_the_best_of_each_task(
    ice: Path, tmp_path: Path
) -> None:
    training, _ = trained(demo(ice, tmp_path))
    kept = training.kept_weights() if (tmp_path / "unfinished").is_dir() else {}
    metrics = ["validation/combined", "validation/SIC/r2", "validation/SOD/f1_weighted", "validation/FLOE/f1_weighted"]
    assert list(training.selection.metrics) == metrics
    assert {*metrics} <= {*kept}
    for metric in metrics:
        best = max(values[metric] for _, values in training.history if metric in values)
        assert kept[metric][1]["value"] == best
    found = training.scores()["validation"].metrics("best")
    assert found["best/combined"] == pytest.approx(training.best, abs=1e-6)
    assert found["best/combined"] > found["best/constant_combined"] + 0.1
    for score in ("SIC/r2", "SOD/f1_weighted", "FLOE/f1_weighted"):
        folder, _, name = score.partition("/")
        assert found[f"best/{score}"] > found[f"best/{folder}/constant_{name}"]
    assert set(training.scores()["validation"].conditions()["condition"]) == {"area", "month", "provider", "mission"}


# --------------------------------------------------------------------------------------------------------------- configs


TRAININGS = sorted(path.stem for path in (ROOT / "configs" / "ai4arctic").glob("training*.py"))


@pytest.mark.system
@pytest.mark.parametrize("name", TRAININGS)
def test_c58_c60_every_training_of_the_guide_has_a_model_for_three_charts(name: str) -> None:
    config = configs.load(f"configs/ai4arctic/{name}.py", TrainingConfig)
    assert config.validation.metric == "validation/combined"
    assert config.validation.scoring.combined == AUTOICE.combined
    parts = config.channels, config.fill, config.normaliser, config.model, config.tasks
    model = build_model(("hh", "hv", "angle"), *parts).eval()  # type: ignore[arg-type]
    with torch.inference_mode():
        found = model(torch.randn(1, 3, 256, 320))  # eight levels halve it eight times
    assert {task: v.shape[1:] for task, v in found.items()} == {
        task: (t.channels, 256, 320) for task, t in config.tasks.items()
    }
    assert [len(task.classes) for task in config.tasks.values()] == [11, 6, 7]


def test_winners_weights_and_losses() -> None:
    config = configs.load("configs/ai4arctic/training_winners.py", TrainingConfig)
    assert {name: (type(t).__name__, t.weight) for name, t in config.tasks.items()} == {
        "SIC": ("Regression", 1.0), "SOD": ("Classification", 3.0), "FLOE": ("Classification", 3.0),
    }  # fmt: skip
    schedule = config.schedule()
    assert [schedule(i, 150_000) for i in (0, 10_000, 140_000)] == [1.0] * 3
    assert schedule(9_999, 150_000) < 1e-6
    assert config.epochs * config.data.samples_per_epoch // config.data.batch == 150_000  # type: ignore[operator]


def test_c01_the_pipeline_of_the_guide_is_planned_from_scenes_to_submission() -> None:
    chain = configs.load("configs/ai4arctic/pipeline.py", PipelineConfig)
    plan_steps(chain)
    assert [step.entry_point for step in chain.steps][0::8] == ["generate_demo_scenes", "to_submission"]
    outputs = [getattr(configs.load(step.config_path, object), "output_path", None) for step in chain.steps]
    made = [output for output in outputs if output]
    assert len(set(made)) == len(made)


# -------------------------------------------------------------------------------------------------------------- polygons


def test_c98_polygons_of_each_chart(
    ice: Path, tmp_path: Path, script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    guesses_at_200_m(ice, tmp_path / "classes")
    paths = {"input_path": tmp_path / "classes", "executor": "serial"}
    for band, (chart, count) in enumerate(CHARTS.items()):
        classes = ",".join(map(str, range(count)))
        assert script(
            "polygonize", "configs/ai4arctic/polygonize.py", **paths, output_path=tmp_path / chart, task=chart,
            classes=classes,
        ) == 0  # fmt: skip
        for path in by_key(tmp_path / "classes").values():
            polygons = gpd.read_file(tmp_path / chart / f"{path.stem}.gpkg")
            area = polygons.area.groupby(polygons["id"]).sum() / 200**2
            expected = pd.Series(read_labels(path)[band].ravel()).value_counts()
            assert {k: round(v) for k, v in area.items()} == expected.drop(255).to_dict()
    assert script("polygonize", "configs/ai4arctic/polygonize.py", **paths, output_path=tmp_path / "x", task="AGE") == 1
    assert "no band AGE; it has SIC, SOD, FLOE" in capsys.readouterr().err


def test_a_training_on_large_scenes_fits_its_constants_on_crops_of_them(
    ice: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from swath.training import sides

    whole = build_training(demo(ice, tmp_path / "a"), quiet()).learner.model.preprocess.normaliser
    monkeypatch.setattr(sides, "STATISTICS_SIDE", 32)
    crops = build_training(demo(ice, tmp_path / "b"), quiet()).learner.model.preprocess.normaliser
    for name, values in whole.state_dict().items():
        spread = whole.state_dict()["scale"]
        assert ((crops.state_dict()[name] - values).abs() < 0.15 * spread).all()
        assert not torch.equal(crops.state_dict()[name], values)
