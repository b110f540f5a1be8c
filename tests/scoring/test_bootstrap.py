"""Intervals: scipy's bootstrap as oracle, how often they hold the truth, and differences on the same ground."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from sklearn import metrics as sk

from swath.errors import ConfigError
from swath.scoring import bootstrap as module
from swath.scoring.bootstrap import (
    MEASURED_COVERAGE,
    MINIMUM_UNITS,
    interval_mark,
    interval_notes,
    intervals,
    measured_coverage,
    paired_differences,
    resampled_sums,
)
from swath.scoring.metrics import score_arrays, scores

CLASSES = ("background", "water")


def tiles(count: int, rng: np.random.Generator, recall: float = 20.0) -> NDArray[np.int64]:
    """Confusion matrices (count, 2, 2) of tiles that differ in their share of water and in how hard they are."""
    pixels = 2000
    positive = rng.binomial(pixels, rng.beta(1.5, 6, count))
    hit = rng.binomial(positive, rng.beta(recall, 3, count))
    false = rng.binomial(pixels - positive, rng.beta(2, 60, count))
    return np.moveaxis(np.array([[pixels - positive - false, false], [positive - hit, hit]]), -1, 0)


def iou(matrix: NDArray[np.int64]) -> float:
    return float(matrix[..., 1, 1] / (matrix[..., 1, 1] + matrix[..., 0, 1] + matrix[..., 1, 0]))


@pytest.mark.parametrize("confidence", [0.95, 0.8])
@pytest.mark.parametrize("score", ["iou_fg", "f1_fg", "iou_macro_bg", "f1_background"])
def test_c74_intervals_agree_with_scipy(score: str, confidence: float) -> None:
    units = tiles(30, np.random.default_rng(0))

    def statistic(index: NDArray[np.int64], axis: int = -1) -> NDArray[np.float64]:
        return score_arrays(units[index].sum(-3), CLASSES)[score]

    oracle = stats.bootstrap(
        (np.arange(30),), statistic, n_resamples=20_000, confidence_level=confidence, method="percentile",
        vectorized=True, rng=np.random.default_rng(5),
    )  # fmt: skip
    low, high = intervals(units, CLASSES, confidence, resamples=20_000, seed=1)[score]
    width = oracle.confidence_interval.high - oracle.confidence_interval.low
    assert low == pytest.approx(oracle.confidence_interval.low, abs=0.03 * width)
    assert high == pytest.approx(oracle.confidence_interval.high, abs=0.03 * width)


@pytest.mark.system
def test_c74_about_95_in_100_intervals_hold_the_truth() -> None:
    rng = np.random.default_rng(2)
    truth = iou(tiles(300_000, rng).sum(0))
    found = [intervals(tiles(40, rng), CLASSES, resamples=400, seed=i)["iou_fg"] for i in range(400)]
    held = np.mean([low <= truth <= high for low, high in found])
    assert 0.90 <= held <= 0.98
    narrow = [intervals(tiles(40, rng), CLASSES, 0.5, resamples=400, seed=i)["iou_fg"] for i in range(400)]
    assert 0.42 <= np.mean([low <= truth <= high for low, high in narrow]) <= 0.58


@pytest.mark.system
@pytest.mark.parametrize("units", [6, 16])
def test_c123_the_coverage_that_reports_state_is_what_a_simulation_finds(units: int) -> None:
    rng = np.random.default_rng(12)
    truth = iou(tiles(300_000, rng).sum(0))
    found = [intervals(tiles(units, rng), CLASSES, resamples=200, seed=i)["iou_fg"] for i in range(1000)]
    held = np.mean([low <= truth <= high for low, high in found])
    assert held == pytest.approx(MEASURED_COVERAGE[units], abs=0.03)
    assert held < 0.94


def test_c123_what_is_said_of_intervals_follows_their_units() -> None:
    assert [interval_mark(units) for units in (5, 19, 20, 500)] == ["*", "*", "", ""]
    assert measured_coverage(7) == "in simulation 86% of 95% intervals over 6 units hold the truth"
    assert measured_coverage(1000).startswith("in simulation 94% of 95% intervals over 160 units")
    assert interval_notes(0.95, [3, 4]) == []
    assert interval_notes(0.9, [25, 50]) == [
        "[90% bootstrap intervals over 25 units or more], in simulation 91% of 95% intervals over 20 units hold the truth"
    ]
    (_, few) = interval_notes(0.95, [4, 8, 50])
    assert few.startswith("* over fewer than 20 units, and too narrow: ")


def test_c74_pixels_of_a_tile_are_not_independent_draws() -> None:
    """An interval from pixels, as if each were drawn by itself, holds the truth far too seldom."""
    rng = np.random.default_rng(3)
    truth = iou(tiles(300_000, rng).sum(0))
    held = 0
    for _ in range(200):
        total = tiles(40, rng).sum(0)
        share = iou(total)
        spread = 1.96 * (share * (1 - share) / (total.sum() - total[0, 0])) ** 0.5
        held += abs(share - truth) <= spread
    assert held / 200 < 0.6


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 999), st.integers(MINIMUM_UNITS, 40))
def test_c74_an_interval_depends_on_the_seed_only_and_widens_with_confidence(seed: int, count: int) -> None:
    units = tiles(count, np.random.default_rng(seed))
    once, again = (intervals(units, CLASSES, resamples=200, seed=7) for _ in range(2))
    assert once == again
    wide = intervals(units, CLASSES, 0.99, resamples=200, seed=7)
    for name, (low, high) in once.items():
        assert wide[name][0] <= low <= high <= wide[name][1]
    with_empty = np.concatenate([units, np.zeros((3, 2, 2), np.int64)])
    assert intervals(with_empty, CLASSES, resamples=200, seed=7) == once


def test_c74_resamples_are_sums_of_as_many_units_as_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    units = np.arange(12).reshape(6, 2)
    found = resampled_sums(np.column_stack([np.ones(6), units]), 500, seed=0)
    assert (found[:, 0] == 6).all()
    np.testing.assert_allclose(found[:, 1:].mean(0), units.sum(0), rtol=0.05)
    monkeypatch.setattr(module, "DRAWN_AT_ONCE", 60)
    np.testing.assert_array_equal(resampled_sums(np.column_stack([np.ones(6), units]), 500, seed=0), found)


def test_c74_equal_units_leave_no_doubt_and_few_units_give_no_interval() -> None:
    same = np.tile(np.array([[80, 5], [5, 10]]), (12, 1, 1))
    found = intervals(same, CLASSES)
    assert found["iou_fg"] == pytest.approx((0.5, 0.5))
    assert set(found) == {name for name in scores(same.sum(0), CLASSES) if name.startswith(("iou", "f1"))}
    assert intervals(same[: MINIMUM_UNITS - 1], CLASSES) == {}


def test_c77_a_class_that_hardly_any_unit_has_gets_no_interval(recwarn: pytest.WarningsRecorder) -> None:
    units = np.zeros((12, 3, 3), np.int64)
    units[:, 0, 0] = 50
    units[:, 1, 1] = np.arange(12) + 1
    units[:, 0, 1] = 3
    found = intervals(units, ("land", "ice", "water"))
    assert "iou_ice" in found
    assert not {"iou_water", "f1_water"} & set(found)
    assert not [w for w in recwarn if issubclass(w.category, RuntimeWarning)]


def test_c74_paired_differences_equal_a_loop_over_the_same_draws() -> None:
    rng = np.random.default_rng(4)
    a = tiles(15, rng)
    b = a.copy()
    moved = rng.integers(0, 40, 15)
    moved = np.minimum(moved, b[:, 1, 0])
    b[:, 1, 0] -= moved
    b[:, 1, 1] += moved
    found = paired_differences(a, b, CLASSES, resamples=300, seed=9)["iou_fg"]
    weights = np.random.default_rng(9).multinomial(15, np.full(15, 1 / 15), size=300)
    loop = [iou(np.einsum("u,uij", w, b)) - iou(np.einsum("u,uij", w, a)) for w in weights]
    assert found.value == pytest.approx(iou(b.sum(0)) - iou(a.sum(0)))
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(loop, [2.5, 97.5])))
    assert found.better == pytest.approx(np.mean(np.array(loop) > 0))
    assert found.is_clear


def test_c74_a_small_gain_everywhere_is_clear_though_the_intervals_overlap() -> None:
    a = tiles(40, np.random.default_rng(6))
    b = a.copy()
    gain = np.minimum(b[:, 1, 0], 5)
    b[:, 1, 0] -= gain
    b[:, 1, 1] += gain
    change = paired_differences(a, b, CLASSES)["f1_fg"]
    alone = [intervals(side, CLASSES)["f1_fg"] for side in (a, b)]
    assert change.is_clear
    assert alone[1][0] < alone[0][1], "the two intervals overlap"


def test_c74_two_equal_predictions_differ_by_nothing_and_noise_is_not_clear() -> None:
    rng = np.random.default_rng(8)
    a = tiles(30, rng)
    same = paired_differences(a, a, CLASSES)["iou_fg"]
    assert (same.value, same.low, same.high, same.better) == (0, 0, 0, 0)
    assert not same.is_clear
    clear = [paired_differences(tiles(30, rng), tiles(30, rng), CLASSES, resamples=300)["iou_fg"] for _ in range(100)]
    assert np.mean([c.is_clear for c in clear]) < 0.15
    assert paired_differences(a[:3], a[:3], CLASSES) == {}


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 9999), st.integers(2, 5))
def test_c74_scores_of_many_matrices_equal_sklearn_one_by_one(seed: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    truth, guess = rng.integers(0, classes, (2, 4, 60))
    names = [f"c{i}" for i in range(classes)]
    stack = np.stack([sk.confusion_matrix(t, p, labels=range(classes)) for t, p in zip(truth, guess, strict=True)])
    found = score_arrays(stack.reshape(2, 2, classes, classes), names)
    for i, (t, p) in enumerate(zip(truth, guess, strict=True)):
        each = sk.jaccard_score(t, p, average=None, labels=range(classes), zero_division=0)
        each[~np.isin(range(classes), [*t, *p])] = np.nan
        values = [found[f"iou_{name}"].reshape(-1)[i] for name in names]
        np.testing.assert_allclose(values, each, atol=1e-9)
        assert found["iou_macro_bg"].reshape(-1)[i] == pytest.approx(np.nanmean(each), abs=1e-9)
        assert found["accuracy"].reshape(-1)[i] == pytest.approx(sk.accuracy_score(t, p), abs=1e-9)


@pytest.mark.parametrize("wrong", [{"confidence": 1.0}, {"confidence": 95}, {"resamples": 0}])
def test_c74_settings_without_meaning_are_refused_by_name(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(wrong))}={next(iter(wrong.values()))}"):
        intervals(tiles(8, np.random.default_rng(0)), CLASSES, **wrong)  # type: ignore[arg-type]
