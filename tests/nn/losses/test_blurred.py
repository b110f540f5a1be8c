"""Blurred targets against SciPy's Gaussian filter, and the losses against them against their formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from torch import Tensor

from swath.errors import ConfigError
from swath.labels import IGNORE
from swath.nn.losses.blurred import BlurredDice, BlurredFocal, blurred_target
from swath.nn.losses.labelled import labelled
from swath.nn.losses.overlap import Dice
from swath.nn.losses.pixel import CrossEntropy, Focal
from tests.synthetic import labels


def sample(classes: int, seed: int, ignored: float = 0.2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn((2, classes, 9, 12), generator=generator), labels((2, 9, 12), classes, ignored, seed)


def scipys(y_BHW: Tensor, classes: int, sigma: float) -> np.ndarray:
    """(B, K, H, W): filtered one-hot labels over the filtered mask of what is labelled."""
    found = np.zeros((len(y_BHW), classes, *y_BHW.shape[1:]))
    for b, tile in enumerate(y_BHW.numpy()):
        valid = tile != IGNORE
        weight = gaussian_filter(valid.astype(float), sigma, mode="constant")
        for k in range(classes):
            share = gaussian_filter((tile == k).astype(float), sigma, mode="constant")
            found[b, k][valid] = (share / np.maximum(weight, 1e-12))[valid]
    return found


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 999), st.sampled_from([0.3, 0.5, 1.0, 2.3]), st.sampled_from([0.0, 0.3, 0.9]))
def test_c64_blurred_targets_equal_scipys_gaussian_filter(seed: int, sigma: float, ignored: float) -> None:
    x, y = sample(3, seed, ignored)
    found = blurred_target(labelled(x, y), sigma)
    np.testing.assert_allclose(found.numpy(), scipys(y, 3, sigma), atol=1e-5)
    assert torch.allclose(found.sum(1)[y != IGNORE], torch.tensor(1.0), atol=1e-5)
    assert not found.movedim(1, -1)[y == IGNORE].any()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 999), st.sampled_from([0.0, 1.0, 2.0]))
def test_c64_blurred_focal_equals_its_formula(seed: int, gamma: float) -> None:
    x, y = sample(3, seed)
    p, t = x.double().softmax(1).numpy(), scipys(y, 3, 0.5)
    expected = -(t * (1 - p) ** gamma * np.log(p)).sum() / (y != IGNORE).sum()
    assert float(BlurredFocal(gamma)(x, y)) == pytest.approx(float(expected), rel=1e-4)


def test_c64_blurred_cross_entropy_equals_torchs_against_shares() -> None:
    x, y = sample(3, seed=4, ignored=0.0)
    expected = F.cross_entropy(x, torch.from_numpy(scipys(y, 3, 0.5)).float())
    torch.testing.assert_close(BlurredFocal(gamma=0.0)(x, y), expected)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 999), st.sampled_from([None, (1,), (0, 2)]))
def test_c64_blurred_dice_equals_its_formula(seed: int, classes: tuple[int, ...] | None) -> None:
    x, y = sample(3, seed)
    valid = (y != IGNORE).numpy()[:, None]
    p, t = x.double().softmax(1).numpy() * valid, scipys(y, 3, 0.5)
    axes = (0, 2, 3)
    dice = 2 * (p * t).sum(axes) / (p.sum(axes) + t.sum(axes))
    expected = 1 - dice[list(classes or (0, 1, 2))].mean()
    assert float(BlurredDice(classes)(x, y)) == pytest.approx(expected, rel=1e-4)


def test_c64_without_blur_the_losses_are_the_plain_ones() -> None:
    x, y = sample(3, seed=7)
    pairs = [
        (BlurredFocal(0.0, sigma=0.1), CrossEntropy()), (BlurredFocal(sigma=0.1), Focal()), (BlurredDice(sigma=0.1), Dice()),
    ]  # fmt: skip
    for blurred, plain in pairs:
        torch.testing.assert_close(blurred(x, y), plain(x, y))


@pytest.mark.parametrize(("blurred", "plain"), [(BlurredFocal(0.0), CrossEntropy()), (BlurredDice(), Dice())])
def test_c64_an_outline_that_is_a_pixel_off_costs_less_than_with_sharp_labels(
    blurred: torch.nn.Module, plain: torch.nn.Module
) -> None:
    y = torch.zeros(1, 20, 20, dtype=torch.long)
    y[:, 5:12, 5:12] = 1
    right, shifted = (4.0 * F.one_hot(guess, 2).movedim(-1, 1) for guess in (y, y.roll(1, dims=-1)))
    assert 0 < float(blurred(shifted, y) - blurred(right, y)) < float(plain(shifted, y) - plain(right, y))


@pytest.mark.parametrize("make", [BlurredFocal, BlurredDice])
def test_c64_a_blur_of_nothing_is_refused(make: type[BlurredFocal]) -> None:
    with pytest.raises(ConfigError, match="sigma=0"):
        make(sigma=0)
