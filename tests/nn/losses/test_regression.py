"""Heads of one number per pixel: mean squared error over labelled pixels, rounding to classes."""

from __future__ import annotations

import json
import math
import pickle
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import mean_squared_error
from torch import Tensor

from swath.config import build, resolve
from swath.errors import ConfigError
from swath.labels import IGNORE
from swath.nn.losses.pixel import CrossEntropy, TaskLosses, WeightedSum
from swath.nn.losses.regression import MeanSquaredError, ordinal_classes
from tests.synthetic import labels


def sample(ignored: float = 0.4, seed: int = 0) -> tuple[Tensor, Tensor]:
    values = 6 * torch.rand(2, 1, 7, 5, generator=torch.Generator().manual_seed(seed)) - 1
    return values, labels((2, 7, 5), 5, ignored, seed)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 999), st.floats(0, 0.8))
def test_c66_mean_squared_error_equals_scikit_learn(seed: int, ignored: float) -> None:
    x, y = sample(ignored, seed)
    valid = y.numpy() != IGNORE
    expected = mean_squared_error(y.numpy()[valid].astype(float), x[:, 0].numpy()[valid])
    assert float(MeanSquaredError()(x, y)) == pytest.approx(expected, rel=1e-5)


def test_c66_targets_of_any_type_give_the_same() -> None:
    x, y = sample()
    expected = float(MeanSquaredError()(x, y))
    for kind in (torch.int64, torch.float32, torch.float64, torch.int16):
        assert float(MeanSquaredError()(x, y.to(kind))) == expected
    unknown = torch.where(y == IGNORE, math.nan, y.float())
    assert float(MeanSquaredError()(x, unknown)) == expected
    assert float(MeanSquaredError()(x, torch.full_like(unknown, 2.5))) == pytest.approx(((x - 2.5) ** 2).mean().item())


@pytest.mark.parametrize("value", [50.0, math.inf, math.nan])
def test_c66_ignored_pixels_do_not_count(value: float) -> None:
    x, y = sample()
    loss = MeanSquaredError()(x.requires_grad_(), y)
    loss.backward()
    assert x.grad is not None
    assert (x.grad[:, 0][y == IGNORE] == 0).all()
    assert (x.grad[:, 0][y != IGNORE] != 0).all()
    other = torch.where((y == IGNORE)[:, None], value, x.detach()).requires_grad_()
    again = MeanSquaredError()(other, y)
    again.backward()
    assert again.item() == loss.item()
    assert other.grad is not None
    assert torch.equal(other.grad, x.grad)


def test_c66_all_ignored_and_exact_batches_cost_nothing() -> None:
    x, y = sample()
    for values, target in ((x.requires_grad_(), torch.full_like(y, IGNORE)), (y[:, None].float().requires_grad_(), y)):
        loss = MeanSquaredError()(values, target)
        loss.backward()
        assert loss.item() == 0
        assert values.grad is not None
        assert (values.grad == 0).all()


def test_c66_parts_add_up_by_their_labelled_pixels() -> None:
    x, y = sample()
    y[0, :3] = IGNORE
    counts = (y != IGNORE).sum((1, 2)).float()
    parts = torch.stack([MeanSquaredError()(x[i : i + 1], y[i : i + 1]) for i in range(2)])
    torch.testing.assert_close((parts * counts).sum() / counts.sum(), MeanSquaredError()(x, y))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_c66_half_precision_does_not_overflow(dtype: torch.dtype) -> None:
    x, y = sample()
    half = (1000 * x).to(dtype)  # squares beyond 65504
    loss = MeanSquaredError()(half, y)
    assert loss.dtype == torch.float32
    assert math.isfinite(loss)
    assert float(loss) == float(MeanSquaredError()(half.float(), y))


def test_c66_wrong_shapes_are_an_error() -> None:
    x, y = sample()
    for values in (x[:, 0], x.expand(-1, 2, -1, -1)):
        with pytest.raises(ConfigError, match="one channel"):
            MeanSquaredError()(values, y)
        with pytest.raises(ConfigError, match="one channel"):
            ordinal_classes(values, 5)
    for target in (y[:1], y[:, None], y[..., :1]):
        with pytest.raises(ConfigError, match="do not fit"):
            MeanSquaredError()(x, target)


def test_c65_regression_and_classification_stand_side_by_side() -> None:
    x, y = sample()
    both = build(json.loads(json.dumps(resolve(partial(WeightedSum, losses={"mse": partial(MeanSquaredError)})))))()
    classes = torch.randn(2, 5, 7, 5)
    out = TaskLosses({"sic": both, "sod": CrossEntropy()}, {"sic": 1.0, "sod": 3.0})(
        {"sic": x, "sod": classes}, {"sic": y, "sod": y}
    )
    assert set(out) == {"loss", "loss_sic", "loss_sic_mse", "loss_sod"}
    torch.testing.assert_close(out["loss"], MeanSquaredError()(x, y) + 3 * CrossEntropy()(classes, y))
    assert float(pickle.loads(pickle.dumps(MeanSquaredError()))(x, y)) == float(out["loss_sic"])


def test_c66_a_negative_value_is_class_0_and_not_255() -> None:
    values = torch.tensor([-1.2, -0.4, 0.5, 1.5, 2.4, 9.6, 11.0, 300.0, 1e30, -math.inf]).view(1, 1, 2, 5)
    found = ordinal_classes(values, 11)
    assert found.dtype == torch.int64
    assert found.flatten().tolist() == [0, 0, 0, 2, 2, 10, 10, 10, 10, 0]
    assert found.to(torch.uint8).flatten().tolist() == found.flatten().tolist()


@settings(max_examples=50, deadline=None)
@given(hnp.arrays(np.float32, (1, 1, 3, 4), elements=st.floats(-1e6, 1e6, width=32)), st.integers(2, 12))
def test_c66_classes_are_rounded_then_clamped(values: np.ndarray, classes: int) -> None:
    found = ordinal_classes(torch.from_numpy(values), classes).numpy()
    np.testing.assert_array_equal(found, np.clip(np.rint(values[:, 0]), 0, classes - 1))


def test_c66_classes_come_back_from_their_own_numbers() -> None:
    y = torch.arange(11).view(1, 1, 1, 11)
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        assert torch.equal(ordinal_classes(y.to(dtype) + 0.25, 11), y[:, 0])
