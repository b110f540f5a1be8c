"""Padding and its inverse for any parity, resizing against torch, gaps and labels kept."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from swath.data.augment.resizing import pad, resize_image, resize_labels, unpad
from swath.errors import ConfigError

SIDE = st.integers(1, 23)


def draw(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(max_examples=100, deadline=None)
@given(SIDE, SIDE, st.integers(0, 9), st.integers(0, 9), st.sampled_from([torch.uint8, torch.float32, torch.int64]))
def test_c48_unpad_is_the_inverse_of_pad_for_any_parity(
    height: int, width: int, rows: int, cols: int, dtype: torch.dtype
) -> None:
    tensor = torch.randint(0, 200, (2, 3, height, width), generator=draw(0)).to(dtype)
    value = torch.nan if dtype.is_floating_point else 255
    padded = pad(tensor, (height + rows, width + cols), value)
    assert padded.shape == (2, 3, height + rows, width + cols)
    assert padded.dtype == dtype
    assert torch.equal(unpad(padded, (height, width)), tensor)
    around = torch.isnan(padded) if dtype.is_floating_point else padded == 255
    assert int(around.sum()) == padded.numel() - tensor.numel()
    expected = np.pad(
        tensor.numpy(), ((0, 0), (0, 0), (rows // 2, rows - rows // 2), (cols // 2, cols - cols // 2)),
        constant_values=value,
    )  # fmt: skip
    np.testing.assert_array_equal(padded.numpy(), expected)


def test_c48_350_to_352_puts_one_pixel_on_each_side() -> None:
    image = torch.rand(1, 7, 350, 350, generator=draw(0))
    padded = pad(image, (352, 352), torch.nan)
    assert torch.isnan(padded[..., 0, :]).all()
    assert torch.isnan(padded[..., :, -1]).all()
    assert torch.equal(padded[..., 1:-1, 1:-1], image)
    assert torch.equal(unpad(padded, (350, 350)), image)


def test_c48_a_size_that_is_too_small_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"\(4, 4\) pixels do not fit into \(5, 3\)"):
        pad(torch.zeros(4, 4), (5, 3), 0)
    with pytest.raises(ConfigError, match="do not fit"):
        unpad(torch.zeros(4, 4), (5, 3))


@settings(max_examples=60, deadline=None)
@given(SIDE, SIDE, SIDE, SIDE, st.integers(0, 99))
def test_c48_labels_are_those_of_the_nearest_pixel(height: int, width: int, rows: int, cols: int, seed: int) -> None:
    labels = torch.tensor([0, 7, 254, 255], dtype=torch.uint8)[
        torch.randint(0, 4, (2, height, width), generator=draw(seed))
    ]
    found = resize_labels(labels, (rows, cols))
    assert found.dtype == torch.uint8
    at = [[math.floor(Fraction((2 * i + 1) * m, 2 * n)) for i in range(n)] for n, m in ((rows, height), (cols, width))]
    np.testing.assert_array_equal(found.numpy(), labels.numpy()[:, at[0]][:, :, at[1]])


@pytest.mark.parametrize("factor", [2, 3, 5])
def test_c48_enlarging_by_a_whole_number_and_back_is_the_identity(factor: int) -> None:
    labels = torch.randint(0, 9, (2, 7, 11), generator=draw(factor))
    large = resize_labels(labels, (7 * factor, 11 * factor))
    assert torch.equal(large, labels.repeat_interleave(factor, 1).repeat_interleave(factor, 2))
    assert torch.equal(resize_labels(large, (7, 11)), labels)
    image = torch.rand(2, 3, 7, 11, generator=draw(factor))
    image[:, :, 2:4, 5] = torch.nan
    back = resize_image(resize_image(image, (7 * factor, 11 * factor), "nearest"), (7, 11), "nearest")
    torch.testing.assert_close(back, image, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(20, 31), (41, 8), (20, 16)])
def test_c48_images_without_gaps_are_resized_as_torch_does(mode: str, size: tuple[int, int]) -> None:
    image = torch.rand(2, 3, 20, 16, generator=draw(0))
    smooth = {} if mode == "nearest" else {"antialias": True, "align_corners": False}
    expected = F.interpolate(image, size, mode="nearest-exact" if mode == "nearest" else mode, **smooth)
    torch.testing.assert_close(resize_image(image, size, mode), expected)  # type: ignore[arg-type]
    if size == (20, 16):
        torch.testing.assert_close(resize_image(image, size, mode), image)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(80, 80), (20, 20), (41, 57)])
def test_c48_gaps_keep_their_share_and_change_no_value(mode: str, size: tuple[int, int]) -> None:
    image = torch.full((1, 1, 40, 40), 3.0)
    image[..., 10:22, 5:25] = torch.nan
    found = resize_image(image, size, mode)  # type: ignore[arg-type]
    gap = torch.isnan(found)
    torch.testing.assert_close(found[~gap], torch.full((int((~gap).sum()),), 3.0))
    assert float(gap.float().mean()) == pytest.approx(240 / 1600, rel=0.12)


def test_c48_halving_is_the_mean_of_what_is_measured() -> None:
    """By hand: the smoothing kernel of a halving weighs 1, 3, 3, 1 eighths."""
    image = torch.tensor([[1.0, 2.0, 4.0, torch.nan, torch.nan, torch.nan, 8.0, 16.0]]).reshape(1, 1, 1, 8)
    found = resize_image(image, (1, 4)).flatten()
    expected = [(3 * 1 + 3 * 2 + 4) / 7, (2 + 3 * 4) / 4, (8 * 1) / 1, (3 * 8 + 3 * 16) / 6]
    assert found[0] == pytest.approx(expected[0])
    assert found[1] == pytest.approx(expected[1])
    assert torch.isnan(found[2])  # one eighth is measured
    assert found[3] == pytest.approx(expected[3])
