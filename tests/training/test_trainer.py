"""Training on small tiles: seeds, resume, selection, guards, and what the run holds afterwards."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from swath import config as configs
from swath import tracking
from swath.data.samples.dataset import TileDataset, collate
from swath.data.samples.samplers import Uniform
from swath.data.splits.split import ByArea
from swath.errors import CatalogError, ConfigError, LeakError, RasterError, TrainingError
from swath.nn.model import Classification, build_model
from swath.scoring.evaluate import evaluate
from swath.training.checkpoint import load_weights, save_weights
from swath.training.config import EarlyStopping, Plateau, TrainingConfig, ValidationConfig
from swath.training.learner import Learner
from swath.training.loop import Reports
from swath.training.model_record import read_record
from swath.training.schedules import Constant
from swath.training.trainer import build_training
from tests.conftest import ROOT, Script, child_environment
from tests.synthetic import NanNet, TinyNet, grid, write_area
from tests.trainings import killed_at, losses, quiet, same, small, trained

# ------------------------------------------------------------------------------------------------ seeds and resuming


def test_c07_same_seed_same_numbers_other_seed_other_numbers(tiles: Path, tmp_path: Path) -> None:
    first, weights = trained(small(tiles, tmp_path / "a"))
    second, again = trained(small(tiles, tmp_path / "b"))
    other, _ = trained(small(tiles, tmp_path / "c", seed=1))
    assert losses(first) == losses(second)
    assert first.history == second.history
    assert same(weights, again)
    assert losses(first) != losses(other)


def test_c07_loader_workers_do_not_change_the_numbers(tiles: Path, tmp_path: Path) -> None:
    config = small(tiles, tmp_path / "a", epochs=1)
    alone, _ = trained(config)
    helped, _ = trained(replace(config, data=replace(config.data, workers=2), output_path=str(tmp_path / "b")))
    assert losses(alone) == losses(helped)


EVERYTHING = {
    "ema_decay": 0.5,
    "swa_from": 0.3,
    "plateau": Plateau(patience=1, factor=0.5),
    "validation": ValidationConfig(panels=1, also=("validation/loss",), top=2, keep_last=True, training_subset=True),
}


@pytest.mark.system
@pytest.mark.parametrize("changes", [{}, EVERYTHING], ids=["plain", "everything"])
@pytest.mark.parametrize("moment", [2, 4, 7, 11])
def test_c88_killed_and_resumed_equals_uninterrupted(
    tiles: Path, tmp_path: Path, moment: int, changes: dict[str, object]
) -> None:
    config = small(tiles, tmp_path / "a", checkpoint_every=3, **changes)
    whole, expected = trained(replace(config, output_path=str(tmp_path / "whole")))

    killed_at(config, moment)
    resumed, weights = trained(config)
    assert same(expected, weights)
    assert resumed.history == whole.history
    assert resumed.selection == whole.selection
    kept, others = resumed.kept_weights(), whole.kept_weights()
    assert kept.keys() == others.keys()
    assert all(same(load_file(kept[name][0]), load_file(others[name][0])) for name in kept)


@pytest.mark.system
def test_c88_sigkill_of_the_real_process_is_resumed_by_the_same_command(tiles: Path, tmp_path: Path) -> None:
    file = tmp_path / "long.py"
    file.write_text(
        '"""A training to be killed."""\nfrom functools import partial\nimport torch\nfrom swath.nn.preprocess.channels import Decibel\n'
        "from swath.data.splits.split import ByArea\nfrom swath.training.config import DataConfig, TrainingConfig\nfrom swath.nn.model import Classification\n"
        "from tests.synthetic import TinyNet\n"
        f"config = TrainingConfig(data=DataConfig(tiles_path={str(tiles)!r}, split=ByArea(validation_areas=('south',)), crop=32, batch=4, "
        "samples_per_epoch=40), tasks={'water': Classification()}, model=partial(TinyNet), channels=partial(Decibel), "
        f"epochs=30, checkpoint_every=5, output_path={str(tmp_path / 'out')!r}, device='cpu', log_every=1)\n"
    )
    environment = child_environment(tmp_path / "mlflow.db")
    command = [sys.executable, str(ROOT / "code/training.py"), "--config_path", str(file)]
    process = subprocess.Popen(
        command, env=environment, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not list((tmp_path / "out").rglob("state.pt")) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list((tmp_path / "out").rglob("state.pt")), "the process ended before it left a state"
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "going on at iteration" in done.stderr
    assert not list((tmp_path / "out").rglob("*.part*"))
    assert not list((tmp_path / "out").rglob("state.pt"))


def test_c88_second_process_on_the_same_training_is_refused(tiles: Path, tmp_path: Path) -> None:
    config = small(tiles, tmp_path, epochs=1)

    def start_again(found: object, values: object, step: int) -> None:
        with pytest.raises(TrainingError, match="another process runs this training"):
            build_training(config, quiet()).run()

    build_training(config, Reports(metrics=lambda *_: None, evaluation=start_again)).run()


# -------------------------------------------------------------------------------------------------------- selection


def test_c88_best_weights_are_those_of_the_highest_logged_metric(tiles: Path, tmp_path: Path) -> None:
    training, _ = trained(small(tiles, tmp_path, epochs=4, optimizer=partial(torch.optim.SGD, lr=0.3)))
    logged = [values["validation/iou_fg"] for _, values in training.history if "validation/iou_fg" in values]
    assert training.best == max(logged)
    loader = training.validation_loader
    assert loader is not None
    again = evaluate(training.judged, loader, training.config.tasks).metrics("validation", training.config.tasks)
    assert again["validation/iou_fg"] == training.best


def test_c88_several_metrics_and_places_each_keep_their_own_weights(tiles: Path, tmp_path: Path) -> None:
    validation = ValidationConfig(panels=0, also=("validation/loss",), top=2, keep_last=True)
    config = small(tiles, tmp_path, epochs=5, optimizer=partial(torch.optim.SGD, lr=0.3), validation=validation)
    training, _ = trained(config)
    kept = training.kept_weights()
    names = {"validation/iou_fg", "validation/iou_fg:2", "validation/loss", "validation/loss:2", "last"}
    assert set(kept) == names
    model, loader = training.judged, training.validation_loader
    assert loader is not None
    for metric, best in (("validation/iou_fg", max), ("validation/loss", min)):
        logged = [values[metric] for _, values in training.history if metric in values]
        load_weights(kept[metric][0], model)
        again = evaluate(model, loader, config.tasks, training.learner.losses).metrics("validation", config.tasks)
        assert again[metric] == best(logged) == kept[metric][1]["value"]
        second = sorted(logged, reverse=best is max)[1]
        assert kept[f"{metric}:2"][1]["value"] == second


def test_c71_training_ends_when_the_metric_no_longer_improves(tiles: Path, tmp_path: Path) -> None:
    stop = EarlyStopping(patience=2, min_delta=2.0)  # no IoU improves by 2
    config = small(tiles, tmp_path, epochs=9, validation=ValidationConfig(panels=0, early_stopping=stop))
    training, _ = trained(config)
    assert max(step for step, values in training.history if "training/loss" in values) == 3 * training.steps
    assert "validation/iou_fg has not improved by more than 2 in 2 evaluations" in training.stopped
    resumed, _ = trained(config)  # the finished state is there: nothing is trained again
    assert resumed.history == training.history


def test_c68_rate_falls_on_a_plateau(tiles: Path, tmp_path: Path) -> None:
    plateau = Plateau(factor=0.5, patience=1, min_delta=2.0, lowest=0.2)
    config = small(tiles, tmp_path, epochs=5, plateau=plateau, schedule=partial(Constant))
    training, _ = trained(config)
    rates = [values["training/lr"] for _, values in training.history if "training/lr" in values]
    by_epoch = [rates[i * training.steps : (i + 1) * training.steps] for i in range(5)]
    expected = [1e-2, 1e-2, 5e-3, 2.5e-3, 2e-3]  # the first evaluation is the first best
    for rate, found in zip(expected, by_epoch, strict=True):
        assert found == pytest.approx([rate] * training.steps)


def test_c72_average_of_the_last_epochs_has_its_own_statistics(tiles: Path, tmp_path: Path) -> None:
    ends: list[dict[str, torch.Tensor]] = []
    config = small(tiles, tmp_path, epochs=4, swa_from=0.5)
    training = build_training(config, Reports(metrics=lambda *_: None, evaluation=lambda *_: ends.append(
        {name: p.detach().clone() for name, p in training.learner.model.named_parameters()}
    )))  # fmt: skip
    training.run()
    averaged = load_file(training.kept_weights()["swa"][0])
    for name in ends[0]:
        assert torch.allclose(averaged[name], (ends[2][name] + ends[3][name]) / 2, atol=1e-6)
    last = training.learner.model.state_dict()
    statistics = [name for name in averaged if name.endswith("running_mean")]
    assert statistics
    assert any(not torch.equal(averaged[name], last[name]) for name in statistics)
    assert any("swa/iou_fg" in values for _, values in training.history)


def test_c42_training_subset_is_evaluated_like_the_validation_tiles(tiles: Path, tmp_path: Path) -> None:
    validation = ValidationConfig(panels=0, training_subset=True)
    training, _ = trained(small(tiles, tmp_path, epochs=1, validation=validation))
    assert any("training_subset/iou_fg" in values for _, values in training.history)
    assert training.batches.subset_loader is not None
    keys = [key for batch in training.batches.subset_loader for key in batch["key"]]
    assert len(keys) == len(training.folds.validation)
    assert set(keys) <= set(training.folds.train["key"])
    again = build_training(small(tiles, tmp_path, epochs=1, validation=validation), quiet())
    assert again.batches.subset_loader is not None
    assert keys == [key for batch in again.batches.subset_loader for key in batch["key"]]


def test_c71_watching_a_metric_needs_held_out_areas(tiles: Path, tmp_path: Path) -> None:
    config = small(tiles, tmp_path, plateau=Plateau())
    with pytest.raises(ConfigError, match="hold areas out"):
        build_training(replace(config, data=replace(config.data, split=ByArea(validation_areas=()))), quiet())


def test_c80_validation_schedule(tiles: Path, tmp_path: Path) -> None:
    validation = ValidationConfig(every=3, unit="iterations", at_start=True, panels=0)
    training, _ = trained(small(tiles, tmp_path, epochs=2, validation=validation))
    steps = [step for step, values in training.history if "validation/iou_fg" in values]
    assert steps == [0, 3, 6, 8]  # before the first step, every third, and after the last


def test_c16_training_and_validation_tiles_must_not_share_ground(tiles: Path, tmp_path: Path) -> None:
    from swath.data.leakage.leaks import require_disjoint
    from swath.data.samples.tile_tables import read_tiles

    table = read_tiles(tiles)
    with pytest.raises(LeakError, match="same pixels under another name"):
        require_disjoint(table, table[table["area"] == "south"].assign(key=lambda t: t["key"] + "_copy"))
    with pytest.raises(CatalogError, match=r"no tiles of west.*east, north, south"):
        build_training(
            small(tiles, tmp_path, data=replace(small(tiles, tmp_path).data, split=ByArea(validation_areas=("west",)))),
            quiet(),
        )


def test_c16_no_validation_trains_on_all_areas_and_keeps_the_last_weights(tiles: Path, tmp_path: Path) -> None:
    config = small(tiles, tmp_path)
    training, _ = trained(replace(config, data=replace(config.data, split=ByArea(validation_areas=()))))
    assert set(training.folds.train["area"]) == {"east", "north", "south"}
    assert training.best_iteration == training.steps * config.epochs


def test_c05_limit_takes_the_same_few_tiles_every_time(tiles: Path, tmp_path: Path) -> None:
    config = small(tiles, tmp_path)
    limited = replace(config, data=replace(config.data, limit=3))
    first, second = build_training(limited, quiet()), build_training(limited, quiet())
    assert len(first.folds.train) == len(first.folds.validation) == 3
    assert list(first.folds.train["key"]) == list(second.folds.train["key"])


# ------------------------------------------------------------------------------------------------------------ guards


def test_c70_nan_loss_stops_with_the_names_of_the_samples(tiles: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"loss is nan at iteration 1 on the samples s1a_.*tile_"):
        build_training(small(tiles, tmp_path, model=partial(NanNet)), quiet()).run()


def test_c70_unknown_selection_metric_names_the_logged_ones(tiles: Path, tmp_path: Path) -> None:
    config = small(tiles, tmp_path, epochs=1, validation=ValidationConfig(metric="validation/iuo"))
    with pytest.raises(ConfigError, match="validation/iou_fg"):
        build_training(config, quiet()).run()


def test_c36_mask_without_the_task_is_refused(tiles: Path, tmp_path: Path) -> None:
    with pytest.raises(RasterError, match=r"no band ice; it has water"):
        build_training(small(tiles, tmp_path, tasks={"ice": Classification()}), quiet())


# ------------------------------------------------------------------------------------------------------ optimisation


def learner(tiles: Path, tmp_path: Path, **changes: object) -> Learner:
    config = small(tiles, tmp_path, model=partial(TinyNet, dropout=0.0), **changes)
    torch.manual_seed(0)
    model = build_model(
        ("vh", "vv", "mean"), config.channels, config.fill, config.normaliser, config.model, config.tasks
    )
    return Learner(config, model.eval(), config.losses(), torch.device("cpu"), 10, config.tasks, config.unlabelled)


def batch_of(tiles: Path, count: int) -> dict[str, object]:
    import geopandas as gpd

    table = gpd.read_parquet(tiles / "tile_stats.parquet")
    dataset = TileDataset(table[:count], tiles, ["water"])
    samples = [dataset[i] for i in range(count)]
    for sample in samples:  # all pixels labelled, so that means over parts and over the whole agree
        sample["target"]["water"] = torch.where(sample["target"]["water"] == 255, 0, sample["target"]["water"])
    return collate(samples)


def test_c69_accumulation_equals_a_larger_batch(tiles: Path, tmp_path: Path) -> None:
    data = replace(small(tiles, tmp_path).data, augmentation=())
    sgd = partial(torch.optim.SGD, lr=0.1)
    whole = learner(tiles, tmp_path, data=data, optimizer=sgd, schedule=partial(Constant))
    parts = learner(tiles, tmp_path, data=data, optimizer=sgd, schedule=partial(Constant), accumulation=4)
    for each in (whole, parts):
        for module in each.model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 0.0
                module.train = lambda mode=True, module=module: module  # type: ignore[method-assign,misc,assignment]
    batch = batch_of(tiles, 8)
    a, b = whole.step(batch, 1), parts.step(batch, 1)
    assert float(a["training/loss"]) == pytest.approx(float(b["training/loss"]), abs=1e-5)
    for x, y in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        assert torch.allclose(x, y, atol=1e-5)


def test_c69_bf16_trains_and_stays_finite(tiles: Path, tmp_path: Path) -> None:
    training, _ = trained(small(tiles, tmp_path, precision="bf16", epochs=2))
    assert np.isfinite(losses(training)).all()


def test_c67_weight_decay_exactly_as_configured(tiles: Path, tmp_path: Path) -> None:
    adam = partial(torch.optim.AdamW, lr=1e-3, weight_decay=0.05)
    plain = learner(tiles, tmp_path, optimizer=adam)
    assert [group["weight_decay"] for group in plain.optimizer.param_groups] == [0.05]
    split = learner(tiles, tmp_path, optimizer=adam, no_decay=True)
    decayed, free = split.optimizer.param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.05, 0.0)
    assert all(p.ndim > 1 for p in decayed["params"])
    assert all(p.ndim <= 1 for p in free["params"])


def test_c79_evaluation_does_not_depend_on_batches(tiles: Path, tmp_path: Path) -> None:
    config = small(tiles, tmp_path)
    found = []
    for size in (1, 4, 25):
        training = build_training(replace(config, data=replace(config.data, validation_batch=size)), quiet())
        assert training.validation_loader is not None
        found.append(
            evaluate(training.learner.model, training.validation_loader, config.tasks, training.learner.losses)
        )
    assert (found[0].matrices["water"] == found[1].matrices["water"]).all()
    assert (found[0].matrices["water"] == found[2].matrices["water"]).all()
    assert found[0].losses["loss"] == pytest.approx(found[2].losses["loss"], rel=1e-5)


# -------------------------------------------------------------------------------------------------------- checkpoint


def test_c89_weights_load_through_wrapper_prefixes_and_refuse_other_shapes(tmp_path: Path) -> None:
    model = TinyNet(3, 2)
    save_weights(tmp_path / "w.safetensors", torch.nn.ModuleDict({"module": model}))
    fresh = TinyNet(3, 2)
    load_weights(tmp_path / "w.safetensors", fresh)
    assert same(dict(model.state_dict()), dict(fresh.state_dict()))
    with pytest.raises(TrainingError, match=r"layers.7.weight is \(2, 8, 1, 1\), the model has \(3, 8, 1, 1\)"):
        load_weights(tmp_path / "w.safetensors", TinyNet(3, 3))
    (tmp_path / "broken.safetensors").write_bytes(b"not weights")
    with pytest.raises(TrainingError, match=r"broken.safetensors: cannot be read"):
        load_weights(tmp_path / "broken.safetensors", fresh)


# --------------------------------------------------------------------------------------------------- the script, whole


@pytest.fixture(scope="session")
def config_file(tmp_path_factory: pytest.TempPathFactory, tiles: Path) -> Path:
    folder = tmp_path_factory.mktemp("config")
    file = folder / "training.py"
    file.write_text(
        '"""A small training."""\nfrom functools import partial\nfrom swath.nn.preprocess.channels import Decibel\n'
        "from swath.data.splits.split import ByArea\nfrom swath.training.config import DataConfig, TrainingConfig\nfrom swath.nn.model import Classification\n"
        "from tests.synthetic import TinyNet\n"
        f"config = TrainingConfig(data=DataConfig(tiles_path={str(tiles)!r}, split=ByArea(validation_areas=('south',)), crop=32, batch=4, "
        "samples_per_epoch=64), tasks={'water': Classification()}, model=partial(TinyNet, dropout=0.0), channels=partial(Decibel), "
        f"epochs=6, output_path={str(folder / 'out')!r}, device='cpu', log_every=1)\n"
    )
    return file


@pytest.mark.system
def test_c04_c84_c87_run_holds_bundle_metrics_panels_and_weights(
    script: Script, config_file: Path, last_run: Callable[[], mlflow.entities.Run], tmp_path: Path
) -> None:
    assert script("training", config_file, epochs=2) == 0
    run = last_run()
    client = mlflow.MlflowClient()
    assert run.info.status == "FINISHED"
    assert run.data.params["cfg.epochs"] == "2"
    assert run.data.params["cfg.data.crop"] == "32"
    assert run.data.params["cfg.model"] == "tests.synthetic:TinyNet"
    assert [m.step for m in client.get_metric_history(run.info.run_id, "validation/iou_fg")] == [1, 2]
    assert [m.step for m in client.get_metric_history(run.info.run_id, "training/loss")] == list(range(1, 33))
    best = max(m.value for m in client.get_metric_history(run.info.run_id, "validation/iou_fg"))
    assert run.data.metrics["best/validation/iou_fg"] == best
    names = {file.path for file in client.list_artifacts(run.info.run_id, "bundle")} - {"bundle/untracked"}
    assert names == {f"bundle/{n}" for n in ("config.json", "provenance.json", "uncommitted.diff", "sources")}
    images = [file.path for file in client.list_artifacts(run.info.run_id, "images")]
    assert any("validation_panels" in name for name in images)
    assert any("validation_confusion_water" in name for name in images)
    record = read_record(tracking.fetch(run.info.run_id, "model", tmp_path), trust=("tests",))
    assert set(record.tiles["side"]) == {"training", "validation"}
    assert record.bands == ("vh", "vv", "mean")
    notes = load_file(tmp_path / "model" / "weights.safetensors")
    assert any(name.startswith("network.") for name in notes)


@pytest.mark.system
def test_c04_the_bundle_rebuilds_the_config(
    script: Script, config_file: Path, last_run: Callable[[], mlflow.entities.Run], tmp_path: Path
) -> None:
    import json

    assert script("training", config_file, epochs=1, data__crop=24) == 0
    bundle = tracking.fetch(last_run().info.run_id, "bundle", tmp_path)
    rebuilt = configs.build(json.loads((bundle / "config.json").read_text()))
    assert isinstance(rebuilt, TrainingConfig)
    assert (rebuilt.epochs, rebuilt.data.crop, rebuilt.data.sampler) == (1, 24, Uniform())
    about = json.loads((bundle / "provenance.json").read_text())
    assert {"swath", "torch", "rasterio", "gdal", "mlflow", "pytorch-ignite"} <= set(about["versions"])
    assert about["machine"]["threads"] == torch.get_num_threads()
    assert about["machine"]["processor"]
    assert {"cores", "gpus"} <= set(about["machine"])
    params = last_run().data.params
    assert (params["device"], params["threads"]) == ("cpu", str(torch.get_num_threads()))


@pytest.mark.system
def test_c04_the_bundle_has_sources_that_git_does_not_know(
    script: Script, config_file: Path, last_run: Callable[[], mlflow.entities.Run], tmp_path: Path
) -> None:
    new = ROOT / "configs" / "demo" / f"not_added_{tmp_path.name}.py"
    new.write_text("# not added yet\n")
    try:
        assert script("training", config_file, epochs=1, data__crop=24) == 0
    finally:
        new.unlink()
    kept = tracking.fetch(last_run().info.run_id, f"bundle/untracked/configs/demo/{new.name}", tmp_path)
    assert kept.read_text() == "# not added yet\n"


def test_c86_failed_run_is_marked_failed_with_its_reason(
    script: Script, config_file: Path, last_run: Callable[[], mlflow.entities.Run]
) -> None:
    assert script("training", config_file, model="tests.synthetic:NanNet") == 1
    run = last_run()
    assert run.info.status == "FAILED"
    assert "loss is nan" in run.data.tags["swath.reason"]


@pytest.mark.system
def test_c86_sigterm_marks_the_run_killed_and_keeps_the_state(config_file: Path, tmp_path: Path) -> None:
    environment = child_environment(tmp_path / "mlflow.db")
    command = [sys.executable, str(ROOT / "code/training.py"), "--config_path", str(config_file), "--epochs", "2000"]
    command += ["--output_path", str(tmp_path / "out")]
    process = subprocess.Popen(
        command, env=environment, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not list((tmp_path / "out").rglob("state.pt")) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    (run,) = client.search_runs(["0"])
    assert run.info.status == "KILLED"
    assert list((tmp_path / "out").rglob("state.pt"))


@pytest.mark.system
def test_c91_c89_inference_takes_a_run_id_and_scores(
    script: Script,
    config_file: Path,
    tiles: Path,
    last_run: Callable[[], mlflow.entities.Run],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert script("training", config_file) == 0
    run_id = last_run().info.run_id
    write_area(tmp_path / "raw", "west", grid((90, 100), (600_000.0, 3_700_000.0)), seed=7)
    assert (
        script(
            "generate_3b_images",
            "configs/demo/generate_3b_images.py",
            input_path=tmp_path / "raw",
            output_path=tmp_path / "scenes",
            executor="serial",
        )
        == 0
    )
    assert (
        script(
            "rasterize",
            "configs/demo/rasterize.py",
            input_path=tmp_path / "raw",
            output_path=tmp_path / "masks",
            executor="serial",
        )
        == 0
    )
    common = {"run_id": run_id, "sliding__window": 48, "sliding__overlap": 16, "output_path": tmp_path / "predictions"}
    assert (
        script(
            "inference",
            "configs/demo/inference.py",
            input_path=tmp_path / "scenes",
            labels_path=tmp_path / "masks",
            **common,
        )
        == 0
    )
    run = last_run()
    assert run.data.metrics["test/iou_fg"] > 0.5
    assert "baseline/threshold_iou_fg" in run.data.metrics
    assert (tmp_path / "predictions/classes/west/s1a_west_ASC_20150102t145957.tif").is_file()
    # the same number from the files, by the entry point that scores folders
    assert (
        script(
            "validate",
            "configs/demo/validate.py",
            preds_path=tmp_path / "predictions/classes",
            gt_path=tmp_path / "masks",
            run_id=run_id,
        )
        == 0
    )
    assert last_run().data.metrics["validation/iou_fg"] == pytest.approx(run.data.metrics["test/iou_fg"], abs=1e-12)
    # scenes that trained, or selected, the model are refused
    capsys.readouterr()
    assert (
        script(
            "inference",
            "configs/demo/inference.py",
            input_path=tiles.parent / "scenes",
            labels_path=tiles.parent / "masks",
            **common,
        )
        == 1
    )
    assert "trained this model" in capsys.readouterr().err


def test_c89_unknown_run_id_is_named_with_a_remedy(
    script: Script, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    write_area(tmp_path, "west", grid())
    assert (
        script("inference", "configs/demo/inference.py", run_id="nosuchrun", input_path=tmp_path, labels_path=None) == 1
    )
    error = capsys.readouterr().err
    assert "run_id=nosuchrun: no such run" in error
    assert "make ui" in error
