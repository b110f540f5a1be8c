"""Shift between two rasters that show the same thing: their correlation at every shift at once, pixels without a
measurement left out.

At each shift the overlapping pixels that are valid in both are correlated (Pearson). Six sums over pairs of pixels give
that, and the Fourier transform gives each of them for all shifts together: D. Padfield, Masked object registration in
the Fourier domain, IEEE Transactions on Image Processing 21(5), 2012, https://doi.org/10.1109/TIP.2011.2181402.
Plain phase correlation would see the outlines of gaps and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy import fft

Floats = NDArray[np.float64]

LEAST_OVERLAP = 0.5
"""Pairs of pixels that a shift needs, as a share of those that the shift with most pairs has."""
APART = 3
"""Pixels, along rows or columns, from which on another shift is a rival of the best one."""
BORDER = 1
"""Pixels around a window that `edges` need."""


@dataclass(frozen=True)
class ShiftSums:
    """Sums over the pairs of pixels of each shift; those of several windows add up to those of the scene.

    float64 (6, 2 s + 1, 2 s + 1) for shifts of -s to s rows and columns: number of pairs, sum of the reference, of the
    image, of their product, of the squared reference, of the squared image.
    """

    sums: Floats

    def plus(self, other: ShiftSums) -> ShiftSums:
        """Those of two windows together."""
        return ShiftSums(self.sums + other.sums)

    def correlation(self) -> Floats:
        """(2 s + 1, 2 s + 1): Pearson's correlation at each shift; NaN where pairs are few or one of both is constant."""
        pairs, reference, image, product, reference_2, image_2 = self.sums
        pairs = np.rint(pairs)
        enough = pairs >= max(2.0, LEAST_OVERLAP * float(pairs.max()))
        with np.errstate(divide="ignore", invalid="ignore"):
            covariance = product - reference * image / pairs
            spreads = [reference_2 - reference**2 / pairs, image_2 - image**2 / pairs]
            # what rounding leaves of a spread of 0, with a margin
            has_spread = [
                spread > 1e-9 * squares for spread, squares in zip(spreads, (reference_2, image_2), strict=True)
            ]
            found = covariance / np.sqrt(spreads[0] * spreads[1])
        usable = enough & has_spread[0] & has_spread[1]
        return cast(Floats, np.where(usable, np.clip(found, -1.0, 1.0), np.nan))


def shift_sums(reference_HW: NDArray[np.floating], image_HW: NDArray[np.floating], largest: int) -> ShiftSums:
    """The sums of a window for all shifts up to `largest` pixels.

    `image_HW`: (height, width). `reference_HW`: (height + 2 largest, width + 2 largest), the same window with as many
    pixels around it. NaN in both where there is no measurement. At shift (i, j) the pixel (r, c) of the window meets
    the pixel (r + i, c + j) of the reference: the reference lies i pixels further down and j further to the right.
    """
    shape = [fft.next_fast_len(side, real=True) for side in reference_HW.shape]
    reference, image = _transformed(reference_HW, shape), _transformed(image_HW, shape)
    ones, values, squares = 0, 1, 2
    combinations = [(ones, ones), (values, ones), (ones, values), (values, values), (squares, ones), (ones, squares)]
    side = 2 * largest + 1
    found = []
    for of_reference, of_image in combinations:
        product = reference[of_reference] * np.conj(image[of_image])
        found.append(fft.irfft2(product, shape)[:side, :side])
    return ShiftSums(np.stack(found))


def _transformed(values_HW: NDArray[np.floating], shape: list[int]) -> list[NDArray[np.complex128]]:
    """Fourier transforms of the mask of valid pixels, of the values, and of their squares."""
    valid_HW = np.isfinite(values_HW)
    filled_HW = np.where(valid_HW, values_HW, 0.0).astype(np.float64)
    return [fft.rfft2(part, shape) for part in (valid_HW.astype(np.float64), filled_HW, filled_HW**2)]


def edges(values_HW: NDArray[np.floating]) -> Floats:
    """Length of the gradient, in units per pixel, without its sign; NaN beside pixels without a measurement.

    Central differences, (height - 2, width - 2) of (height, width): without the outermost pixels.
    """
    values_HW = np.asarray(values_HW, np.float64)
    down = (values_HW[2:, 1:-1] - values_HW[:-2, 1:-1]) / 2
    right = (values_HW[1:-1, 2:] - values_HW[1:-1, :-2]) / 2
    return cast(Floats, np.where(np.isfinite(values_HW[1:-1, 1:-1]), np.hypot(down, right), np.nan))


@dataclass(frozen=True)
class Shift:
    """The shift with the highest correlation, and how sure it is."""

    rows: int
    cols: int
    strength: float
    """Correlation at this shift."""
    unshifted: float
    """Correlation without a shift."""
    rival: float
    """Highest correlation at a shift that differs by `APART` pixels or more."""
    spread: float
    """Standard deviation of the correlation over those shifts."""

    @property
    def distance(self) -> float:
        """Length in pixels."""
        return float(np.hypot(self.rows, self.cols))

    @property
    def clearness(self) -> float:
        """By how many standard deviations of the other shifts' correlations the best one lies above the rival."""
        return (self.strength - self.rival) / self.spread if self.spread > 0 else 0.0


def best_shift(correlation: Floats) -> Shift | None:
    """The best of the shifts -s to s; None where one of both has no edges, or too few pixels overlap.

    `correlation`: (2 s + 1, 2 s + 1), NaN where nothing is known.
    """
    known = np.isfinite(correlation)
    largest = len(correlation) // 2
    if not known.any() or not known[largest, largest]:
        return None
    row, col = np.unravel_index(int(np.nanargmax(correlation)), correlation.shape)
    rows, cols = np.indices(correlation.shape)
    far = known & (np.maximum(abs(rows - row), abs(cols - col)) >= APART)
    others = correlation[far]
    if not len(others):
        return None
    return Shift(
        rows=int(row) - largest, cols=int(col) - largest, strength=float(correlation[row, col]),
        unshifted=float(correlation[largest, largest]), rival=float(others.max()), spread=float(others.std()),
    )  # fmt: skip
