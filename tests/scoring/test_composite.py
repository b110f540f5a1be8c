"""R2, weighted F1 and their mean, as the AutoICE challenge scores: scikit-learn as oracle, defined at the edges."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from swath.scoring.metrics import combined, score_arrays, scores

LAW = settings(max_examples=40, deadline=None)
AUTOICE = {"SIC/r2": 2.0, "SOD/f1_weighted": 2.0, "FLOE/f1_weighted": 1.0}


def names(count: int) -> list[str]:
    return [str(i) for i in range(count)]


@LAW
@given(st.integers(0, 9999), st.integers(3, 11), st.integers(2, 60))
def test_c76_r2_and_weighted_f1_equal_sklearn_also_with_missing_classes(seed: int, classes: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, size)
    guess = np.where(rng.random(size) < 0.6, truth, rng.integers(0, classes, size))
    matrix = sk.confusion_matrix(truth, guess, labels=range(classes))
    found = scores(matrix, names(classes))
    assert found["r2"] == pytest.approx(sk.r2_score(truth, guess), abs=1e-9)
    f1 = sk.f1_score(truth, guess, average="weighted", labels=range(classes), zero_division=0)
    assert found["f1_weighted"] == pytest.approx(f1, abs=1e-9)


@LAW
@given(st.integers(0, 9999))
def test_c76_c79_many_matrices_at_once_are_each_by_itself(seed: int) -> None:
    matrices = np.random.default_rng(seed).integers(0, 3, (6, 4, 4)) * np.array([0, 1, 1, 1, 1, 1])[:, None, None]
    together = score_arrays(matrices, names(4))
    for i, matrix in enumerate(matrices):
        alone = scores(matrix, names(4))
        for name in ("r2", "f1_weighted"):
            assert together[name][i] == pytest.approx(alone.get(name, np.nan), nan_ok=True)


@pytest.mark.parametrize(("wrong", "value"), [(0, 1.0), (3, 0.0)])
def test_c76_a_constant_target_has_a_defined_value_and_a_warning(
    wrong: int, value: float, caplog: pytest.LogCaptureFixture
) -> None:
    truth = np.full(50, 7)
    guess = np.where(np.arange(50) < wrong, 2, 7)
    matrix = sk.confusion_matrix(truth, guess, labels=range(11))
    with caplog.at_level(logging.WARNING, "swath.metrics"):
        assert scores(matrix, names(11))["r2"] == value == sk.r2_score(truth, guess)
    assert "all 50 labelled pixels are 7" in caplog.text


def test_c76_published_scores_combine_to_the_published_one() -> None:
    table = {"test/SIC/r2": 75.2, "test/SOD/f1_weighted": 76.4, "test/FLOE/f1_weighted": 69.4}
    assert combined(table, AUTOICE, "test") == {"test/combined": pytest.approx(74.52)}
    assert combined(table, AUTOICE | {"SIZE/r2": 1.0}, "test") == {}
    assert combined(table, {}, "test") == {}
