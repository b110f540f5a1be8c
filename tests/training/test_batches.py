"""Batches that are used several times in a row: the same samples, other augmentation, from any step on."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from swath.data.augment.transforms import D4, CoarseDropout
from swath.errors import ConfigError
from swath.training.batches import Batches
from swath.training.config import TrainingConfig, Unlabelled, ValidationConfig
from swath.training.trainer import build_training
from tests.trainings import killed_at, quiet, same, small, trained

CPU = torch.device("cpu")


def echoing(tiles: Path, output: Path, times: int, **changes: object) -> TrainingConfig:
    config = small(tiles, output, **changes)
    return replace(config, data=replace(config.data, echo=times))


def batches_of(config: TrainingConfig) -> Batches:
    return Batches(config, CPU, list(config.tasks), config.unlabelled)


def equal(one: Iterable[dict[str, Any]], other: Iterable[dict[str, Any]]) -> bool:
    pairs = list(zip(one, other, strict=True))
    return all(
        a["key"] == b["key"]
        and a["window"] == b["window"]
        and torch.equal(a["image"].nan_to_num(7), b["image"].nan_to_num(7))
        and torch.equal(a["target"]["water"], b["target"]["water"])
        for a, b in pairs
    )


@pytest.mark.system
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("times", [2, 3])
def test_c36_each_loaded_batch_is_used_n_times_from_any_step_on(
    tiles: Path, tmp_path: Path, times: int, workers: int
) -> None:
    once = small(tiles, tmp_path, epochs=2)
    loaded = list(batches_of(once).training_loader(0))
    expected = [batch for batch in loaded for _ in range(times)]
    config = echoing(tiles, tmp_path, times, epochs=2)
    config = replace(config, data=replace(config.data, workers=workers))
    batches = batches_of(config)
    assert batches.steps == times * batches_of(once).steps
    for first in range(len(expected) + 1):
        assert equal(batches.training_loader(first), expected[first:]), first
    for epoch in range(2):  # statistics of averaged weights look at each loaded batch once
        half = len(loaded) // 2
        assert equal(batches.training_loader(0, epoch=epoch), loaded[epoch * half : (epoch + 1) * half])


SEEN: list[torch.Tensor] = []


class Look:
    """Remembers what a step learns from."""

    def __call__(self, image: torch.Tensor, targets: dict[str, torch.Tensor], generator: torch.Generator) -> Any:
        SEEN.append(image.clone())
        return image, targets


def test_c36_c49_every_use_of_a_batch_is_augmented_anew_and_equals_a_loop_written_out(
    tiles: Path, tmp_path: Path
) -> None:
    SEEN.clear()
    times = 3
    config = echoing(tiles, tmp_path / "echo", times, epochs=2, validation=ValidationConfig(metric=None, panels=0))
    transforms = (partial(D4), partial(CoarseDropout, holes=2, size=8, ignore_labels=True), partial(Look))
    config = replace(config, data=replace(config.data, augmentation=transforms))
    _, weights = trained(config)
    seen = list(SEEN)
    assert len(seen) == 2 * 4 * times  # four loaded batches per epoch
    for first in range(0, len(seen), times):
        for a, b in ((first, first + 1), (first + 1, first + 2)):
            assert not torch.equal(seen[a].nan_to_num(7), seen[b].nan_to_num(7))

    by_hand = build_training(replace(config, output_path=str(tmp_path / "hand")), quiet())
    loaded = batches_of(replace(config, data=replace(config.data, echo=1))).training_loader(0)
    iteration = 0
    for batch in loaded:
        for _ in range(times):
            iteration += 1
            by_hand.learner.step(copy.deepcopy(batch), iteration)
    assert iteration == len(seen)
    assert same(weights, by_hand.model.state_dict())


@pytest.mark.parametrize("moment", [1, 2, 3, 7, 12, 13, 23])
def test_c88_an_echoing_training_that_was_killed_ends_with_the_same_weights(
    tiles: Path, tmp_path: Path, moment: int
) -> None:
    config = echoing(tiles, tmp_path / "a", 3, epochs=2, checkpoint_every=1)
    whole, expected = trained(replace(config, output_path=str(tmp_path / "whole")))
    killed_at(config, moment)
    resumed, weights = trained(config)
    assert same(expected, weights)
    assert resumed.history == whole.history


def test_c73_unlabelled_batches_are_not_echoed(tiles: Path, tmp_path: Path) -> None:
    others = Unlabelled(tiles_path=str(tiles.parent / "unlabelled"), batch=4)
    config = echoing(tiles, tmp_path, 2, epochs=2, unlabelled=others)
    found = list(batches_of(config).training_loader(0))
    longer = small(tiles, tmp_path, epochs=2, unlabelled=others)
    longer = replace(longer, data=replace(longer.data, samples_per_epoch=32))  # as many steps
    steps = list(batches_of(longer).training_loader(0))
    assert [batch["unlabelled"]["window"] for batch in found] == [batch["unlabelled"]["window"] for batch in steps]
    assert [batch["window"] for batch in found[::2]] == [batch["window"] for batch in found[1::2]]
    rest = list(batches_of(config).training_loader(5))
    assert [batch["unlabelled"]["window"] for batch in rest] == [batch["unlabelled"]["window"] for batch in found[5:]]


@pytest.mark.parametrize("times", [0, -1])
def test_a_batch_that_is_never_used_is_refused(tiles: Path, tmp_path: Path, times: int) -> None:
    with pytest.raises(ConfigError, match=rf"data\.echo={times}: .*1 uses it once"):
        build_training(echoing(tiles, tmp_path, times), quiet())
