"""Pretraining in the loop of every training: resumed bit for bit, logged, and what a training takes from it."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from swath.data.augment.transforms import D4
from swath.data.splits.split import ByArea
from swath.errors import ConfigError
from swath.nn.networks.decoders import TaskDecoders
from swath.nn.networks.masked import MaskedPyramid, MaskedTransformer
from swath.nn.networks.unet import UNet
from swath.nn.preprocess.channels import Bands, Decibel
from swath.scoring.evaluate import Evaluation
from swath.training.config import DataConfig, ValidationConfig, WarmStart
from swath.training.loop import Reports
from swath.training.pretrain_config import PretrainConfig
from swath.training.pretraining import Pretraining
from swath.training.trainer import Training, build_training
from swath.training.transfer import Freezing
from tests.conftest import Script
from tests.synthetic import TINY_VIT, TinyNet
from tests.trainings import Killed, quiet, same, small

VIT = {"model": TINY_VIT, "method": partial(MaskedTransformer, width=16, depth=1, heads=2)}
CONVOLUTIONS = {"model": partial(UNet, filters=(4, 8, 8)), "method": partial(MaskedPyramid, width=8)}


def pretraining(tiles: Path, output: Path, **changes: object) -> PretrainConfig:
    """A pretraining of seconds, on tiles without labels."""
    config = PretrainConfig(
        data=DataConfig(
            tiles_path=str(tiles.parent / "unlabelled"), split=ByArea(validation_areas=("south",)), crop=32, batch=4,
            samples_per_epoch=16, augmentation=(partial(D4),),
        ),
        **VIT, optimizer=partial(torch.optim.AdamW, lr=3e-3), epochs=3, output_path=str(output), device="cpu", panels=1,
        log_every=1,
    )  # fmt: skip
    return replace(config, **changes)  # type: ignore[arg-type]


def weights_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def encoder_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in weights_of(model).items() if name.startswith("network.encoder.")}


@pytest.fixture(scope="module")
def encoder(tiles: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Pretraining, Path]:
    """A finished pretraining of a ViT, and the file of its encoder."""
    folder = tmp_path_factory.mktemp("encoder")
    done = Pretraining(pretraining(tiles, folder), quiet())
    done.run()
    done.write(folder / "weights.safetensors")
    return done, folder / "weights.safetensors"


# ----------------------------------------------------------------------------------------------------- the pretraining


@pytest.mark.system
@pytest.mark.parametrize("kind", [VIT, CONVOLUTIONS], ids=["vit", "convolutions"])
@pytest.mark.parametrize("moment", [2, 8])
def test_c63_c88_killed_and_resumed_equals_uninterrupted(
    tiles: Path, tmp_path: Path, moment: int, kind: dict[str, object]
) -> None:
    config = pretraining(tiles, tmp_path / "a", checkpoint_every=1, **kind)
    whole = Pretraining(replace(config, output_path=str(tmp_path / "whole")), quiet())
    expected = weights_of(whole.run())

    def kill(values: object, step: int) -> None:
        if step == moment and "training/loss" in dict(values):  # type: ignore[call-overload]
            raise Killed

    with pytest.raises(Killed):
        Pretraining(config, Reports(metrics=kill, evaluation=lambda *_: None)).run()
    resumed = Pretraining(config, quiet())
    assert same(expected, weights_of(resumed.run()))
    assert resumed.loop.history == whole.loop.history


def test_c63_guesses_get_better_and_pictures_are_drawn(tiles: Path, tmp_path: Path) -> None:
    seen: list[Evaluation] = []
    options = CONVOLUTIONS | {
        "optimizer": partial(torch.optim.AdamW, lr=1e-2),
        "channels": partial(Decibel),
        "ratio": 0.4,
    }
    config = pretraining(tiles, tmp_path, epochs=6, normalise_patches=False, **options)
    config = replace(config, data=replace(config.data, samples_per_epoch=32))  # a norm in the head takes more steps
    done = Pretraining(config, Reports(metrics=lambda *_: None, evaluation=lambda found, *_: seen.append(found)))
    done.run()
    held_out = [values["validation/loss"] for _, values in done.loop.history if "validation/loss" in values]
    assert len(held_out) == len(seen) == 6
    assert held_out[-1] < 0.93  # 1 is what the mean of everything, guessed everywhere, would cost
    explained = [values["validation/explained"] for _, values in done.loop.history if "validation/loss" in values]
    assert explained[0] < explained[-1] < 1
    assert explained[-1] > 0.02
    ((key, picture),) = seen[-1].panels.items()
    assert key in set(done.batches.folds.validation["key"])
    assert picture.dtype == np.uint8
    assert picture.shape[1] > 3 * 48


LOGGED = {f"training/{name}" for name in ("loss", "lr", "iteration", "epoch")}


def test_c63_without_held_out_tiles_all_are_learned_from(tiles: Path, tmp_path: Path) -> None:
    config = pretraining(tiles, tmp_path, epochs=1)
    done = Pretraining(replace(config, data=replace(config.data, split=ByArea())), quiet())
    done.run()
    assert [set(values) for _, values in done.loop.history] == [LOGGED] * 4
    assert all(math.isfinite(values["training/loss"]) for _, values in done.loop.history)


def test_c63_labels_are_not_read(tiles: Path, tmp_path: Path) -> None:
    """Labelled tiles serve as well; what their masks hold does not matter."""
    config = pretraining(tiles, tmp_path / "b", epochs=1)
    labelled = Pretraining(replace(config, data=replace(config.data, tiles_path=str(tiles))), quiet())
    other = Pretraining(config, quiet())
    assert next(iter(labelled.batches.training_loader(0)))["target"] == {}
    assert same(weights_of(labelled.run()), weights_of(other.run()))


def test_c63_a_network_without_an_encoder_is_refused(tiles: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no part named encoder"):
        Pretraining(pretraining(tiles, tmp_path, model=partial(TinyNet)), quiet())


# --------------------------------------------------------------------------------------------------------- fine-tuning


def fine_tuning(tiles: Path, output: Path, weights: Path, **changes: object) -> Training:
    start = WarmStart(weights=str(weights))
    config = small(tiles, output, model=TINY_VIT, channels=partial(Bands), warm_start=start, **changes)
    return build_training(config, quiet(), start_from=weights)


@pytest.mark.parametrize("part", ["", "network.encoder"])
@pytest.mark.parametrize("network", [TINY_VIT, partial(TaskDecoders, network=TINY_VIT)], ids=["alone", "by task"])
def test_c63_c62_a_training_starts_from_the_encoder(
    tiles: Path, tmp_path: Path, encoder: tuple[Pretraining, Path], part: str, network: object,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    done, file = encoder
    config = small(
        tiles, tmp_path, model=network, channels=partial(Bands), warm_start=WarmStart(weights=str(file), part=part)
    )
    with caplog.at_level(logging.INFO, logger="swath.training"):
        warm = build_training(config, quiet(), start_from=file).learner.model
    assert same(encoder_of(done.model), encoder_of(warm))
    assert set(encoder_of(warm)) == set(load_file(file))
    assert f"{len(encoder_of(warm))} tensors loaded" in caplog.text
    assert "not used network" not in caplog.text
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        ours, theirs = (m.eval().network.encoder(image)[0] for m in (warm, done.model))
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("bands", [("vv",), ("vv", "vh"), ("mean", "vv", "vh")])
def test_c63_c61_a_training_on_other_bands_finds_its_filters_by_name(
    tiles: Path, tmp_path: Path, encoder: tuple[Pretraining, Path], bands: tuple[str, ...]
) -> None:
    done, file = encoder
    config = small(tiles, tmp_path, model=TINY_VIT, channels=partial(Bands, bands=bands), warm_start=WarmStart(weights=str(file)))  # fmt: skip
    warm = build_training(config, quiet(), start_from=file).learner.model
    stem = "network.encoder.model.patch_embed.proj.weight"
    before, after = encoder_of(done.model), encoder_of(warm)
    names = list(done.model.preprocess.channels.names)
    for i, band in enumerate(bands):
        wanted = before[stem][:, names.index(band)] if band in names else before[stem].mean(1)
        assert torch.equal(after[stem][:, i], wanted)
    assert same({n: t for n, t in before.items() if n != stem}, after)


@pytest.mark.system
@pytest.mark.parametrize("epochs", [0, 2], ids=["one stage", "two stages"])
def test_c63_c62_fine_tuning_in_one_and_in_two_stages(
    tiles: Path, tmp_path: Path, encoder: tuple[Pretraining, Path], epochs: int
) -> None:
    done, file = encoder
    stages = {"freezing": (Freezing(part="encoder", epochs=epochs),)} if epochs else {}
    training = fine_tuning(tiles, tmp_path, file, validation=ValidationConfig(panels=0), **stages)
    ends: list[dict[str, torch.Tensor]] = []
    training.reports.evaluation = lambda *_: ends.append(weights_of(training.learner.model))
    training.run()
    start = encoder_of(done.model)
    assert [same(start, end) for end in ends] == [epoch < epochs for epoch in range(3)]
    heads = [{n: t for n, t in end.items() if "segmentation_head" in n} for end in ends]
    assert not same(heads[0], heads[1])


@pytest.mark.system
def test_c63_the_entry_point_leaves_a_run_that_a_training_starts_from(
    tiles: Path, tmp_path: Path, script: Script, last_run: Callable[[], mlflow.entities.Run],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    data = {"data__tiles_path": tiles, "data__crop": 40, "data__split__validation_areas": "south",
            "data__samples_per_epoch": 16, "epochs": 1}  # fmt: skip
    assert script("pretrain", "configs/demo/pretrain.py", **data, output_path=tmp_path / "a", evaluate_every=1) == 0
    run = last_run()
    assert run.info.status == "FINISHED"
    assert run.data.tags["swath.kind"] == "pretraining"
    assert {"training/loss", "training/lr", "validation/loss"} <= set(run.data.metrics)
    client = mlflow.MlflowClient()
    assert [f.path for f in client.list_artifacts(run.info.run_id, "model")] == ["model/weights.safetensors"]
    assert any("reconstructions" in f.path for f in client.list_artifacts(run.info.run_id, "images"))
    assert not list((tmp_path / "a").rglob("state.pt"))

    capsys.readouterr()
    start = {"warm_start.weights": f"runs:/{run.info.run_id}"}
    assert script("training", "configs/demo/training.py", **data, output_path=tmp_path / "b", **start) == 0
    assert last_run().data.params["cfg.warm_start.weights"] == f"runs:/{run.info.run_id}"
