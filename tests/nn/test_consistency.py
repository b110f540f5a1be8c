"""Learning without labels: equivariant models agree with themselves, teachers get no gradient, draws are explicit."""

from __future__ import annotations

import json
import math
import pickle
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from swath.config import build, resolve
from swath.data.augment.transforms import symmetry
from swath.errors import ConfigError
from swath.labels import IGNORE
from swath.nn.consistency import (
    LinearRamp,
    PseudoLabels,
    TurnConsistency,
    kullback_leibler,
    pseudo_labels,
    squared_difference,
    turned_views,
)
from swath.nn.losses.overlap import Dice
from swath.nn.losses.pixel import CrossEntropy, Focal
from swath.training.schedules import Constant, WarmUp
from tests.synthetic import PixelNet, TinyNet


class Tasks(nn.Module):
    """A network's channels as two tasks; NaN is filled as the models of swath do."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image_BCHW: Tensor) -> dict[str, Tensor]:
        out = self.network(image_BCHW.nan_to_num(0.0))
        return {"water": out[:, :2], "ice": out[:, 2:]}


class Positional(nn.Module):
    """Logits that depend on the row and on a value to learn, not on the image alone."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(0.7))

    def forward(self, image_BCHW: Tensor) -> Tensor:
        rows = torch.arange(image_BCHW.shape[-2]).float()[None, None, :, None]
        a, b, c = image_BCHW.split(1, dim=1)
        return torch.cat([a + self.slope * rows, b, c, a + self.slope * rows, b], dim=1)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def image(shape: tuple[int, ...] = (2, 3, 6, 9), gap: int = 2) -> Tensor:
    drawn = torch.randn(shape, generator=generator(5))
    drawn[..., :gap] = math.nan
    drawn[0, 0] = math.nan  # one band alone: still measured
    return drawn


def equivariant() -> Tasks:
    torch.manual_seed(0)
    return Tasks(PixelNet(3, 5))


def positional() -> Tasks:
    return Tasks(Positional())


BOTH = pytest.mark.parametrize(
    "loss", [TurnConsistency(), TurnConsistency(kullback_leibler), PseudoLabels()], ids=["mse", "kl", "pseudo"]
)
DIFFERENCES = pytest.mark.parametrize("difference", [squared_difference, kullback_leibler])


def gradients(model: nn.Module) -> list[Tensor | None]:
    return [p.grad for p in model.parameters()]


# ------------------------------------------------------------------------------------------------------------ turning


@DIFFERENCES
@pytest.mark.parametrize("seed", range(8))
def test_c73_a_model_of_single_pixels_is_consistent(difference: Any, seed: int) -> None:
    model = equivariant()
    losses = TurnConsistency(difference)(model, image(), generator(seed))
    assert set(losses) == {"water", "ice"}
    sum(losses.values(), torch.tensor(0.0)).backward()
    for value in losses.values():
        assert value.item() == pytest.approx(0, abs=1e-6)
    assert all(g is None or g.abs().max() < 1e-5 for g in gradients(model))


@DIFFERENCES
@pytest.mark.parametrize("seed", range(8))
def test_c73_a_positional_model_is_not(difference: Any, seed: int) -> None:
    model = positional()
    symmetric = int(torch.randint(1, 8, (1,), generator=generator(seed))) == 4  # left-right: rows stay where they are
    losses = TurnConsistency(difference)(model, image(), generator(seed))
    assert all((value.item() > 1e-3) != symmetric for value in losses.values())


def test_c73_every_turn_but_none_is_drawn() -> None:
    place = torch.arange(12.0).view(1, 1, 3, 4)
    draws = generator()
    seen = [turned_views(lambda x: {"t": x}, place, draws).student["t"].flatten().tolist() for _ in range(400)]
    moves = {tuple(symmetry(place, move).flatten().tolist()) for move in range(8)}
    found = {tuple(view) for view in seen}
    assert found == moves - {tuple(place.flatten().tolist())}
    assert min(seen.count(list(view)) for view in found) > 30  # 57 expected of each


@BOTH
def test_c73_draws_come_from_the_generator_alone(loss: nn.Module) -> None:
    model = positional()
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = [{k: v.item() for k, v in loss(model, image(), generator(s)).items()} for s in range(6)]
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert [{k: v.item() for k, v in loss(model, image(), generator(s)).items()} for s in range(6)] == first
    assert len({values["water"] for values in first}) > 1


# ------------------------------------------------------------------------------------------------------------ formulas


def test_c73_differences_equal_torchs() -> None:
    student, teacher = torch.randn(2, 4, 5, 6, generator=generator(1)), torch.randn(2, 4, 5, 6, generator=generator(2))
    p, q = student.softmax(1), teacher.softmax(1)
    torch.testing.assert_close(squared_difference(student, teacher).mean(), F.mse_loss(p, q))
    expected = F.kl_div(p.log(), q, reduction="none").sum(1)
    torch.testing.assert_close(kullback_leibler(student, teacher), expected, rtol=1e-4, atol=1e-6)
    assert (kullback_leibler(student, student) == 0).all()
    assert torch.isfinite(kullback_leibler(1e4 * student, 1e4 * teacher)).all()


@DIFFERENCES
def test_c73_the_loss_is_the_mean_over_measured_pixels(difference: Any) -> None:
    model, scene = positional(), image()
    move = int(torch.randint(1, 8, (1,), generator=generator(3)))
    student, teacher = model(symmetry(scene, move)), model(scene)
    valid = symmetry(~torch.isnan(scene).all(1), move)
    found = TurnConsistency(difference)(model, scene, generator(3))
    for task, value in found.items():
        each = difference(student[task], symmetry(teacher[task], move))
        torch.testing.assert_close(value, each[valid].mean())


def test_c73_any_difference_will_do_and_only_measured_pixels_are_asked() -> None:
    losses = TurnConsistency(lambda student, teacher: torch.ones_like(student[:, 0]))(
        positional(), image(), generator()
    )
    assert [value.item() for value in losses.values()] == [1, 1]


def test_c73_heads_of_one_channel_compare_their_values() -> None:
    a, b = torch.randn(2, 1, 3, 3), torch.randn(2, 1, 3, 3)
    torch.testing.assert_close(squared_difference(a, b), (a - b)[:, 0] ** 2)
    with pytest.raises(ConfigError, match="squared_difference"):
        kullback_leibler(a, b)
    with pytest.raises(ConfigError, match="TurnConsistency"):
        pseudo_labels(a, torch.ones(2, 3, 3, dtype=torch.bool))


# ------------------------------------------------------------------------------------------------------------ teachers


@BOTH
def test_c73_the_teacher_gets_no_gradient(loss: nn.Module) -> None:
    student, teacher = positional(), positional()
    sum(loss(student, image(), generator(1), teacher).values(), torch.tensor(0.0)).backward()
    assert all(g is None for g in gradients(teacher))
    assert any(g is not None and g.abs().max() > 0 for g in gradients(student))


@BOTH
def test_c73_a_model_that_teaches_itself_learns_from_one_side_only(loss: nn.Module) -> None:
    alone, student, teacher = positional(), positional(), positional()
    for model, other in ((alone, None), (student, teacher)):
        sum(loss(model, image(), generator(1), other).values(), torch.tensor(0.0)).backward()
    for a, b in zip(gradients(alone), gradients(student), strict=True):
        assert a is not None
        torch.testing.assert_close(a, b)


@BOTH
def test_c73_the_student_learns_under_autocast(loss: nn.Module) -> None:
    torch.manual_seed(0)
    model = Tasks(TinyNet(3, 5, dropout=0.0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = loss(model, image(), generator(2))
    sum(losses.values(), torch.tensor(0.0)).backward()
    assert all(value.dtype == torch.float32 for value in losses.values())
    assert all(g is not None and g.abs().max() > 0 for g in gradients(model)[-2:])


@DIFFERENCES
def test_c73_training_without_labels_makes_a_model_consistent(difference: Any) -> None:
    model, scene, loss = positional(), image((2, 3, 8, 8)), TurnConsistency(difference)
    optimizer, draws = torch.optim.SGD(model.parameters(), lr=0.5), generator()
    before = loss(model, scene, generator(1))["ice"].item()
    for _ in range(60):
        optimizer.zero_grad()
        sum(loss(model, scene, draws).values(), torch.tensor(0.0)).backward()
        optimizer.step()
    assert loss(model, scene, generator(1))["ice"].item() < 0.1 * before


# ------------------------------------------------------------------------------------------------------------ nodata


@BOTH
def test_c73_pixels_without_a_measurement_do_not_count(loss: nn.Module) -> None:
    """Whatever a model says where all bands are NaN, even NaN, changes neither loss nor gradient."""
    results = []
    for said in (0.0, 30.0, math.nan):
        scale = nn.Parameter(torch.tensor(1.0))

        def model(x: Tensor, scale: Tensor = scale, said: float = said) -> dict[str, Tensor]:
            raw = torch.where(torch.isnan(x).all(1, keepdim=True), said, x.nan_to_num(0.0))
            rows = torch.arange(x.shape[-2]).float()[:, None] * torch.tensor([0.0, 1.0, 0.0])[:, None, None]
            return {"t": raw + scale * rows}

        value = loss(model, image(), generator(1))["t"]
        value.backward()
        assert scale.grad is not None
        results.append((value.item(), scale.grad.item()))
    assert results[0] == results[1] == results[2]
    assert all(math.isfinite(v) and v != 0 for v in results[0])


@BOTH
def test_c73_an_image_without_any_measurement_costs_nothing(loss: nn.Module) -> None:
    model = positional()
    losses = loss(model, torch.full((2, 3, 6, 9), math.nan), generator(1))
    sum(losses.values(), torch.tensor(0.0)).backward()
    assert [value.item() for value in losses.values()] == [0, 0]
    assert all(g is None or (g == 0).all() for g in gradients(model))


# -------------------------------------------------------------------------------------------------------- pseudo-labels


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 999), st.sampled_from([0.0, 0.4, 0.6, 0.9, 1.0]))
def test_c73_pseudo_labels_are_the_sure_classes(seed: int, threshold: float) -> None:
    logits = 2 * torch.randn(2, 3, 4, 5, generator=generator(seed))
    valid = torch.rand(2, 4, 5, generator=generator(seed + 1)) > 0.3
    found = pseudo_labels(logits, valid, threshold)
    assert found.dtype == torch.uint8
    confidence = logits.softmax(1).amax(1)
    expected = logits.argmax(1).masked_fill(~valid | (confidence < threshold), IGNORE)
    assert torch.equal(found.long(), expected)


def test_c73_a_class_as_probable_as_the_threshold_is_kept() -> None:
    even, sure = torch.zeros(1, 2, 1, 1), torch.tensor([0.0, 200.0]).view(1, 2, 1, 1)
    here = torch.ones(1, 1, 1, dtype=torch.bool)
    assert pseudo_labels(even, here, 0.5).item() == 0
    assert pseudo_labels(even, here, 0.5001).item() == IGNORE
    assert pseudo_labels(sure, here, 1.0).item() == 1


def test_c73_pseudo_label_loss_is_the_loss_against_the_turned_classes() -> None:
    model, scene = positional(), image()
    move = int(torch.randint(1, 8, (1,), generator=generator(3)))
    student, teacher = model(symmetry(scene, move)), model(scene)
    found = PseudoLabels(partial(Focal, gamma=1.0), threshold=0.7)(model, scene, generator(3))
    for task, value in found.items():
        sure = teacher[task].softmax(1).amax(1) >= 0.7
        labels = torch.where(sure & ~torch.isnan(scene).all(1), teacher[task].argmax(1), IGNORE)
        assert (labels == IGNORE).float().mean() > (torch.isnan(scene).all(1)).float().mean()
        torch.testing.assert_close(value, Focal(gamma=1.0)(student[task], symmetry(labels, move)))


def test_c73_nothing_is_sure_enough() -> None:
    model = Tasks(PixelNet(3, 5))
    losses = PseudoLabels(threshold=1.0)(model, image(), generator())
    sum(losses.values(), torch.tensor(0.0)).backward()
    assert [value.item() for value in losses.values()] == [0, 0]


@pytest.mark.parametrize("threshold", [-0.1, 1.1, 90.0])
def test_c73_a_threshold_is_a_probability(threshold: float) -> None:
    with pytest.raises(ConfigError, match=f"threshold={threshold}"):
        PseudoLabels(threshold=threshold)


# ----------------------------------------------------------------------------------------------------- ramp and config


def test_c73_ramp_values() -> None:
    ramp = LinearRamp(low=0.001, high=1.0, share=0.25)
    expected = {0: 0.001, 100: 0.001 + 0.999 * 0.4, 125: 0.5005, 250: 1.0, 251: 1.0, 999: 1.0, 1000: 1.0}
    assert {i: ramp(i, 1000) for i in expected} == pytest.approx(expected)
    steps = [ramp(i + 1, 1000) - ramp(i, 1000) for i in range(250)]
    assert steps == pytest.approx([0.999 / 250] * 250)
    assert LinearRamp(low=0.2, high=0.5, share=0.0)(0, 10) == 0.5
    assert [LinearRamp(low=2.0, high=2.0)(i, 8) for i in (0, 3, 8)] == [2.0] * 3


@given(st.integers(1, 500))
def test_c73_ramp_from_0_1_to_1_is_a_warm_up(quarter: int) -> None:
    n = 4 * quarter
    ramp, other = LinearRamp(low=0.1), WarmUp(after=Constant(), share=0.25, start=0.1)
    assert [ramp(i, n) for i in range(n)] == pytest.approx([other(i, n) for i in range(n)])


@pytest.mark.parametrize(
    "factory",
    [
        partial(TurnConsistency),
        partial(TurnConsistency, difference=kullback_leibler),
        partial(PseudoLabels, loss=partial(CrossEntropy), threshold=0.6),
        partial(PseudoLabels, loss=partial(Dice, classes=(1,))),
    ],
)
def test_c73_both_variants_go_through_a_config_file_and_pickle(factory: partial[nn.Module]) -> None:
    model = positional()
    expected = {task: value.item() for task, value in factory()(model, image(), generator(2)).items()}
    again = build(json.loads(json.dumps(resolve(factory))))()
    for loss in (again, pickle.loads(pickle.dumps(again))):
        assert {task: value.item() for task, value in loss(model, image(), generator(2)).items()} == expected
    assert build(resolve(LinearRamp(high=0.5))) == LinearRamp(high=0.5)
