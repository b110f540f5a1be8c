"""The AutoICE challenge's score: R2 of ice concentration, weighted F1 of stage of development and of floe size.

combined = (2 R2(SIC) + 2 F1(SOD) + F1(FLOE)) / 5, each over the valid pixels of the whole set taken together (Stokholm
et al. 2024, The Cryosphere 18). All of it follows from sums, which are added over batches, scenes and ranks.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from swath.labels import IGNORE

log = logging.getLogger("swath.metrics")

WEIGHTS = {"SIC": 2.0, "SOD": 2.0, "FLOE": 1.0}
"""Weight of each chart's score in the combined score."""


@dataclass(frozen=True)
class SquareSums:
    """What R2 needs of pixels y (truth) and p (prediction): count, sum y, sum y^2, sum (y - p)^2. They add up.

    Exact as long as truth and prediction are whole numbers and the sums stay below 2^53.
    """

    count: float = 0.0
    y: float = 0.0
    y2: float = 0.0
    error2: float = 0.0

    def __add__(self, other: SquareSums) -> SquareSums:
        return SquareSums(
            self.count + other.count, self.y + other.y, self.y2 + other.y2, self.error2 + other.error2
        )  # fmt: skip

    @property
    def r2(self) -> float:
        """1 - SSE / SST. Without spread in the truth (SST = 0): 1 when nothing is wrong, else 0, as scikit-learn has it.

        0 when there is no pixel at all. Both cases are logged as warnings.
        """
        if not self.count:
            log.warning("R2 without a single valid pixel counts as 0")
            return 0.0
        spread = self.y2 - self.y**2 / self.count
        if spread > 1e-12 * self.y2:
            return 1 - self.error2 / spread
        value = 0.0 if self.error2 else 1.0
        log.warning("R2 of a constant target (%g pixels of %g) is undefined and counts as %g",
                    self.count, self.y / self.count, value)  # fmt: skip
        return value


def square_sums(predicted: Tensor, target: Tensor) -> SquareSums:
    """Sums over the pixels whose target is not 255; `predicted` (float, or class numbers) has the shape of `target`."""
    valid = target != IGNORE
    y, p = target[valid].to(torch.float64), predicted[valid].to(torch.float64)
    return SquareSums(float(len(y)), float(y.sum()), float(y.square().sum()), float((y - p).square().sum()))


def square_sums_of(matrix: NDArray[np.integer]) -> SquareSums:
    """The same sums from a confusion matrix (rows = truth) of classes whose numbers are the values, such as SIC 0 to 10."""
    counts, level = np.asarray(matrix, np.float64), np.arange(len(matrix), dtype=np.float64)
    true = counts.sum(1)
    error2 = (counts * (level[:, None] - level[None]) ** 2).sum()
    return SquareSums(float(true.sum()), float(true @ level), float(true @ level**2), float(error2))


def f1_weighted(matrix: NDArray[np.integer]) -> float:
    """Mean of the classes' F1, weighted by their true pixels; a class neither there nor predicted weighs nothing.

    0 without a valid pixel. Equals scikit-learn's ``f1_score(average="weighted", zero_division=0)``.
    """
    m = np.asarray(matrix, np.float64)
    true, guessed, hit = m.sum(1), m.sum(0), np.diag(m)
    f1 = np.divide(2 * hit, true + guessed, out=np.zeros_like(hit), where=true + guessed > 0)
    return float(f1 @ true / true.sum()) if true.sum() else 0.0


def combined_score(scores: Mapping[str, float]) -> float:
    """(2 SIC + 2 SOD + FLOE) / 5 of the three charts' scores, in whatever unit they are given."""
    return sum(weight * scores[chart] for chart, weight in WEIGHTS.items()) / sum(WEIGHTS.values())


def autoice_scores(sic: SquareSums, sod: NDArray[np.integer], floe: NDArray[np.integer]) -> dict[str, float]:
    """``r2_SIC``, ``f1_weighted_SOD``, ``f1_weighted_FLOE`` and ``autoice`` (their combined score), 1 = perfect.

    `sod` and `floe` are confusion matrices over all valid pixels. The challenge publishes 100 times these numbers.
    """
    found = {"SIC": sic.r2, "SOD": f1_weighted(sod), "FLOE": f1_weighted(floe)}
    return {
        "r2_SIC": found["SIC"], "f1_weighted_SOD": found["SOD"], "f1_weighted_FLOE": found["FLOE"],
        "autoice": combined_score(found),
    }  # fmt: skip
