"""Region losses against loops over pixels, smp, scikit-learn and the definition of the Lovász extension."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, fbeta_score, jaccard_score
from torch import Tensor

from swath.errors import ConfigError
from swath.labels import IGNORE
from swath.nn.losses.overlap import Dice, FocalTversky, LogCoshDice, Lovasz, LovaszHinge, SoftJaccard, Tversky, areas
from tests.synthetic import labels


def sample(classes: int = 3, ignored: float = 0.3, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn((2, classes, 7, 5), generator=generator), labels((2, 7, 5), classes, ignored, seed)


def guesses(seed: int, classes: int = 3) -> tuple[Tensor, Tensor, np.ndarray, np.ndarray]:
    """Logits that are all but certain, targets, and the guessed and true classes of the labelled pixels."""
    x, y = sample(classes, seed=seed)
    valid = y.numpy() != IGNORE
    hard = 80.0 * F.one_hot(x.argmax(1), classes).movedim(-1, 1)
    return hard, y, x.argmax(1).numpy()[valid], y.numpy()[valid]


def looped(x_BKHW: Tensor, y_BHW: Tensor, alpha: float, beta: float) -> list[float]:
    """Tversky index of each class by its definition, pixel by pixel in double precision."""
    p = x_BKHW.double().softmax(1)
    found = []
    for k in range(x_BKHW.shape[1]):
        hit = false = missed = 0.0
        for b, i, j in np.ndindex(*y_BHW.shape):
            if y_BHW[b, i, j] != IGNORE:
                q, truth = float(p[b, k, i, j]), float(y_BHW[b, i, j] == k)
                hit, false, missed = hit + q * truth, false + q * (1 - truth), missed + (1 - q) * truth
        found.append(hit / (hit + alpha * false + beta * missed))
    return found


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 999), st.floats(0, 0.6))
def test_c64_region_losses_equal_a_loop(seed: int, ignored: float) -> None:
    x, y = sample(3, ignored, seed)
    for loss, alpha, beta in ((SoftJaccard(), 1, 1), (Dice(), 0.5, 0.5), (Tversky(0.2, 0.9), 0.2, 0.9)):
        assert float(loss(x, y)) == pytest.approx(1 - np.mean(looped(x, y, alpha, beta)), abs=1e-5)
    index = np.array(looped(x, y, 0.3, 0.7))
    assert float(FocalTversky()(x, y)) == pytest.approx(((1 - index) ** 0.75).mean(), abs=1e-5)
    dice = 1 - np.mean(looped(x, y, 0.5, 0.5))
    assert float(LogCoshDice()(x, y)) == pytest.approx(np.log(np.cosh(dice)), abs=1e-5)


def test_c64_region_losses_equal_smp() -> None:
    x, y = sample()
    settings = {"mode": "multiclass", "ignore_index": IGNORE}
    expected = smp.losses.TverskyLoss(alpha=0.2, beta=0.9, **settings)
    torch.testing.assert_close(SoftJaccard()(x, y), smp.losses.JaccardLoss(**settings)(x, y.long()))
    torch.testing.assert_close(Dice()(x, y), smp.losses.DiceLoss(**settings)(x, y.long()))
    torch.testing.assert_close(Tversky(0.2, 0.9)(x, y), expected(x, y.long()))
    powered = smp.losses.TverskyLoss(alpha=0.3, beta=0.7, gamma=0.5, classes=[1], **settings)
    torch.testing.assert_close(FocalTversky(gamma=2.0, classes=(1,))(x, y), powered(x, y.long()))


def test_c64_foreground_of_two_classes_is_smps_binary_form() -> None:
    x, y = sample(2)
    difference = (x[:, 1] - x[:, 0])[:, None]
    settings = {"mode": "binary", "ignore_index": IGNORE}
    torch.testing.assert_close(
        SoftJaccard((1,))(x, y), smp.losses.JaccardLoss(**settings)(difference, y[:, None].long())
    )
    torch.testing.assert_close(Dice((1,))(x, y), smp.losses.DiceLoss(**settings)(difference, y[:, None].long()))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 999))
def test_c64_sure_guesses_cost_what_scikit_learn_says(seed: int) -> None:
    x, y, guess, truth = guesses(seed)
    every: dict[str, Any] = {"labels": [0, 1, 2], "average": "macro"}
    iou, present = jaccard_score(truth, guess, labels=[0, 1, 2], average=None), np.unique(truth)
    assert float(SoftJaccard()(x, y)) == pytest.approx(1 - iou.mean(), abs=1e-5)
    assert float(Dice()(x, y)) == pytest.approx(1 - f1_score(truth, guess, **every), abs=1e-5)
    # F_b weighs misses b^2 times as much as false alarms
    assert float(Tversky(0.2, 0.8)(x, y)) == pytest.approx(1 - fbeta_score(truth, guess, beta=2, **every), abs=1e-5)
    assert float(Lovasz()(x, y)) == pytest.approx(1 - iou[present].mean(), abs=1e-5)


def test_c64_pooled_jaccard_is_the_unosat_formula() -> None:
    """1 - mean(I) / mean(U) over (batch, class), U = p + y - p y + 1e-10 summed over pixels."""
    x, y = sample(2, ignored=0.0)
    probability, truth = x.softmax(1), F.one_hot(y.long(), 2).movedim(-1, 1)
    intersection = (probability * truth).sum((2, 3))
    union = (probability + truth - probability * truth).sum((2, 3)) + 1e-10
    torch.testing.assert_close(SoftJaccard(pooled=True)(x, y), 1 - intersection.mean() / union.mean())


def jaccard_distance(truth: set[int], wrong: set[int]) -> float:
    """1 - IoU of a guess that differs from `truth` in the pixels `wrong`."""
    return len(wrong) / len(truth | wrong) if wrong else 0.0


def lovasz_extension(errors: np.ndarray, truth: np.ndarray) -> float:
    """Sum over pixels, worst first, of the error times what the pixel adds to 1 - IoU (definition 1 of the paper)."""
    foreground, wrong, total = set(np.flatnonzero(truth)), set[int](), 0.0
    for i in np.argsort(-errors):
        before = jaccard_distance(foreground, wrong)
        wrong |= {int(i)}
        total += errors[i] * (jaccard_distance(foreground, wrong) - before)
    return total


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 999), st.integers(2, 4))
def test_c64_lovasz_softmax_equals_its_definition(seed: int, classes: int) -> None:
    x, y = sample(classes, seed=seed)
    valid = y.numpy() != IGNORE
    p, truth = np.moveaxis(x.double().softmax(1).numpy(), 1, -1)[valid], y.numpy()[valid]
    terms = [lovasz_extension(np.abs((truth == k) - p[:, k]), truth == k) for k in np.unique(truth)]
    assert float(Lovasz()(x, y)) == pytest.approx(np.mean(terms), abs=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 999))
def test_c64_lovasz_hinge_equals_its_definition(seed: int) -> None:
    x, y = sample(2, seed=seed)
    valid = y.numpy() != IGNORE
    margin, truth = (x[:, 1] - x[:, 0]).double().numpy()[valid], y.numpy()[valid] == 1
    errors = np.maximum(1 - margin * np.where(truth, 1, -1), 0)
    assert float(LovaszHinge()(x, y)) == pytest.approx(lovasz_extension(errors, truth), rel=1e-5)


def test_c64_lovasz_hinge_wants_a_margin_of_1() -> None:
    x, y = torch.zeros(1, 2, 1, 2), torch.tensor([[[1, 0]]])
    x[0, :, 0, 0], x[0, :, 0, 1] = torch.tensor([0.0, 1.0]), torch.tensor([0.5, -0.5])
    assert float(LovaszHinge()(x, y)) == 0
    assert float(LovaszHinge()(0.5 * x, y)) > 0


KINDS = [SoftJaccard, Dice, LogCoshDice, partial(Tversky, 0.3, 0.7), partial(FocalTversky, 0.3, 0.7, 1.5)]


@pytest.mark.parametrize("kind", KINDS)
def test_c64_region_losses_leave_out_ignored_pixels(kind: Any) -> None:
    x, y = sample(2, ignored=0.0)
    y[..., 3:] = IGNORE
    torch.testing.assert_close(kind()(x, y), kind()(x[..., :3], y[..., :3]))


@pytest.mark.parametrize("kind", KINDS)
def test_c64_a_tile_without_the_class_is_no_miss(kind: Any) -> None:
    y = torch.zeros(2, 4, 4, dtype=torch.uint8)
    y[0, :2] = 1
    x = 40.0 * F.one_hot(y.long(), 2).movedim(-1, 1)
    assert float(kind()(x, y)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind is not LogCoshDice])
def test_c64_chosen_classes_are_the_mean_over_these(kind: Any) -> None:
    x, y = sample()
    each = torch.stack([kind(classes=(k,))(x, y) for k in range(3)])
    torch.testing.assert_close(kind()(x, y), each.mean())
    torch.testing.assert_close(kind(classes=(1, 2))(x, y), each[1:].mean())


def test_c64_an_absent_class_that_is_predicted_costs() -> None:
    """Where smp's form gives 0, so that painting everything with an absent class is free."""
    y = torch.zeros(1, 4, 4, dtype=torch.uint8)
    nothing, everything = (20.0 * F.one_hot(torch.full_like(y, k).long(), 2).movedim(-1, 1) for k in (0, 1))
    assert float(Dice((1,), smooth=1.0)(nothing, y)) == pytest.approx(0, abs=1e-5)
    assert float(Dice((1,), smooth=1.0)(everything, y)) == pytest.approx(1 - 1 / 9)
    unsure = torch.zeros(1, 2, 4, 4, requires_grad=True)
    Dice((1,), smooth=1.0)(unsure, y).backward()
    assert unsure.grad is not None
    assert (unsure.grad[:, 1] > 1e-3).all()


def test_c64_areas_are_counts_for_sure_guesses() -> None:
    x, y, guess, truth = guesses(0)
    both, predicted, true = areas(x, y)
    for k in range(3):
        assert float(both[k]) == pytest.approx(((guess == k) & (truth == k)).sum())
        assert float(predicted[k]) == pytest.approx((guess == k).sum())
        assert float(true[k]) == (truth == k).sum()


def test_c64_errors_name_what_is_wrong() -> None:
    x, y = sample()
    for classes in ((3,), (-1,), ()):
        with pytest.raises(ConfigError, match=r"classes 0 to 2"):
            Dice(classes)(x, y)
    with pytest.raises(ConfigError, match=r"smooth=0"):
        Tversky(smooth=0.0)
    with pytest.raises(ConfigError, match=r"two classes, the head has 3"):
        LovaszHinge()(x, y)


def test_c64_log_cosh_dice_ends_at_log_cosh_1() -> None:
    y = torch.tensor([[[0, 1]]])
    wrong = 80.0 * F.one_hot(1 - y, 2).movedim(-1, 1)
    assert float(LogCoshDice()(wrong, y)) == pytest.approx(math.log(math.cosh(1)))
