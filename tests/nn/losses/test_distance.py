"""Distances against SciPy and brute force, and the losses that weigh mistakes by them against their formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from swath.errors import ConfigError
from swath.labels import IGNORE
from swath.nn.losses.distance import Boundary, Hausdorff, StudentT, signed_distance, squared_distance
from tests.synthetic import labels

Doubles = NDArray[np.float64]


def mask(shape: tuple[int, ...], share: float, seed: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < share


def to_nearest(on_HW: NDArray[np.bool_]) -> Doubles:
    """SciPy's distance of each pixel to the nearest one that is on, 0 in a tile without any."""
    return np.asarray(distance_transform_edt(~on_HW)) if on_HW.any() else np.zeros(on_HW.shape)


def sample(classes: int, seed: int, ignored: float = 0.2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn((2, classes, 9, 12), generator=generator), labels((2, 9, 12), classes, ignored, seed)


# ---------------------------------------------------------------------------------------------------------- distances


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([0.002, 0.05, 0.5, 0.97]), st.integers(0, 9999))
def test_c64_distances_equal_scipys(height: int, width: int, share: float, seed: int) -> None:
    on = mask((3, height, width), share, seed)
    found = squared_distance(on)
    for tile, distance in zip(on.numpy(), found.numpy(), strict=True):
        if tile.any():
            np.testing.assert_array_equal(distance, np.rint(to_nearest(tile) ** 2))
        else:
            assert np.isinf(distance).all()


def test_c64_distances_of_a_whole_tile_equal_scipys() -> None:
    on = torch.zeros(1, 350, 350, dtype=torch.bool)
    on[0, 3, 340] = on[0, 200, 17] = True
    np.testing.assert_array_equal(squared_distance(on)[0].numpy(), np.rint(to_nearest(on[0].numpy()) ** 2))
    assert squared_distance(on).max() > 150**2


@settings(max_examples=40, deadline=None)
@given(st.floats(0, 0.5), st.integers(0, 9999))
def test_c64_signed_distances_are_those_of_the_authors(ignored: float, seed: int) -> None:
    """negative mask: edt * mask; positive mask: -(edt - 1) * mask (github.com/LIVIAETS/boundary-loss, one_hot2dist)."""
    target = labels((1, 11, 14), 2, ignored, seed)[0].numpy()
    inside, outside = target == 1, target == 0
    if not inside.any() or not outside.any():
        return
    expected = to_nearest(inside) * outside - (to_nearest(outside) - 1) * inside
    found = signed_distance(torch.from_numpy(inside)[None], torch.from_numpy(outside)[None])[0]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


def test_c64_signed_distance_by_hand() -> None:
    row = torch.tensor([[[0, 0, 0, 1, 1, 1, 1, 1, 0]]])
    assert signed_distance(row == 1, row == 0).flatten().tolist() == [3, 2, 1, 0, -1, -2, -1, 0, 1]
    unknown = torch.tensor([[[0, 0, IGNORE, 1, 1, 1]]])
    assert signed_distance(unknown == 1, unknown == 0).flatten().tolist() == [3, 2, 0, -1, -2, -3]
    for value in (0, 1, IGNORE):
        same = torch.full((1, 3, 4), value)
        assert not signed_distance(same == 1, same == 0).any()


# ------------------------------------------------------------------------------------------------------------- losses


def known(x_BKHW: Tensor, y_BHW: Tensor) -> tuple[Doubles, NDArray[np.uint8], NDArray[np.bool_]]:
    return x_BKHW.double().softmax(1).numpy(), y_BHW.numpy(), y_BHW.numpy() != IGNORE


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 999), st.sampled_from([None, (1,), (0, 2)]))
def test_c64_boundary_loss_is_the_mean_of_probability_times_distance(
    seed: int, classes: tuple[int, ...] | None
) -> None:
    """Kervadec et al. 2019, equation 5, less its value for the labels themselves."""
    x, y = sample(3, seed)
    p, truth, valid = known(x, y)
    chosen = classes or (0, 1, 2)
    total = 0.0
    for b in range(2):
        for k in chosen:
            inside, outside = truth[b] == k, valid[b] & (truth[b] != k)
            phi = to_nearest(inside) * outside - (to_nearest(outside) - 1) * inside
            total += ((p[b, k] - inside) * phi)[valid[b]].sum()
    assert float(Boundary(classes)(x, y)) == pytest.approx(total / valid.sum() / len(chosen), rel=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 999), st.sampled_from([None, (1,), (0, 2)]))
def test_c64_hausdorff_loss_equals_its_formula(seed: int, classes: tuple[int, ...] | None) -> None:
    x, y = sample(3, seed)
    p, truth, valid = known(x, y)
    chosen = classes or (0, 1, 2)
    total = 0.0
    for b in range(2):
        for k in chosen:
            square = np.zeros(valid[b].shape)
            for on in (truth[b] == k, p[b, k] > 0.5):
                inside, outside = valid[b] & on, valid[b] & ~on
                square += np.where(inside, to_nearest(outside), to_nearest(inside)) ** 2
            total += ((p[b, k] - (truth[b] == k)) ** 2 * square)[valid[b]].sum()
    assert float(Hausdorff(classes)(x, y)) == pytest.approx(total / valid.sum() / len(chosen), rel=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 999), st.floats(0.1, 30))
def test_c64_t_loss_equals_its_formula_but_for_constants(seed: int, nu: float) -> None:
    """The negative logarithm of Student's t density of the errors, Gonzalez-Jimenez et al. 2023, equation 4."""
    x, y = sample(2, seed)
    p, truth, valid = known(x, y)
    terms = []
    for b in range(2):
        count = int(valid[b].sum())
        density = []
        for error in ((p[b, 1] - (truth[b] == 1))[valid[b]], np.zeros(count)):
            square = float((error**2).sum())
            density.append(
                math.lgamma((nu + count) / 2) - math.lgamma(nu / 2) - count / 2 * math.log(math.pi * nu)
                - (nu + count) / 2 * math.log(1 + square / nu)
            )  # fmt: skip
        terms.append((density[1] - density[0]) / count)
    assert float(StudentT(nu)(x, y)) == pytest.approx(np.mean(terms), rel=1e-4)


@pytest.mark.parametrize("loss", [Boundary((1,)), Hausdorff((1,))])
def test_c64_a_mistake_costs_more_the_farther_it_is_from_the_labels(loss: Boundary | Hausdorff) -> None:
    y = torch.zeros(1, 9, 30, dtype=torch.long)
    y[:, 3:6, 2:6] = 1
    costs = []
    for col in (6, 10, 16, 25):
        guess = y.clone()
        guess[:, 3:6, col : col + 3] = 1
        costs.append(float(loss(20.0 * F.one_hot(guess, 2).movedim(-1, 1), y)))
    assert costs == sorted(costs)
    assert len(set(costs)) == 4


def test_c64_a_tile_of_wrong_labels_pulls_less_than_with_squares() -> None:
    y = torch.zeros(1, 8, 8, dtype=torch.long)
    slopes = []
    for wrong in (0.3, 2.0, 4.0):
        x = torch.zeros(1, 2, 8, 8)
        x[:, 1] = wrong
        x.requires_grad_()
        StudentT()(x, y).backward()
        assert x.grad is not None
        p = torch.tensor(wrong).sigmoid()
        slopes.append(float(x.grad[0, 1, 0, 0]) / float(p * p * (1 - p)))  # relative to that of the mean square
    assert slopes == sorted(slopes, reverse=True)


def test_c64_settings_that_mean_nothing_are_refused() -> None:
    x, y = sample(3, 0)
    for loss in (Boundary((3,)), Hausdorff(())):
        with pytest.raises(ConfigError, match="classes 0 to 2"):
            loss(x, y)
    with pytest.raises(ConfigError, match="nu=0"):
        StudentT(0)
