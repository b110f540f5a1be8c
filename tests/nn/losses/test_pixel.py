"""Losses: laws that every one keeps, formulas against torch, torchvision, smp and loops, sums with named terms."""

from __future__ import annotations

import json
import math
import pickle
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torchvision.ops import sigmoid_focal_loss

from swath.config import build, resolve
from swath.errors import ConfigError
from swath.labels import IGNORE
from swath.nn.losses.blurred import BlurredDice, BlurredFocal
from swath.nn.losses.distance import Boundary, Hausdorff, StudentT
from swath.nn.losses.overlap import Dice, FocalTversky, LogCoshDice, Lovasz, LovaszHinge, SoftJaccard, Tversky
from swath.nn.losses.pixel import (
    Combo,
    CrossEntropy,
    ExpLog,
    Focal,
    TaskLosses,
    WeightedSum,
    binary_cross_entropy_dice,
    cross_entropy_dice,
)
from swath.nn.model import Classification
from tests.synthetic import labels

BOTH = partial(
    WeightedSum, losses={"ce": partial(CrossEntropy), "jaccard": partial(SoftJaccard)}, weights={"jaccard": 2.0}
)


class Case(NamedTuple):
    """A loss and the number of classes that it is tried with."""

    make: partial[nn.Module]
    classes: int = 3


LOSSES = {
    "ce": Case(partial(CrossEntropy)),
    "ce_weighted": Case(partial(CrossEntropy, class_weights=(0.1, 2.0, 0.0))),
    "ce_smoothed": Case(partial(CrossEntropy, label_smoothing=0.1)),
    "ce_both": Case(partial(CrossEntropy, class_weights=(0.1, 2.0, 1.0), label_smoothing=0.1)),
    "jaccard": Case(partial(SoftJaccard)),
    "jaccard_foreground": Case(partial(SoftJaccard, classes=(1, 2))),
    "jaccard_pooled": Case(partial(SoftJaccard, pooled=True)),
    "jaccard_binary": Case(partial(SoftJaccard, classes=(1,)), 2),
    "dice": Case(partial(Dice)),
    "dice_foreground": Case(partial(Dice, classes=(1,))),
    "dice_smooth": Case(partial(Dice, smooth=1.0)),
    "dice_binary": Case(partial(Dice, classes=(1,)), 2),
    "tversky": Case(partial(Tversky)),
    "tversky_binary": Case(partial(Tversky, alpha=0.6, beta=0.4, classes=(1,)), 2),
    "focal": Case(partial(Focal)),
    "focal_weighted": Case(partial(Focal, gamma=0.5, class_weights=(0.1, 2.0, 1.0))),
    "focal_binary": Case(partial(Focal, class_weights=(0.75, 0.25)), 2),
    "lovasz": Case(partial(Lovasz)),
    "lovasz_two": Case(partial(Lovasz), 2),
    "lovasz_hinge": Case(partial(LovaszHinge), 2),
    "ce_dice": Case(partial(cross_entropy_dice)),
    "bce_dice": Case(partial(binary_cross_entropy_dice), 2),
    "focal_tversky": Case(partial(FocalTversky)),
    "focal_tversky_binary": Case(partial(FocalTversky, gamma=2.0, classes=(1,)), 2),
    "log_cosh_dice": Case(partial(LogCoshDice)),
    "combo": Case(partial(Combo)),
    "combo_binary": Case(partial(Combo, alpha=0.7, beta=0.8, classes=(1,)), 2),
    "exp_log": Case(partial(ExpLog, class_weights=(0.5, 1.0, 2.0))),
    "exp_log_binary": Case(partial(ExpLog, classes=(1,), smooth=1.0), 2),
    "blurred_ce": Case(partial(BlurredFocal, gamma=0.0)),
    "blurred_focal": Case(partial(BlurredFocal, sigma=0.35)),
    "blurred_dice": Case(partial(BlurredDice)),
    "blurred_dice_binary": Case(partial(BlurredDice, classes=(1,)), 2),
    "boundary": Case(partial(Boundary)),
    "boundary_binary": Case(partial(Boundary, classes=(1,)), 2),
    "hausdorff": Case(partial(Hausdorff)),
    "hausdorff_binary": Case(partial(Hausdorff, classes=(1,)), 2),
    "student_t": Case(partial(StudentT)),
    "sum": Case(BOTH),
}
every_loss = pytest.mark.parametrize("case", LOSSES.values(), ids=LOSSES.keys())
BLURRED = {name for name in LOSSES if name.startswith("blurred")}
SMOOTHED = {"ce_smoothed", "ce_both"} | BLURRED  # their best logits are not the sure ones
BY_TILE = {name for name in LOSSES if name.startswith(("boundary", "hausdorff", "student"))} | BLURRED
PIXEL_MEANS = {"ce", "ce_smoothed", "focal", "focal_weighted", "focal_binary"}


def logits(shape: tuple[int, ...] = (2, 3, 7, 5), seed: int = 0, scale: float = 3.0) -> Tensor:
    return (scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))).requires_grad_()


def sample(case: Case, ignored: float = 0.4, seed: int = 0, scale: float = 3.0) -> tuple[Tensor, Tensor]:
    return logits((2, case.classes, 7, 5), seed, scale).detach(), labels((2, 7, 5), case.classes, ignored, seed)


def gradient(loss: nn.Module, x_BKHW: Tensor, y_BHW: Tensor) -> tuple[float, Tensor]:
    x = x_BKHW.detach().clone().requires_grad_()
    value = loss(x, y_BHW)
    value.backward()
    assert x.grad is not None
    return float(value.detach()), x.grad


def sure(y_BHW: Tensor, classes: int, size: float = 60.0) -> Tensor:
    """Logits that put all probability on the label."""
    right = torch.where(y_BHW == IGNORE, 0, y_BHW.long())
    return size * F.one_hot(right, classes).movedim(-1, 1).float()


# ----------------------------------------------------------------------------------------------- laws of every loss


@every_loss
def test_c64_no_gradient_on_ignored_pixels(case: Case) -> None:
    x, y = sample(case)
    _, slope = gradient(case.make(), x, y)
    ignored = (y == IGNORE)[:, None].expand_as(x)
    assert (slope[ignored] == 0).all()
    assert (slope[~ignored] != 0).any()


@every_loss
def test_c64_ignored_pixels_do_not_change_loss_or_gradient(case: Case) -> None:
    x, y = sample(case)
    expected = gradient(case.make(), x, y)
    for value in (50.0, math.inf, math.nan):
        found = gradient(case.make(), torch.where((y == IGNORE)[:, None], value, x), y)
        assert found[0] == expected[0], value
        assert torch.equal(found[1], expected[1]), value


@every_loss
def test_c64_all_ignored_batch_costs_nothing(case: Case) -> None:
    x, _ = sample(case)
    value, slope = gradient(case.make(), x, torch.full((2, 7, 5), IGNORE, dtype=torch.uint8))
    assert value == 0
    assert (slope == 0).all()


@every_loss
@pytest.mark.parametrize("present", [(0,), (1,), (0, 1), (0, 2)], ids=str)
def test_c64_batches_without_a_class_are_finite(case: Case, present: tuple[int, ...]) -> None:
    for scale in (0.0, 1e-3, 1.0, 30.0, 1e3, 1e30):
        x, drawn = sample(case, scale=scale)
        kept = (drawn == IGNORE) | torch.isin(drawn, torch.tensor(present))
        value, slope = gradient(case.make(), x, torch.where(kept, drawn, present[0]))
        assert math.isfinite(value), scale
        assert value >= 0, scale
        assert torch.isfinite(slope).all(), scale


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(LOSSES)), st.integers(0, 9999), st.floats(-4, 4), st.sampled_from([0.0, 0.5, 0.98]))
def test_c64_losses_and_gradients_are_finite_on_random_batches(
    name: str, seed: int, size: float, ignored: float
) -> None:
    x, y = sample(LOSSES[name], ignored, seed, 10**size)
    value, slope = gradient(LOSSES[name].make(), x, y)
    assert math.isfinite(value)
    assert value >= -1e-6
    assert torch.isfinite(slope).all()


@every_loss
def test_c64_the_right_answer_costs_least(case: Case) -> None:
    y = labels((2, 7, 5), case.classes, ignored=0.2, seed=3)
    right = sure(y, case.classes, 3.0)
    wrong = right.roll(1, dims=1)
    loss = case.make()
    assert float(loss(right, y)) < float(loss(torch.zeros_like(right), y)) < float(loss(wrong, y))


@pytest.mark.parametrize("name", sorted(set(LOSSES) - SMOOTHED))
@pytest.mark.parametrize("present", [(0, 1, 2), (0,), (1,), (0, 1)], ids=str)
def test_c64_a_perfect_answer_costs_nothing(name: str, present: tuple[int, ...]) -> None:
    case = LOSSES[name]
    y = labels((2, 7, 5), case.classes, ignored=0.2)
    y = torch.where((y == IGNORE) | torch.isin(y, torch.tensor(present)), y, present[0])
    value, slope = gradient(case.make(), sure(y, case.classes), y)
    assert value == pytest.approx(0, abs=1e-6)
    assert slope.abs().max() < 1e-3


@pytest.mark.parametrize("name", sorted(set(LOSSES) - BY_TILE))
def test_c64_pixels_count_the_same_in_one_tile_and_in_two(name: str) -> None:
    case = LOSSES[name]
    x, y = sample(case)
    tall_x, tall_y = torch.cat(list(x), dim=1)[None], torch.cat(list(y), dim=0)[None]
    torch.testing.assert_close(case.make()(tall_x, tall_y), case.make()(x, y))


@pytest.mark.parametrize("name", [name for name, case in LOSSES.items() if "smooth" not in case.make.keywords])
def test_c64_seeing_every_tile_twice_changes_nothing(name: str) -> None:
    case = LOSSES[name]  # a smoothing constant stands beside the sums and does not grow with them
    x, y = sample(case)
    torch.testing.assert_close(
        case.make()(torch.cat([x, x]), torch.cat([y, y])), case.make()(x, y), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("name", sorted(PIXEL_MEANS))
def test_c64_pixel_losses_of_parts_add_up_by_their_labelled_pixels(name: str) -> None:
    x, y = sample(LOSSES[name])
    y[0, :3] = IGNORE
    loss, counts = LOSSES[name].make(), (y != IGNORE).sum((1, 2)).float()
    assert counts[0] != counts[1]
    parts = torch.stack([loss(x[i : i + 1], y[i : i + 1]) for i in range(2)])
    torch.testing.assert_close((parts * counts).sum() / counts.sum(), loss(x, y))


@every_loss
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_c64_half_precision_is_computed_in_float32(case: Case, dtype: torch.dtype) -> None:
    x, y = sample(case)
    half = x.detach().to(dtype)
    loss = case.make()(half, y)
    assert loss.dtype == torch.float32
    assert loss.shape == ()
    assert float(loss) == float(case.make()(half.float(), y))
    extreme = (6e4 * half.sign()).to(dtype)  # the largest that float16 holds is 65504
    value, slope = gradient(case.make(), extreme, y)
    assert math.isfinite(value)
    assert torch.isfinite(slope).all()


@every_loss
def test_c64_targets_of_any_integer_type_give_the_same(case: Case) -> None:
    x, y = sample(case)
    assert float(case.make()(x, y)) == float(case.make()(x, y.long())) == float(case.make()(x, y.int()))


@every_loss
def test_c64_losses_pickle_and_go_through_a_config_file(case: Case) -> None:
    x, y = sample(case)
    expected = float(case.make()(x, y))
    assert float(pickle.loads(pickle.dumps(case.make()))(x, y)) == expected
    task = Classification(classes=tuple("abc"[: case.classes]), loss=case.make)
    again = build(json.loads(json.dumps(resolve(task))))
    assert float(again.loss()(x, y)) == expected


@every_loss
def test_c65_every_loss_is_a_named_term_of_a_sum(case: Case) -> None:
    x, y = sample(case)
    total = WeightedSum({"ce": partial(CrossEntropy), "other": case.make}, {"ce": 0.5, "other": 3.0})
    out = TaskLosses({"water": total}, {"water": 2.0})({"water": x}, {"water": y})
    assert set(out) == {"loss", "loss_water", "loss_water_ce", "loss_water_other"}
    torch.testing.assert_close(out["loss_water_other"], case.make()(x, y))
    torch.testing.assert_close(out["loss"], 2 * (0.5 * out["loss_water_ce"] + 3 * out["loss_water_other"]))


@every_loss
def test_c64_gradients_equal_finite_differences(case: Case) -> None:
    x, y = sample(case, scale=1.0)
    loss = case.make()
    _, slope = gradient(loss, x, y)
    for seed in range(3):
        along = F.normalize(
            torch.randn(x.shape, generator=torch.Generator().manual_seed(seed)).flatten(), dim=0
        ).view_as(x)
        step = 2e-2 * along
        change = (loss(x.detach() + step, y) - loss(x.detach() - step, y)) / 4e-2
        assert float(change) == pytest.approx(float((slope * along).sum()), abs=3e-3 * float(slope.norm()) + 2e-5)


# ------------------------------------------------------------------------------------------------------ wrong input


@every_loss
def test_c64_a_label_that_is_no_class_is_an_error(case: Case) -> None:
    x, y = sample(case)
    for label in (case.classes, 254, -1):
        wrong = y.long()
        wrong[1, 2, 3] = label
        with pytest.raises(ConfigError, match=rf"label {label} is not among the {case.classes} classes"):
            case.make()(x, wrong)


@every_loss
def test_c64_shapes_that_do_not_fit_are_an_error(case: Case) -> None:
    x, y = sample(case)
    for target in (y[:1], y[:, :1], y[:, None]):
        with pytest.raises(ConfigError, match="do not fit"):
            case.make()(x, target)


@pytest.mark.parametrize("make", [CrossEntropy, Focal, ExpLog])
@pytest.mark.parametrize("weights", [(1.0, 2.0), (1.0, 2.0, 3.0, 4.0)])
def test_c64_class_weights_must_be_as_many_as_classes(make: Any, weights: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match=rf"class_weights has {len(weights)} values.* 3 classes"):
        make(class_weights=weights)(*sample(Case(partial(make))))


# --------------------------------------------------------------------------------------------------------- formulas


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 999), st.sampled_from([None, (0.1, 2.0, 0.7), (1, 1, 1)]), st.sampled_from([0.0, 0.2]))
def test_c64_cross_entropy_equals_torch(seed: int, weights: tuple[float, ...] | None, smoothing: float) -> None:
    x, y = logits(seed=seed).detach(), labels((2, 7, 5), 3, seed=seed)
    torchs = nn.CrossEntropyLoss(
        torch.tensor(weights).float() if weights else None, ignore_index=IGNORE, label_smoothing=smoothing
    )
    torch.testing.assert_close(CrossEntropy(weights, smoothing)(x, y), torchs(x, y.long()), rtol=1e-5, atol=1e-6)


def test_c64_cross_entropy_by_hand() -> None:
    x = torch.zeros(1, 2, 1, 2)
    x[0, 1, 0, 0] = math.log(3)  # probabilities 1/4, 3/4 and 1/2, 1/2
    y = torch.tensor([[[1, 0]]])
    assert float(CrossEntropy()(x, y)) == pytest.approx((math.log(4 / 3) + math.log(2)) / 2)
    assert float(CrossEntropy((0.5, 2.0))(x, y)) == pytest.approx((2 * math.log(4 / 3) + 0.5 * math.log(2)) / 2.5)


def test_c64_soft_cross_entropy_equals_smp() -> None:
    x, y = logits().detach(), labels((2, 7, 5), 3, ignored=0.0)
    expected = smp.losses.SoftCrossEntropyLoss(smooth_factor=0.2)(x, y.long())
    torch.testing.assert_close(CrossEntropy(label_smoothing=0.2)(x, y), expected)


def binary(ignored: float = 0.3) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Two-class logits and target, and the labelled pixels' logit differences and labels."""
    x, y = logits((2, 2, 9, 8)).detach(), labels((2, 9, 8), 2, ignored)
    valid = y != IGNORE
    return x, y, (x[:, 1] - x[:, 0])[valid], y[valid].float()


def test_c64_binary_cross_entropy_and_dice() -> None:
    x, y, difference, truth = binary()
    bce, p = F.binary_cross_entropy_with_logits(difference, truth), difference.sigmoid()
    dice = 1 - 2 * (p * truth).sum() / (p.sum() + truth.sum())
    torch.testing.assert_close(CrossEntropy()(x, y), bce)
    torch.testing.assert_close(binary_cross_entropy_dice()(x, y), bce + dice)
    torch.testing.assert_close(binary_cross_entropy_dice(bce=0.3, dice=2.0)(x, y), 0.3 * bce + 2 * dice)
    assert set(binary_cross_entropy_dice().terms(x, y)) == {"bce", "dice"}


def test_c64_cross_entropy_and_dice_are_half_and_half() -> None:
    x, y = logits().detach(), labels((2, 7, 5), 3)
    loss = cross_entropy_dice(class_weights=(0.2, 1.0, 3.0), classes=(1, 2))
    expected = 0.5 * CrossEntropy((0.2, 1.0, 3.0))(x, y) + 0.5 * Dice((1, 2))(x, y)
    torch.testing.assert_close(loss(x, y), expected)
    assert set(loss.terms(x, y)) == {"ce", "dice"}


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
def test_c64_focal_of_two_classes_equals_torchvision(gamma: float) -> None:
    x, y, difference, truth = binary()
    expected = sigmoid_focal_loss(difference, truth, alpha=0.25, gamma=gamma, reduction="mean")
    torch.testing.assert_close(Focal(gamma, class_weights=(0.75, 0.25))(x, y), expected)
    plain = sigmoid_focal_loss(difference, truth, alpha=-1, gamma=gamma, reduction="mean")
    torch.testing.assert_close(Focal(gamma)(x, y), plain)


def pixelwise(x_BKHW: Tensor, y_BHW: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Double-precision probabilities (pixels, K) and labels (pixels,) of what is labelled."""
    x = x_BKHW.detach().double().numpy()
    p = np.exp(x - x.max(1, keepdims=True))
    p = np.moveaxis(p / p.sum(1, keepdims=True), 1, -1)
    valid = y_BHW.numpy() != IGNORE
    return p[valid], y_BHW.numpy()[valid].astype(int)


def dices(p_NK: np.ndarray, y_N: np.ndarray) -> np.ndarray:
    truth = np.eye(p_NK.shape[1])[y_N]
    return 2 * (p_NK * truth).sum(0) / (p_NK.sum(0) + truth.sum(0))


def test_c64_focal_of_three_classes_equals_a_loop() -> None:
    x, y = logits().detach(), labels((2, 7, 5), 3)
    weights = (0.5, 1.0, 4.0)
    terms = [weights[k] * (1 - p[k]) ** 1.5 * -math.log(p[k]) for p, k in zip(*pixelwise(x, y), strict=True)]
    assert float(Focal(1.5, weights)(x, y)) == pytest.approx(sum(terms) / len(terms), rel=1e-5)


@pytest.mark.parametrize("classes", [None, (1,), (0, 2)])
def test_c64_combo_equals_its_formula(classes: tuple[int, ...] | None) -> None:
    x, y = logits().detach(), labels((2, 7, 5), 3)
    p, k = pixelwise(x, y)
    truth, chosen = np.eye(3)[k], list(classes or range(3))
    entropy = -(0.8 * truth * np.log(p) + 0.2 * (1 - truth) * np.log(1 - p))[:, chosen].mean()
    expected = 0.7 * entropy + 0.3 * (1 - dices(p, k)[chosen].mean())
    assert float(Combo(0.7, 0.8, classes)(x, y)) == pytest.approx(expected, rel=1e-5)


def test_c64_combo_of_two_classes_is_torchs_weighted_binary_cross_entropy() -> None:
    x, y, difference, truth = binary()
    expected = 0.2 * F.binary_cross_entropy_with_logits(difference, truth, pos_weight=torch.tensor(0.8 / 0.2))
    torch.testing.assert_close(Combo(alpha=1.0, beta=0.8, classes=(1,))(x, y), expected)


def test_c64_combo_pulls_back_a_sure_mistake() -> None:
    """1 - p rounds to 0 beyond 17 nats; the slope of log(1 - p) must not."""
    _, slope = gradient(Combo(1.0, 0.0, classes=(1,)), torch.tensor([0.0, 40.0]).view(1, 2, 1, 1), torch.zeros(1, 1, 1))
    assert slope.flatten().tolist() == pytest.approx([-1.0, 1.0])


def test_c64_exp_log_equals_its_formula() -> None:
    x, y = logits().detach(), labels((2, 7, 5), 3)
    p, k = pixelwise(x, y)
    weights = np.array([0.5, 1.0, 4.0])
    region = ((-np.log(dices(p, k))) ** 0.3).mean()
    pixel = (weights[k] * (-np.log(p[np.arange(len(k)), k])) ** 0.6).mean()
    found = ExpLog(gamma_ce=0.6, class_weights=(0.5, 1.0, 4.0))(x, y)
    assert float(found) == pytest.approx(0.8 * region + 0.2 * pixel, rel=1e-5)


def test_c64_exp_log_with_exponent_1_is_cross_entropy() -> None:
    x, y = logits().detach(), labels((2, 7, 5), 3)
    torch.testing.assert_close(ExpLog(dice=0.0, ce=1.0, gamma_ce=1.0)(x, y), CrossEntropy()(x, y))


def test_c64_earlier_names_still_load() -> None:
    made = build({"_target_": "swath.nn.losses.pixel:SoftJaccard", "pooled": True})()
    assert isinstance(made, SoftJaccard)
    assert made.pooled


# ------------------------------------------------------------------------------------------------------------- sums


def test_c65_weighted_sum_is_the_sum_of_its_named_terms() -> None:
    x, y = logits().detach(), labels((2, 7, 5), 3)
    loss = BOTH()
    terms = loss.terms(x, y)
    assert set(terms) == {"ce", "jaccard"}
    torch.testing.assert_close(terms["ce"], CrossEntropy()(x, y))
    torch.testing.assert_close(terms["jaccard"], SoftJaccard()(x, y))
    torch.testing.assert_close(loss(x, y), terms["ce"] + 2 * terms["jaccard"])


def test_c65_weighted_sum_takes_modules_as_well_as_factories() -> None:
    x, y = logits().detach(), labels((2, 7, 5), 3)
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
