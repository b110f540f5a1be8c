"""Resampling against a loop over pixels, scipy and exact symmetries; gaps stay what they are."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from swath.data.augment.resampling import affine, box, warp
from swath.data.augment.transforms import RandomAffine
from swath.labels import IGNORE


def draw(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gappy(shape: tuple[int, ...], share: float, seed: int = 0) -> Tensor:
    image = torch.rand(shape, generator=draw(seed)) * 20 - 10
    image[torch.rand(shape, generator=draw(seed + 1)) < share] = torch.nan
    return image


def places(theta: Tensor, shape: tuple[int, int], size: tuple[int, int]) -> NDArray[np.float64]:
    """(2, h, w) rows and columns in the source, in pixels from the middle of the first, of each output pixel."""
    y, x = np.meshgrid(*((2 * np.arange(n) + 1) / n - 1 for n in size), indexing="ij")
    matrix = theta.double().numpy()
    x_in, y_in = (matrix[i, 0] * x + matrix[i, 1] * y + matrix[i, 2] for i in (0, 1))
    return np.stack([((y_in + 1) * shape[0] - 1) / 2, ((x_in + 1) * shape[1] - 1) / 2])


def loop(image_HW: NDArray[np.float64], at: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(values, measured weights) by four neighbours per pixel; the outermost ones stand for what lies beyond."""
    height, width = image_HW.shape
    values, weights = np.full(at.shape[1:], np.nan), np.zeros(at.shape[1:])
    for place in np.ndindex(*at.shape[1:]):
        row, col = at[(slice(None), *place)]
        if not (-0.5 <= row <= height - 0.5 and -0.5 <= col <= width - 0.5):
            continue
        total = weight = 0.0
        for r, c in (
            (a, b) for a in (math.floor(row), math.floor(row) + 1) for b in (math.floor(col), math.floor(col) + 1)
        ):
            w = (1 - abs(row - r)) * (1 - abs(col - c))
            value = image_HW[min(max(r, 0), height - 1), min(max(c, 0), width - 1)]
            if np.isfinite(value):
                total, weight = total + w * value, weight + w
        weights[place] = weight
        if weight >= 0.5:
            values[place] = total / weight
    return values, weights


@settings(max_examples=60, deadline=None)
@given(
    st.integers(2, 9), st.integers(2, 9), st.integers(1, 8), st.integers(1, 8), st.sampled_from([0.0, 0.2, 0.6]),
    st.floats(-3.2, 3.2), st.floats(0.5, 2), st.floats(-0.3, 0.3), st.integers(0, 999),
)  # fmt: skip
def test_c49_bilinear_beside_gaps_equals_a_loop_over_pixels(
    height: int,
    width: int,
    out_height: int,
    out_width: int,
    share: float,
    angle: float,
    zoom: float,
    shift: float,
    seed: int,
) -> None:
    image = gappy((2, 2, height, width), share, seed)
    image[0, 0, 0, 0] = torch.inf
    theta = affine(
        torch.tensor([angle, 0.0]), torch.tensor([zoom, 1.3]), torch.ones(2), torch.tensor([[shift, 0.1], [0.0, shift]]),
        (height, width),
    )  # fmt: skip
    moved, _ = warp(image, {}, theta, (out_height, out_width))
    for sample in range(2):
        at = places(theta[sample], (height, width), (out_height, out_width))
        edge = (np.minimum(np.abs(at + 0.5), np.abs(at + 0.5 - np.array([height, width])[:, None, None])) < 1e-4).any(0)
        for band in range(2):
            values, weights = loop(image[sample, band].double().numpy(), at)
            clear = ~edge & (np.abs(weights - 0.5) > 1e-3)
            np.testing.assert_allclose(moved[sample, band].numpy()[clear], values[clear], atol=2e-3, rtol=0)


@settings(max_examples=40, deadline=None)
@given(st.integers(3, 30), st.integers(3, 30), st.floats(-3.2, 3.2), st.floats(0.5, 2), st.floats(0.7, 1.4))
def test_c49_warp_equals_scipy(height: int, width: int, angle: float, zoom: float, stretch: float) -> None:
    image = torch.rand(1, 1, height, width, generator=draw(height))
    labels = torch.randint(0, 200, (1, height, width), generator=draw(width))
    one = [torch.tensor([value]) for value in (angle, zoom, stretch)]
    theta = affine(*one, torch.tensor([[0.05, -0.1]]), (height, width))
    moved, targets = warp(image, {"water": labels}, theta)
    # (row, col) in the source, in pixels: turned and zoomed around the middle of the raster
    cos, sin = math.cos(angle), math.sin(angle)
    matrix = np.array([[cos * stretch / zoom, sin * stretch / zoom], [-sin / zoom / stretch, cos / zoom / stretch]])
    middle = (np.array([height, width]) - 1) / 2
    offset = middle - matrix @ middle + np.array([-0.1 * height, 0.05 * width])
    expected = ndimage.affine_transform(image[0, 0].double().numpy(), matrix, offset, order=1, mode="nearest")
    inside = ~torch.isnan(moved[0, 0]).numpy()
    np.testing.assert_allclose(moved[0, 0].numpy()[inside], expected[inside], atol=1e-3)
    at = (matrix @ np.indices((height, width)).reshape(2, -1)).reshape(2, height, width) + offset[:, None, None]
    between = (np.abs(at - np.floor(at) - 0.5) < 1e-3).any(0)
    nearest = ndimage.affine_transform(labels[0].numpy(), matrix, offset, order=0, mode="nearest")
    clear = inside & ~between
    assert (targets["water"][0].numpy()[clear] == nearest[clear]).all()
    assert (targets["water"][0].numpy()[~inside] == IGNORE).all()


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_c49_quarter_turns_are_those_of_rot90_gaps_and_all(quarters: int) -> None:
    image = gappy((1, 2, 15, 15), 0.3, quarters)
    labels = torch.randint(0, 9, (1, 15, 15), generator=draw(quarters)).to(torch.uint8)
    turn = affine(torch.tensor([math.pi / 2 * quarters]), torch.ones(1), torch.ones(1), torch.zeros(1, 2), (15, 15))
    moved, targets = warp(image, {"water": labels}, turn)
    torch.testing.assert_close(moved, torch.rot90(image, quarters, (-2, -1)), atol=1e-3, rtol=0, equal_nan=True)
    assert torch.equal(targets["water"], torch.rot90(labels, quarters, (-2, -1)))


def test_c49_gaps_neither_spread_nor_vanish() -> None:
    image = torch.ones(24, 1, 64, 64)
    image[:, :, 20:40, 24:44] = torch.nan
    image[:, :, 10, 10] = torch.nan
    moved, labels = RandomAffine(degrees=180)(image, {"gap": torch.isnan(image[:, 0]).to(torch.uint8)}, draw(0))
    inside = labels["gap"] != IGNORE
    gap = torch.isnan(moved[:, 0]) & inside
    assert gap.flatten(1).sum(1).float().mean() == pytest.approx(401, rel=0.02)
    assert (gap.flatten(1).sum(1) - 401).abs().max() <= 40
    assert ((gap != (labels["gap"] == 1)) & inside).flatten(1).sum(1).max() <= 60  # at its edge only
    torch.testing.assert_close(moved[~torch.isnan(moved)], torch.ones(int((~torch.isnan(moved)).sum())))


@settings(max_examples=40, deadline=None)
@given(st.integers(4, 20), st.integers(4, 20), st.data())
def test_c49_a_box_of_whole_pixels_is_a_slice(height: int, width: int, data: st.DataObject) -> None:
    rows, cols = data.draw(st.integers(1, height)), data.draw(st.integers(1, width))
    row, col = data.draw(st.integers(0, height - rows)), data.draw(st.integers(0, width - cols))
    image = gappy((1, 3, height, width), 0.3, height)
    labels = torch.randint(0, 2**20, (1, height, width), generator=draw(width))
    theta = box(torch.tensor([[row, col, rows, cols]], dtype=torch.float32), (height, width))
    cut, targets = warp(image, {"id": labels}, theta, (rows, cols))
    here = slice(row, row + rows), slice(col, col + cols)
    torch.testing.assert_close(cut, image[:, :, *here], atol=1e-3, rtol=0, equal_nan=True)
    assert torch.equal(targets["id"], labels[:, *here])
