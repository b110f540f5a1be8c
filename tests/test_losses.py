"""Losses: formulas by loop, ignored pixels without gradient, finite on every batch."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from swath.errors import ConfigError
from swath.labels import IGNORE
from swath.nn.losses import CrossEntropy, Dice, SoftJaccard, TaskLosses, WeightedSum
from tests.synthetic import labels

BOTH = partial(
    WeightedSum, losses={"ce": partial(CrossEntropy), "jaccard": partial(SoftJaccard)}, weights={"jaccard": 2.0}
)
LOSSES = {
    "ce": partial(CrossEntropy),
    "ce_weighted": partial(CrossEntropy, class_weights=(0.1, 2.0, 0.0)),
    "ce_smoothed": partial(CrossEntropy, label_smoothing=0.1),
    "ce_both": partial(CrossEntropy, class_weights=(0.1, 2.0, 1.0), label_smoothing=0.1),
    "jaccard": partial(SoftJaccard),
    "jaccard_foreground": partial(SoftJaccard, classes=(1, 2)),
    "dice": partial(Dice),
    "dice_foreground": partial(Dice, classes=(1,)),
    "sum": BOTH,
}
every_loss = pytest.mark.parametrize("make", LOSSES.values(), ids=LOSSES.keys())


def logits(shape: tuple[int, ...] = (2, 3, 7, 5), seed: int = 0, scale: float = 3.0) -> Tensor:
    return (scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))).requires_grad_()


def looped(kind: str, x_BKHW: Tensor, y_BHW: Tensor) -> float:
    """Jaccard and Dice of the definition, pixel by pixel in double precision."""
    p = x_BKHW.detach().double().softmax(1)
    classes = x_BKHW.shape[1]
    terms = []
    for k in range(classes):
        both = predicted = true = 0.0
        for b in range(x_BKHW.shape[0]):
            for i in range(x_BKHW.shape[2]):
                for j in range(x_BKHW.shape[3]):
                    if y_BHW[b, i, j] != IGNORE:
                        hit = float(y_BHW[b, i, j] == k)
                        both += float(p[b, k, i, j]) * hit
                        predicted += float(p[b, k, i, j])
                        true += hit
        terms.append(2 * both / (predicted + true) if kind == "dice" else both / (predicted + true - both))
    return 1 - sum(terms) / classes


@every_loss
def test_c64_no_gradient_on_ignored_pixels(make: partial[nn.Module]) -> None:
    x, y = logits(), labels((2, 7, 5), 3, ignored=0.4)
    make()(x, y).backward()
    assert x.grad is not None
    ignored = (y == IGNORE)[:, None].expand_as(x)
    assert (x.grad[ignored] == 0).all()
    assert (x.grad[~ignored] != 0).any()


@every_loss
def test_c64_ignored_pixels_do_not_change_the_loss(make: partial[nn.Module]) -> None:
    x, y = logits(), labels((2, 7, 5), 3, ignored=0.4)
    other = torch.where((y == IGNORE)[:, None], logits(seed=9, scale=50.0), x)
    torch.testing.assert_close(make()(other, y), make()(x, y), rtol=1e-6, atol=1e-7)


@every_loss
def test_c64_all_ignored_batch_is_finite_without_gradient(make: partial[nn.Module]) -> None:
    x = logits()
    loss = make()(x, torch.full((2, 7, 5), IGNORE, dtype=torch.uint8))
    loss.backward()
    assert math.isfinite(loss.item())
    assert x.grad is not None
    assert (x.grad == 0).all()


@every_loss
@pytest.mark.parametrize("only", [0, 1, 2])
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e3])
def test_c64_batch_with_one_class_only_is_finite(make: partial[nn.Module], only: int, scale: float) -> None:
    x = logits(scale=scale)
    loss = make()(x, torch.full((2, 7, 5), only, dtype=torch.uint8))
    loss.backward()
    assert math.isfinite(loss.item())
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


@every_loss
def test_c64_the_right_answer_costs_least(make: partial[nn.Module]) -> None:
    y = labels((2, 7, 5), 3, ignored=0.2, seed=3)
    right = 3.0 * F.one_hot(torch.where(y == IGNORE, 0, y.long()), 3).movedim(-1, 1)
    wrong = right.roll(1, dims=1)
    assert float(make()(right, y)) < float(make()(torch.zeros_like(right), y)) < float(make()(wrong, y))


@every_loss
@pytest.mark.parametrize("kind", [torch.uint8, torch.int64])
def test_c64_loss_is_a_float32_scalar_in_any_precision(make: partial[nn.Module], kind: torch.dtype) -> None:
    y = labels((2, 7, 5), 3).to(kind)
    exact, half = make()(logits(), y), make()(logits().detach().bfloat16(), y)
    assert half.dtype == torch.float32
    assert half.shape == ()
    assert half.item() == pytest.approx(exact.item(), rel=0.05)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 999), st.sampled_from([None, (0.1, 2.0, 0.7), (1.0, 1.0, 1.0)]), st.sampled_from([0.0, 0.2]))
def test_c64_cross_entropy_equals_torch(seed: int, weights: tuple[float, ...] | None, smoothing: float) -> None:
    x, y = logits(seed=seed), labels((2, 7, 5), 3, seed=seed)
    torchs = nn.CrossEntropyLoss(
        torch.tensor(weights) if weights else None, ignore_index=IGNORE, label_smoothing=smoothing
    )
    torch.testing.assert_close(CrossEntropy(weights, smoothing)(x, y), torchs(x, y.long()), rtol=1e-5, atol=1e-6)


def test_c64_cross_entropy_by_hand() -> None:
    x = torch.zeros(1, 2, 1, 2)
    x[0, 1, 0, 0] = math.log(3)  # probabilities 1/4, 3/4 and 1/2, 1/2
    y = torch.tensor([[[1, 0]]])
    assert float(CrossEntropy()(x, y)) == pytest.approx((math.log(4 / 3) + math.log(2)) / 2)
    assert float(CrossEntropy((0.5, 2.0))(x, y)) == pytest.approx((2 * math.log(4 / 3) + 0.5 * math.log(2)) / 2.5)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 999), st.floats(0, 0.6))
def test_c64_jaccard_and_dice_equal_a_loop(seed: int, ignored: float) -> None:
    x, y = logits((2, 3, 5, 4), seed).detach(), labels((2, 5, 4), 3, ignored, seed)
    assert float(SoftJaccard()(x, y)) == pytest.approx(looped("jaccard", x, y), abs=1e-5)
    assert float(Dice()(x, y)) == pytest.approx(looped("dice", x, y), abs=1e-5)


def test_c64_dice_ignores_255() -> None:
    x, y = logits((1, 2, 4, 8)), labels((1, 4, 8), 2, ignored=0.0)
    y[..., 5:] = IGNORE
    torch.testing.assert_close(Dice()(x, y), Dice()(x[..., :5], y[..., :5]))


def test_c64_jaccard_ignores_255() -> None:
    x, y = logits((1, 2, 4, 8)), labels((1, 4, 8), 2, ignored=0.0)
    y[..., 5:] = IGNORE
    torch.testing.assert_close(SoftJaccard()(x, y), SoftJaccard()(x[..., :5], y[..., :5]))


@pytest.mark.parametrize("kind", [SoftJaccard, Dice])
def test_c64_a_tile_without_the_class_is_no_miss(kind: type[SoftJaccard] | type[Dice]) -> None:
    y = torch.zeros(2, 4, 4, dtype=torch.uint8)
    y[0, :2] = 1
    x = 40.0 * F.one_hot(y.long(), 2).movedim(-1, 1)
    assert float(kind()(x, y)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("kind", [SoftJaccard, Dice])
def test_c64_chosen_classes_are_the_mean_over_these(kind: type[SoftJaccard] | type[Dice]) -> None:
    x, y = logits(), labels((2, 7, 5), 3)
    each = torch.stack([kind((k,))(x, y) for k in range(3)])
    torch.testing.assert_close(kind()(x, y), each.mean())
    torch.testing.assert_close(kind((1, 2))(x, y), each[1:].mean())


@pytest.mark.parametrize("kind", [CrossEntropy, SoftJaccard, Dice])
def test_c64_gradients_equal_finite_differences(kind: type[nn.Module]) -> None:
    x, y = logits((1, 2, 3, 3), scale=1.0), labels((1, 3, 3), 2, seed=1)
    loss = kind()
    loss(x, y).backward()
    assert x.grad is not None
    for index in ((0, 0, 0, 0), (0, 1, 1, 2), (0, 0, 2, 1)):
        step = torch.zeros_like(x)
        step[index] = 1e-2
        slope = (loss(x.detach() + step, y) - loss(x.detach() - step, y)) / 2e-2
        assert float(slope) == pytest.approx(float(x.grad[index]), abs=2e-4)


def test_c65_weighted_sum_is_the_sum_of_its_named_terms() -> None:
    x, y = logits(), labels((2, 7, 5), 3)
    loss = BOTH()
    terms = loss.terms(x, y)
    assert set(terms) == {"ce", "jaccard"}
    torch.testing.assert_close(terms["ce"], CrossEntropy()(x, y))
    torch.testing.assert_close(terms["jaccard"], SoftJaccard()(x, y))
    torch.testing.assert_close(loss(x, y), terms["ce"] + 2 * terms["jaccard"])


def test_c65_weighted_sum_takes_modules_as_well_as_factories() -> None:
    x, y = logits(), labels((2, 7, 5), 3)
    torch.testing.assert_close(WeightedSum({"dice": Dice()})(x, y), WeightedSum({"dice": Dice})(x, y))


def test_c65_a_weight_without_its_loss_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"jacard.*ce"):
        WeightedSum({"ce": CrossEntropy}, weights={"jacard": 2.0})


def test_c65_tasks_are_weighted_and_every_term_is_named() -> None:
    x = {"ice": logits(seed=1), "floe": logits((2, 2, 7, 5), seed=2)}
    y = {"ice": labels((2, 7, 5), 3, seed=1), "floe": labels((2, 7, 5), 2, seed=2)}
    out = TaskLosses({"ice": BOTH(), "floe": CrossEntropy()}, {"ice": 1.0, "floe": 0.5})(x, y)
    assert set(out) == {"loss", "loss_ice", "loss_ice_ce", "loss_ice_jaccard", "loss_floe"}
    torch.testing.assert_close(out["loss"], out["loss_ice"] + 0.5 * out["loss_floe"])
    torch.testing.assert_close(out["loss_ice"], BOTH()(x["ice"], y["ice"]))
    torch.testing.assert_close(out["loss_ice"], out["loss_ice_ce"] + 2 * out["loss_ice_jaccard"])


def test_c78_a_task_without_labels_does_not_move_the_others() -> None:
    x = {"ice": logits(seed=1), "floe": logits((2, 2, 7, 5), seed=2)}
    y = {"ice": labels((2, 7, 5), 3), "floe": torch.full((2, 7, 5), IGNORE)}
    out = TaskLosses({"ice": CrossEntropy(), "floe": BOTH()}, {"ice": 1.0, "floe": 3.0})(x, y)
    out["loss"].backward()
    assert x["floe"].grad is not None
    assert (x["floe"].grad == 0).all()
    assert out["loss"].item() == pytest.approx(CrossEntropy()(x["ice"], y["ice"]).item(), abs=1e-5)


def test_c64_pooled_jaccard_is_the_unosat_formula() -> None:
    """1 - mean(I) / mean(U) over (batch, class), U = p + y - p y + 1e-10 summed over pixels."""
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(3, 2, 5, 7, generator=generator)
    target = torch.randint(0, 2, (3, 5, 7), generator=generator)
    probability = logits.softmax(1)
    truth = torch.nn.functional.one_hot(target, 2).movedim(-1, 1)
    intersection = (probability * truth).sum((2, 3))
    union = (probability + truth - probability * truth).sum((2, 3)) + 1e-10
    expected = 1 - intersection.mean() / union.mean()
    assert SoftJaccard(pooled=True)(logits, target).item() == pytest.approx(expected.item(), abs=1e-6)
