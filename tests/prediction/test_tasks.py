"""Several tasks at once, of classes and of steps: tasks come and go by config alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn import metrics as sk

from swath import config as configs
from swath.errors import ConfigError
from swath.geo.raster import RasterReader
from swath.nn.model import Classification, Regression, Task, predict_classes, probabilities
from swath.nn.networks.decoders import TaskDecoders
from swath.nn.networks.unet import UNet
from swath.prediction import rasters
from swath.scoring.config import ScoringConfig
from swath.training.config import TrainingConfig, ValidationConfig
from swath.training.trainer import build_training
from tests.conftest import Script
from tests.synthetic import blobs, grid, write_image, write_mask
from tests.trainings import quiet, small, trained

STEPS = tuple(f"{10 * i} %" for i in range(11))
TASKS: dict[str, Task] = {
    "SIC": Regression(classes=STEPS),
    "SOD": Classification(classes=("water", "new", "young", "old"), weight=3.0),
    "FLOE": Classification(classes=("water", "small", "big"), weight=3.0),
}
COMBINED = {"SIC/r2": 2.0, "SOD/f1_weighted": 2.0, "FLOE/f1_weighted": 1.0}


def charts(seed: int, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """(4, height, width): concentration, stage, floes and an invented chart, that agree on where there is ice."""
    ice = blobs(shape, seed, 0.6)
    more = [blobs(shape, seed + i, 0.5) for i in (100, 200)]
    stack = np.stack([ice * (6 + 2 * more[0] + more[1]), ice * (1 + more[0] + more[1]), ice * (1 + more[0]), more[0]])
    stack[:, :2] = 255
    return stack.astype(np.uint8)


@pytest.fixture(scope="module")
def ice(tmp_path_factory: pytest.TempPathFactory, store: str) -> Path:
    """Tiles of two scenes with four label bands, of which a config may choose."""
    import importlib

    folder = tmp_path_factory.mktemp("ice")
    for i, area in enumerate(("east", "south")):
        place = grid((96, 96), (400_000.0 + 20_000 * i, 3_700_000.0))
        labels = charts(i, place.shape)
        noise = np.random.default_rng(i).normal(0, 0.3, (2, *place.shape))
        bands = np.stack([labels[0] / 10 - 0.5, labels[1] - 1.0]) + noise
        bands[:, :2] = np.nan
        write_image(folder / "scenes" / area / f"{area}.tif", bands.astype(np.float32), place, ("hh", "hv"))
        write_mask(folder / "masks" / area / f"{area}.tif", labels, place, (*TASKS, "AGE"))
    steps = {
        "generate_tiles": {"input_path": folder / "scenes", "masks_path": folder / "masks",
                           "output_path": folder / "tiles", "tiling.size": 32, "tiling.min_overlap": 0},
        "generate_tiles_stats": {"input_path": folder / "tiles"},
    }  # fmt: skip
    for name, overrides in steps.items():
        arguments = [f"--config_path=configs/demo/{name}.py", *(f"--{k}={v}" for k, v in overrides.items())]
        with pytest.MonkeyPatch.context() as patch:
            from swath import tracking

            patch.setattr("sys.argv", [name, *arguments])
            assert tracking.cli(importlib.import_module(name).main) == 0
    return folder / "tiles"


def several(tiles: Path, output: Path, tasks: dict[str, Task], **changes: object) -> TrainingConfig:
    combined = {name: weight for name, weight in COMBINED.items() if name.split("/")[0] in tasks}
    scoring = ScoringConfig(combined=combined if len(tasks) > 1 else {}, scenes_needed=2, resamples=50)
    validation = ValidationConfig(panels=1, metric="validation/combined", scoring=scoring)
    config = small(tiles, output, tasks=tasks, validation=validation, epochs=2)
    model = partial(TaskDecoders, network=partial(UNet, filters=(8, 16)))
    from swath.nn.preprocess.channels import Bands

    return replace(config, model=model, channels=partial(Bands), **changes)  # type: ignore[arg-type]


def test_c60_steps_and_classes_learn_together_and_select_by_the_combined_score(ice: Path, tmp_path: Path) -> None:
    training, _ = trained(several(ice, tmp_path, TASKS, epochs=6))
    best = max(v["validation/combined"] for _, v in training.history if "validation/combined" in v)
    assert training.best == best
    last = [v for _, v in training.history if "validation/combined" in v][-1]
    parts = [last["validation/SIC/r2"], last["validation/SOD/f1_weighted"], last["validation/FLOE/f1_weighted"]]
    assert last["validation/combined"] == pytest.approx((2 * parts[0] + 2 * parts[1] + parts[2]) / 5)
    first, end = ([v for _, v in training.history if "training/loss_SIC" in v][i] for i in (0, -1))
    assert end["training/loss_SIC"] < first["training/loss_SIC"]
    assert end["training/loss"] == pytest.approx(
        end["training/loss_SIC"] + 3 * end["training/loss_SOD"] + 3 * end["training/loss_FLOE"], rel=1e-5
    )


@pytest.mark.system
def test_c60_a_task_is_dropped_or_invented_by_the_config_alone(ice: Path, tmp_path: Path) -> None:
    for names in (("SIC", "SOD"), ("FLOE", "SIC"), ("SIC", "SOD", "FLOE", "AGE")):
        tasks = {name: TASKS.get(name, Classification(classes=("young", "old"))) for name in names}
        training, _ = trained(several(ice, tmp_path / "_".join(names), tasks, epochs=1))
        logged = training.history[-1][1]
        assert {name for name in names if f"validation/{name}/iou_fg" in logged} == set(names)
        assert next(iter(training.scores().values())).metrics("best")["best/combined_low"] is not None


def test_c65_weights_of_a_task_that_is_not_there_are_named(ice: Path, tmp_path: Path) -> None:
    config = several(ice, tmp_path, {"SOD": TASKS["SOD"], "FLOE": TASKS["FLOE"]})
    scoring = replace(config.validation.scoring, combined=COMBINED)
    config = replace(config, validation=replace(config.validation, scoring=scoring))
    with pytest.raises(ConfigError, match=r"combined: no score SIC/r2\. There are: .*SOD/f1_weighted"):
        build_training(config, quiet())


def test_c66_a_number_is_rounded_and_clamped_never_wrapped() -> None:
    values = torch.tensor([-1.2, 0.4, 0.6, 9.7, 10.4, 37.0]).reshape(1, 1, 1, 6)
    found = predict_classes(probabilities({"SIC": values}), TASKS)["SIC"]
    assert found.tolist() == [[[0, 0, 1, 10, 10, 10]]]
    drawn = rasters.class_bands(values[0].numpy(), {"SIC": TASKS["SIC"]})
    assert drawn.tolist() == [found[0].tolist()]


@pytest.mark.parametrize("names", [("SIC",), ("SOD", "SIC"), ("SIC", "AGE", "SOD")])
def test_c93_bands_of_a_raster_tell_its_tasks(names: Sequence[str]) -> None:
    tasks = {name: TASKS.get(name, Classification(classes=("background", name))) for name in names}
    again = rasters.tasks_of(rasters.band_names(tasks))
    assert [(n, type(t), len(t.classes)) for n, t in again.items()] == [
        (n, type(t), len(t.classes)) for n, t in tasks.items()
    ]


@pytest.mark.system
def test_c60_the_map_of_a_run_has_all_tasks_and_scores_as_sklearn(
    ice: Path, tmp_path: Path, script: Script, store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from swath import tracking

    file = tmp_path / "training.py"
    described = json.dumps(configs.resolve(several(ice, tmp_path / "out", TASKS)))
    file.write_text(
        '"""Three tasks."""\nimport json\nfrom swath import config as configs\n'
        f"config = configs.build(json.loads({described!r}))\n"
    )
    assert script("training", file) == 0
    run_id = capsys.readouterr().out.rsplit("training run id: ", 1)[1].strip()
    scenes, output = ice.parent / "scenes", tmp_path / "maps"
    options = {"labels_path": ice.parent / "masks", "areas": "south", "sliding__window": 64, "sliding__overlap": 16}
    for tta in ("off", "flips"):
        assert script(
            "inference", "configs/demo/inference.py", run_id=run_id, input_path=scenes, output_path=output / tta,
            allow_selection_set=True, sliding__tta=tta, **options,
        ) == 0  # fmt: skip
    with RasterReader(next((output / "off" / "classes").rglob("*.tif"))) as reader:
        assert reader.info.bands == tuple(TASKS)
        found = reader.labels()
    with RasterReader(ice.parent / "masks" / "south" / "south.tif") as reader:
        truth = reader.labels()[:3]
    values = tracking.metrics_of(capsys.readouterr().out and _last_run())
    for i, (name, score) in enumerate((("SIC", "r2"), ("SOD", "f1_weighted"), ("FLOE", "f1_weighted"))):
        with RasterReader(next((output / "flips" / "classes").rglob("*.tif"))) as reader:
            flipped = reader.labels()[i]
        seen = (truth[i] != 255) & (flipped != 255)
        pair = truth[i][seen], flipped[seen]
        expected = sk.r2_score(*pair) if score == "r2" else sk.f1_score(*pair, average="weighted")
        assert values[f"test/{name}/{score}"] == pytest.approx(expected, abs=1e-6)
    assert (found[:, :2] == 255).all()


def _last_run() -> str:
    import mlflow

    client = mlflow.MlflowClient()
    ids = [e.experiment_id for e in client.search_experiments()]
    return str(client.search_runs(ids, order_by=["attributes.start_time DESC"], max_results=1)[0].info.run_id)
