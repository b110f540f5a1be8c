"""Trainings of seconds, for the tests of training."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import pytest
import torch

from swath.data.augment.transforms import D4
from swath.data.splits.split import ByArea
from swath.labels import IGNORE
from swath.nn.losses.pixel import CrossEntropy
from swath.nn.model import Classification
from swath.nn.preprocess.channels import Decibel
from swath.training.config import DataConfig, TrainingConfig, ValidationConfig
from swath.training.loop import Reports
from swath.training.trainer import Training, build_training
from tests.synthetic import TinyNet


def small(tiles: Path, output: Path, **changes: object) -> TrainingConfig:
    """A training of seconds."""
    config = TrainingConfig(
        data=DataConfig(
            tiles_path=str(tiles),
            split=ByArea(validation_areas=("south",)),
            crop=32,
            batch=4,
            samples_per_epoch=16,
            augmentation=(partial(D4),),
        ),
        tasks={"water": Classification(loss=partial(CrossEntropy))},
        model=partial(TinyNet),
        channels=partial(Decibel),
        optimizer=partial(torch.optim.AdamW, lr=1e-2, weight_decay=0.0),
        epochs=3,
        output_path=str(output),
        device="cpu",
        validation=ValidationConfig(panels=1),
        log_every=1,
    )
    return replace(config, **changes)  # type: ignore[arg-type]


class AllLabelled:
    """A transform that labels every pixel, so that means over the parts of a batch are means over the whole."""

    def __call__(self, image: torch.Tensor, targets: dict[str, torch.Tensor], generator: torch.Generator) -> Any:
        return image, {task: torch.where(target == IGNORE, 0, target) for task, target in targets.items()}


class FailsOnOne:
    """An augmentation that fails on the second process only, in the middle of the training."""

    calls = 0

    def __call__(self, image: Any, targets: Any, generator: Any) -> Any:
        FailsOnOne.calls += 1
        if idist.get_rank() == 1 and FailsOnOne.calls == 5:
            raise ValueError("the second process met something odd")
        return image, targets


class NotesProcess:
    """An augmentation that changes nothing and leaves a file named by the process that it ran in."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def __call__(self, image: Any, targets: Any, generator: Any) -> Any:
        self.folder.mkdir(exist_ok=True)
        (self.folder / f"{idist.get_rank()} of {idist.get_world_size()}").touch()
        return image, targets


def quiet() -> Reports:
    return Reports.none()


def trained(config: TrainingConfig, reports: Reports | None = None) -> tuple[Training, dict[str, torch.Tensor]]:
    training = build_training(config, reports or quiet())
    model = training.run()
    return training, {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def losses(training: Training) -> list[float]:
    return [values["training/loss"] for _, values in training.history if "training/loss" in values]


class Killed(BaseException):
    """Stands for a kill at a moment of our choice."""


def killed_at(config: TrainingConfig, moment: int) -> None:
    """Start a training and kill it right after the step of number `moment`."""

    def kill(values: object, step: int) -> None:
        if step == moment and "training/loss" in dict(values):  # type: ignore[call-overload]
            raise Killed

    with pytest.raises(Killed):
        build_training(config, Reports(metrics=kill, evaluation=lambda *_: None)).run()
