"""The AutoICE score: scikit-learn as oracle, sums that do not depend on batches or ranks, defined at the edges."""

from __future__ import annotations

import logging
from functools import reduce
from itertools import pairwise
from operator import add

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from swath.labels import IGNORE
from swath.nn.autoice import SquareSums, autoice_scores, combined_score, f1_weighted, square_sums, square_sums_of
from swath.nn.metrics import confusion_matrix
from tests.synthetic import labels

LAW = settings(max_examples=40, deadline=None)


def charts(seed: int, classes: int = 11, size: int = 500) -> tuple[torch.Tensor, torch.Tensor]:
    """(predicted, truth) of a chart that is right more often than not, a fifth of the truth ignored."""
    truth = labels((size,), classes, seed=seed)
    noise = torch.randint(0, classes, (size,), generator=torch.Generator().manual_seed(seed + 50_000))
    keep = torch.rand(size, generator=torch.Generator().manual_seed(seed + 90_000)) < 0.7
    return torch.where(keep & (truth != IGNORE), truth.long(), noise), truth


@LAW
@given(st.integers(0, 9999), st.booleans())
def test_c76_r2_equals_sklearn_on_all_valid_pixels(seed: int, continuous: bool) -> None:
    predicted, truth = charts(seed)
    guess = predicted + torch.rand(500, generator=torch.Generator().manual_seed(seed)) if continuous else predicted
    valid = truth != IGNORE
    expected = sk.r2_score(truth[valid], guess[valid].double())
    assert square_sums(guess, truth).r2 == pytest.approx(expected, abs=1e-9)


@LAW
@given(st.integers(0, 9999), st.lists(st.integers(0, 500), max_size=6))
def test_c76_c79_r2_does_not_depend_on_how_pixels_are_cut_or_in_which_order(seed: int, cuts: list[int]) -> None:
    predicted, truth = charts(seed)
    edges = [0, *sorted(cuts), 500]
    parts = [square_sums(predicted[a:b], truth[a:b]) for a, b in pairwise(edges)]
    whole = square_sums(predicted, truth)
    assert reduce(add, parts, SquareSums()) == whole
    assert reduce(add, reversed(parts), SquareSums()) == whole
    assert square_sums_of(confusion_matrix(predicted, truth, 11).numpy()) == whole


@LAW
@given(st.integers(0, 9999), st.integers(2, 7), st.integers(1, 40))
def test_c76_weighted_f1_equals_sklearn_also_with_missing_classes(seed: int, classes: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    truth, guess = rng.integers(0, classes, (2, size))
    matrix = sk.confusion_matrix(truth, guess, labels=range(classes))
    expected = sk.f1_score(truth, guess, average="weighted", labels=range(classes), zero_division=0)
    assert f1_weighted(matrix) == pytest.approx(expected, abs=1e-9)


def test_c76_published_scores_combine_to_the_published_one() -> None:
    assert combined_score({"SIC": 75.2, "SOD": 76.4, "FLOE": 69.4}) == pytest.approx(74.52)


def test_c76_the_score_of_three_charts_is_their_weighted_mean() -> None:
    (sic, y_sic), (sod, y_sod), (floe, y_floe) = charts(1, 11), charts(2, 6), charts(3, 7)
    matrices = confusion_matrix(sod, y_sod, 6).numpy(), confusion_matrix(floe, y_floe, 7).numpy()
    found = autoice_scores(square_sums(sic, y_sic), *matrices)
    valid = [(y[y != IGNORE], p[y != IGNORE]) for y, p in ((y_sic, sic), (y_sod, sod), (y_floe, floe))]
    r2 = sk.r2_score(*valid[0])
    weighted = [sk.f1_score(*pair, average="weighted") for pair in valid[1:]]
    assert found["r2_SIC"] == pytest.approx(r2, abs=1e-9)
    assert found["autoice"] == pytest.approx((2 * r2 + 2 * weighted[0] + weighted[1]) / 5, abs=1e-9)


@pytest.mark.parametrize(("wrong", "value"), [(0, 1.0), (3, 0.0)])
def test_c76_a_constant_target_has_a_defined_value_and_a_warning(
    wrong: int, value: float, caplog: pytest.LogCaptureFixture
) -> None:
    truth = torch.full((50,), 7, dtype=torch.uint8)
    guess = truth.long()
    guess[:wrong] = 2
    with caplog.at_level(logging.WARNING, "swath.metrics"):
        assert square_sums(guess, truth).r2 == value == sk.r2_score(truth, guess)
    assert "constant target" in caplog.text


def test_c76_nothing_labelled_counts_as_0_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    truth = torch.full((50,), IGNORE, dtype=torch.uint8)
    with caplog.at_level(logging.WARNING, "swath.metrics"):
        assert square_sums(torch.zeros(50), truth).r2 == 0
    assert "without a single valid pixel" in caplog.text
    assert f1_weighted(np.zeros((3, 3), np.int64)) == 0
