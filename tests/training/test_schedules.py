"""Learning-rate schedules through torch's LambdaLR: hand formulas and torch's own schedulers as oracles."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    CyclicLR,
    LambdaLR,
    LRScheduler,
    OneCycleLR,
)

from swath.config.ranges import check_ranges
from swath.errors import ConfigError
from swath.nn.model import Classification
from swath.training.config import DataConfig, TrainingConfig
from swath.training.learner import parameter_groups
from swath.training.schedules import Constant, Cosine, CosineRestarts, Cyclic, OneCycle, Poly, PolyRestart, WarmUp
from tests.synthetic import TinyNet

LR0, N = 0.05, 200
Schedule = Callable[[int, int], float]
ALL: tuple[Schedule, ...] = (
    Constant(), Poly(), PolyRestart(), PolyRestart(at=0.5, scale=0.5), OneCycle(), Cosine(final=0.01),
    CosineRestarts(period=60), CosineRestarts(period=20, growth=2), Cyclic(period=50), WarmUp(after=Poly()),
)  # fmt: skip


def rates(make: Callable[[torch.optim.Optimizer], LRScheduler], steps: int = N) -> list[float]:
    """The learning rate that each of `steps` optimiser steps uses."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=LR0, momentum=0.9)
    scheduler = make(optimizer)
    used = []
    for _ in range(steps):
        used.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step()
    return used


def through_lambda(schedule: Schedule, n: int = N, steps: int | None = None) -> list[float]:
    return rates(lambda optimizer: LambdaLR(optimizer, lambda i: schedule(i, n)), steps or n)


HAND: list[tuple[Schedule, dict[int, float]]] = [
    (Constant(), {0: 1, 50: 1, 100: 1, 150: 1, 199: 1}),
    (Poly(), {0: 1, 50: 0.75**0.9, 100: 0.5**0.9, 150: 0.25**0.9, 199: (1 / 200) ** 0.9}),
    (Poly(power=2), {0: 1, 50: 0.75**2, 100: 0.25, 150: 0.0625, 199: 0.005**2}),
    (PolyRestart(), {0: 1, 75: 0.5**0.9, 149: (1 / 150) ** 0.9, 150: 0.25, 175: 0.25 * 0.5**0.9}),
    (PolyRestart(at=0.5, scale=0.5), {0: 1, 50: 0.5**0.9, 99: 0.01**0.9, 100: 0.5, 150: 0.5 * 0.5**0.9}),
    (Cosine(), {0: 1, 50: (1 + math.sqrt(0.5)) / 2, 100: 0.5, 150: (1 - math.sqrt(0.5)) / 2, 199: 6.168e-5}),
    (CosineRestarts(period=100, final=0.2), {0: 1, 50: 0.6, 99: 0.2001974, 100: 1, 150: 0.6}),
    (Cyclic(period=100, low=0.1), {0: 0.1, 25: 0.55, 50: 1, 75: 0.55, 100: 0.1}),
    (WarmUp(after=Constant(), share=0.1, start=0.25), {0: 0.25, 10: 0.625, 19: 0.9625, 20: 1, 199: 1}),
    (WarmUp(after=Poly(power=1), share=0.2, start=0.5), {0: 0.5, 20: 0.75, 40: 1, 120: 0.5, 199: 1 / 160}),
]  # fmt: skip


@pytest.mark.parametrize(("schedule", "expected"), HAND, ids=lambda v: type(v).__name__)
def test_c68_the_rate_equals_the_formula_at_five_check_points(schedule: Schedule, expected: dict[int, float]) -> None:
    used = through_lambda(schedule)
    assert len(expected) == 5
    for i, factor in expected.items():
        assert used[i] == pytest.approx(LR0 * factor, rel=1e-4), i


@settings(max_examples=30, deadline=None)
@given(st.integers(3, 300), st.floats(0.05, 0.9), st.floats(1.5, 100), st.floats(10, 1e5))
def test_c68_one_cycle_equals_torchs_at_every_step(n: int, warm_up: float, div: float, final_div: float) -> None:
    assume(abs(warm_up * n - 1) > 1e-3)  # there torch's divides by zero
    schedule = OneCycle(warm_up=warm_up, div=div, final_div=final_div)
    one = through_lambda(schedule, n, n - 1)
    two = rates(
        lambda optimizer: OneCycleLR(
            optimizer, LR0, total_steps=n, pct_start=warm_up, div_factor=div, final_div_factor=final_div,
            cycle_momentum=False,
        ),
        n - 1,
    )  # fmt: skip
    assert one == pytest.approx(two, rel=1e-6, abs=1e-12)


def test_c68_cosine_equals_torchs() -> None:
    torchs = rates(lambda optimizer: CosineAnnealingLR(optimizer, T_max=N, eta_min=0.1 * LR0))
    assert through_lambda(Cosine(final=0.1)) == pytest.approx(torchs, rel=1e-6)


@pytest.mark.parametrize(("period", "growth"), [(1, 1), (60, 1), (1, 2), (10, 2), (7, 3), (300, 2)])
def test_c68_cosine_restarts_equal_torchs(period: int, growth: int) -> None:
    torchs = rates(lambda o: CosineAnnealingWarmRestarts(o, T_0=period, T_mult=growth, eta_min=0.1 * LR0))
    assert through_lambda(CosineRestarts(period=period, growth=growth, final=0.1)) == pytest.approx(torchs, rel=1e-6)


def test_c68_restarts_that_never_end_are_refused() -> None:
    for name in ("period", "growth"):
        with pytest.raises(ConfigError, match=rf"schedule\.{name}=0: has to be 1 or more"):
            check_ranges(partial(CosineRestarts, **{name: 0}), "schedule")


def test_c68_cyclic_equals_torchs() -> None:
    torchs = rates(lambda o: CyclicLR(o, base_lr=0.1 * LR0, max_lr=LR0, step_size_up=25, cycle_momentum=False))
    assert through_lambda(Cyclic(period=50, low=0.1)) == pytest.approx(torchs, rel=1e-6)


@pytest.mark.parametrize("schedule", ALL, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("n", [1, 2, 3, 7, 1000])
def test_c68_factors_lie_between_0_and_1_for_any_length(schedule: Schedule, n: int) -> None:
    factors = [schedule(i, n) for i in range(n + 3)]  # a scheduler asks beyond the last step, too
    assert all(0 <= f <= 1 + 1e-12 for f in factors)


def test_c68_one_cycle_whose_warm_up_is_one_step_starts_at_its_peak() -> None:
    assert OneCycle(warm_up=0.1)(0, 10) == 1


def test_c68_poly_ends_at_0() -> None:
    assert Poly()(N, N) == 0
    assert PolyRestart()(N, N) == 0
    assert Poly()(0, N) == 1


@pytest.mark.parametrize("schedule", ALL, ids=lambda s: type(s).__name__)
def test_c68_resuming_goes_on_with_the_same_rates(schedule: Schedule) -> None:
    def make() -> tuple[torch.optim.Optimizer, LambdaLR]:
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=LR0)
        return optimizer, LambdaLR(optimizer, lambda i: schedule(i, N))

    whole = through_lambda(schedule)
    optimizer, scheduler = make()
    for _ in range(120):
        optimizer.step()
        scheduler.step()
    state = pickle.loads(pickle.dumps((optimizer.state_dict(), scheduler.state_dict())))
    optimizer, scheduler = make()
    optimizer.load_state_dict(state[0])
    scheduler.load_state_dict(state[1])
    for i in range(120, N):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(whole[i], rel=1e-12)
        optimizer.step()
        scheduler.step()


def config(no_decay: bool) -> TrainingConfig:
    return TrainingConfig(
        data=DataConfig(tiles_path="tiles"), tasks={"water": Classification()}, model=partial(TinyNet), no_decay=no_decay,
        optimizer=partial(torch.optim.AdamW, lr=3e-4, weight_decay=0.02),
    )  # fmt: skip


def test_c67_weight_decay_is_exactly_as_configured() -> None:
    settings_ = config(no_decay=False)
    model = TinyNet(2, 2)
    optimizer = settings_.optimizer(parameter_groups(model, settings_))
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.02]
    assert [group["lr"] for group in optimizer.param_groups] == [3e-4]
    assert len(optimizer.param_groups[0]["params"]) == len(list(model.parameters()))


def test_c67_no_decay_exempts_biases_and_norms_and_nothing_else() -> None:
    settings_ = config(no_decay=True)
    model = TinyNet(2, 2)
    model.layers[0].weight.requires_grad_(False)  # a frozen weight is in no group
    optimizer = settings_.optimizer(parameter_groups(model, settings_))
    decayed, exempt = (
        {id(p) for group in optimizer.param_groups if (group["weight_decay"] > 0) == kind for p in group["params"]}
        for kind in (True, False)
    )
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            is_exempt = name == "bias" or isinstance(module, nn.BatchNorm2d)
            assert (id(parameter) in exempt) == is_exempt
            assert (id(parameter) in decayed) == (parameter.requires_grad and not is_exempt)
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.02, 0.0}


@pytest.mark.parametrize("nesterov", [True, False])
def test_c67_optimisers_are_torchs_with_the_given_settings(nesterov: bool) -> None:
    settings_ = config(no_decay=False)
    make = partial(torch.optim.SGD, lr=0.05, momentum=0.9, nesterov=nesterov, weight_decay=5e-4)
    group = make(parameter_groups(TinyNet(2, 2), settings_)).param_groups[0]
    assert (group["nesterov"], group["momentum"], group["weight_decay"]) == (nesterov, 0.9, 5e-4)
