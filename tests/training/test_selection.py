"""Which weights are kept and when a training waits in vain: brute force as oracle, numbers that are none included."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from swath.config.overrides import override
from swath.data.splits.split import ByArea
from swath.errors import ConfigError
from swath.scoring.evaluate import evaluate
from swath.training.config import EarlyStopping, Plateau, TrainingConfig, ValidationConfig
from swath.training.model_record import read_record, write_record
from swath.training.selection import Patience, Selection
from swath.training.trainer import build_training
from tests.synthetic import PixelNet
from tests.trainings import quiet, small, trained

SCORE, LOSS = "validation/iou_fg", "validation/loss"
NUMBERS = st.floats(0, 1) | st.sampled_from([math.nan, math.inf, -math.inf])


@settings(max_examples=200, deadline=None)
@given(st.lists(NUMBERS, min_size=1, max_size=8), st.sampled_from([SCORE, LOSS]), st.integers(1, 3))
def test_c88_numbers_that_are_none_rank_behind_all_others(values: list[float], metric: str, top: int) -> None:
    selection = Selection((metric,), top)
    for iteration, value in enumerate(values):
        selection.offer({metric: value}, iteration)
    finite = [(value, i) for i, value in enumerate(values) if math.isfinite(value)]
    others = [(None, i) for i, value in enumerate(values) if not math.isfinite(value)]
    sign = 1 if metric == LOSS else -1
    expected = [*sorted(finite, key=lambda found: sign * found[0]), *others][:top]
    assert selection.ranked(metric) == expected


@settings(max_examples=200, deadline=None)
@given(st.lists(NUMBERS, min_size=1, max_size=8), st.sampled_from([SCORE, LOSS]))
def test_c71_numbers_that_are_none_are_no_improvement(values: list[float], metric: str) -> None:
    patience = Patience(metric, patience=3)
    best, waited = None, 0
    for value in values:
        patience.observe({metric: value})
        better = math.isfinite(value) and (best is None or (value < best if metric == LOSS else value > best))
        best, waited = (value, 0) if better else (best, waited + 1)
        assert (patience.best, patience.waited) == (best, waited)


def test_c88_states_of_before_that_hold_nan_are_put_right() -> None:
    selection = Selection((SCORE,), 2)
    selection.load({"kept": {SCORE: [(math.nan, 4), (0.5, 8)]}, "last": 8})
    assert selection.ranked() == [(0.5, 8), (None, 4)]
    patience = Patience(SCORE, patience=3)
    patience.load([math.nan, 2])
    patience.observe({SCORE: 0.1})
    assert (patience.best, patience.waited) == (0.1, 0)


class NanUntilLearned(PixelNet):
    """A network whose answers are no numbers when it is evaluated before its first epoch of four steps is over."""

    steps = 0

    def forward(self, image_BCHW: Tensor) -> Tensor:
        self.steps += self.training
        found = super().forward(image_BCHW)
        return found if self.training or self.steps > 4 else found * torch.nan


def test_c88_c71_an_evaluation_that_gives_nan_neither_wins_nor_ends_the_training(tiles: Path, tmp_path: Path) -> None:
    stop = EarlyStopping(patience=3, metric=LOSS)
    validation = ValidationConfig(panels=0, at_start=True, metric=LOSS, early_stopping=stop)
    config = small(tiles, tmp_path, epochs=6, model=partial(NanUntilLearned), validation=validation)
    training, _ = trained(config)
    logged = [values[LOSS] for _, values in training.history if LOSS in values]
    assert [math.isnan(value) for value in logged] == [True, True, False, False, False, False, False]
    assert training.best == min(logged[2:])
    assert training.stopped == ""


class BestAfterOneEpoch(PixelNet):
    """A network that answers the opposite from its fifth step on, which its weights tell."""

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__(in_channels, classes)
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, image_BCHW: Tensor) -> Tensor:
        if self.training:
            self.steps += 1
        found = super().forward(image_BCHW)
        return -found if not self.training and self.steps > 4 else found


@pytest.mark.parametrize("also", [(), (SCORE,)])
def test_c88_the_best_of_several_kept_weights_is_the_result(tiles: Path, tmp_path: Path, also: tuple[str, ...]) -> None:
    validation = ValidationConfig(panels=0, metric=LOSS, also=also, top=3, keep_last=True)
    config = small(tiles, tmp_path / "out", model=partial(BestAfterOneEpoch), validation=validation)
    training, weights = trained(config)
    assert training.selection.iterations == {4, 8, 12}
    assert training.best_iteration == 4
    assert weights["network.steps"] == 4
    assert training.validation_loader is not None
    again = evaluate(training.judged, training.validation_loader, config.tasks, training.losses)
    assert again.losses["loss"] == training.best
    write_record(training, tmp_path / "record")
    names = ("best", LOSS, "last", f"{LOSS}:2", f"{LOSS}:3")
    records = {name: read_record(tmp_path / "record", name, trust=(__name__,)) for name in names}
    steps = {name: int(record.model.state_dict()["network.steps"]) for name, record in records.items()}
    assert (steps["best"], steps[LOSS], steps["last"]) == (4, 4, 12)
    assert {steps[f"{LOSS}:2"], steps[f"{LOSS}:3"]} == {8, 12}


def test_c88_weights_asked_for_beside_none_are_refused(tiles: Path, tmp_path: Path) -> None:
    validation = ValidationConfig(metric=None, also=(LOSS, SCORE))
    with pytest.raises(
        ConfigError, match=r"validation\.also=validation/loss,validation/iou_fg: without validation\.metric"
    ):
        build_training(small(tiles, tmp_path, validation=validation), quiet())


def test_c88_weights_asked_for_without_validation_tiles_are_refused_with_the_way_out(
    tiles: Path, tmp_path: Path
) -> None:
    config = small(tiles, tmp_path, epochs=1, validation=ValidationConfig(also=(LOSS,)))
    config = replace(config, data=replace(config.data, split=ByArea(validation_areas=())))
    with pytest.raises(ConfigError, match=r"no validation tiles.*\(-P validation\.also=\[\]\)"):
        build_training(config, quiet())
    build_training(override(config, "validation.also", "[]"), quiet())


@pytest.mark.parametrize("field", ["validation.early_stopping.metric", "plateau.metric", "validation.also"])
def test_c71_a_metric_that_is_never_logged_is_refused_wherever_it_is_named(
    tiles: Path, tmp_path: Path, field: str
) -> None:
    wrong = "validation/iuo_fg"
    changes: dict[str, dict[str, object]] = {
        "validation.early_stopping.metric": {
            "validation": ValidationConfig(early_stopping=EarlyStopping(metric=wrong))
        },
        "plateau.metric": {"plateau": Plateau(metric=wrong)},
        "validation.also": {"validation": ValidationConfig(also=(wrong,))},
    }
    config: TrainingConfig = small(tiles, tmp_path, **changes[field])
    with pytest.raises(
        ConfigError, match=rf"{field}=validation/iuo_fg: not among the logged metrics .*validation/iou_fg"
    ):
        build_training(config, quiet())
