"""Shifts by correlation: equal to a search by brute force, with gaps, and no shift where nothing is to be seen."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from swath.geo.registration import LEAST_OVERLAP, ShiftSums, best_shift, edges, shift_sums

Floats = NDArray[np.float64]


def field(shape: tuple[int, int], seed: int, smooth: float = 2.0) -> Floats:
    """A smooth random field of deviation 1."""
    made = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), smooth)
    return made / made.std()


def with_gaps(values: Floats, share: float, seed: int) -> Floats:
    rng = np.random.default_rng(seed)
    return np.where(rng.random(values.shape) < share, np.nan, values)


def around(values: Floats, largest: int) -> Floats:
    """A window with nothing around it."""
    return np.pad(values, largest, constant_values=np.nan)


def by_brute_force(reference: Floats, image: Floats, largest: int) -> Floats:
    """NumPy's correlation of the pixels that are valid in both, shift by shift."""
    height, width = image.shape
    side = 2 * largest + 1
    found, counts = np.full((side, side), np.nan), np.zeros((side, side))
    for i in range(side):
        for j in range(side):
            seen = reference[i : i + height, j : j + width]
            both = np.isfinite(seen) & np.isfinite(image)
            counts[i, j] = both.sum()
            if both.sum() > 1 and seen[both].std() > 1e-6 and image[both].std() > 1e-6:
                found[i, j] = np.corrcoef(seen[both], image[both])[0, 1]
    return np.where(counts >= max(2, LEAST_OVERLAP * counts.max()), found, np.nan)


@settings(max_examples=60, deadline=None)
@given(st.integers(5, 16), st.integers(5, 16), st.integers(1, 4), st.floats(0, 0.6), st.integers(0, 9999))
def test_c126_correlation_at_every_shift_equals_brute_force(
    height: int, width: int, largest: int, gaps: float, seed: int
) -> None:
    reference = with_gaps(7 + field((height + 2 * largest, width + 2 * largest), seed, 1.0), gaps, seed + 1)
    image = with_gaps(field((height, width), seed + 2, 1.0) - 3, gaps, seed + 3)
    found = shift_sums(reference, image, largest).correlation()
    np.testing.assert_allclose(found, by_brute_force(reference, image, largest), atol=1e-6)


def test_c126_sums_of_parts_are_those_of_the_whole() -> None:
    largest = 3
    reference, image = with_gaps(field((46, 36), 1), 0.1, 2), with_gaps(field((40, 30), 3), 0.1, 4)
    whole = shift_sums(reference, image, largest)
    parts = ShiftSums(np.zeros_like(whole.sums))
    for rows in (slice(0, 17), slice(17, 40)):
        seen = slice(rows.start, rows.stop + 2 * largest)
        parts = parts.plus(shift_sums(reference[seen], image[rows], largest))
    np.testing.assert_allclose(parts.sums, whole.sums, atol=1e-8)


@settings(max_examples=25, deadline=None)
@given(st.integers(-6, 6), st.integers(-6, 6), st.integers(0, 999))
def test_c126_a_planted_shift_is_found_whatever_the_sign_of_the_contrast(rows: int, cols: int, seed: int) -> None:
    """What lies at a pixel of the image lies `rows` further down and `cols` further to the right in the reference."""
    largest = 8
    canvas = field((80, 90), seed, 3.0) > 0.3
    image = np.where(canvas[16:64, 16:70], 1.0, 9.0)
    reference = canvas[16 - rows : 64 - rows, 16 - cols : 70 - cols].astype(float)
    image[10:14, :20] = np.nan
    bright = np.pad(edges(reference), largest, constant_values=np.nan)
    found = best_shift(shift_sums(bright, edges(image), largest).correlation())
    assert found is not None
    assert (found.rows, found.cols) == (rows, cols)
    assert found.strength > 0.9


def test_c126_edges_are_the_gradient_and_gaps_have_none() -> None:
    values = field((12, 15), 5)
    down, right = np.gradient(values)
    np.testing.assert_allclose(edges(values), np.hypot(down, right)[1:-1, 1:-1])
    values[5, 6] = np.nan
    assert np.isnan(edges(values)).sum() == 5
    assert np.isnan(edges(values)[4, 5])


@pytest.mark.parametrize("what", ["constant", "nothing", "apart"])
def test_c126_no_shift_is_found_where_there_is_nothing_to_compare(what: str) -> None:
    image, reference = field((20, 20), 1), field((20, 20), 2)
    if what == "constant":
        reference[:] = 7.3
    elif what == "nothing":
        image[:] = np.nan
    else:
        image[:10], reference[10:] = np.nan, np.nan
        image[10:], reference[:10] = 1.0, 2.0
    assert best_shift(shift_sums(around(reference, 4), image, 4).correlation()) is None


def test_c126_unlike_fields_are_not_clear_and_alike_ones_are() -> None:
    unlike, alike = [], []
    for seed in range(20):
        first, second = field((60, 60), seed), field((60, 60), seed + 500)
        for other, found in ((second, unlike), (first, alike)):
            shift = best_shift(shift_sums(around(first, 10), other, 10).correlation())
            assert shift is not None
            found.append((shift.strength, shift.clearness))
    assert max(strength for strength, _ in unlike) < 0.4 < min(strength for strength, _ in alike)
    assert max(clearness for _, clearness in unlike) < min(clearness for _, clearness in alike)
