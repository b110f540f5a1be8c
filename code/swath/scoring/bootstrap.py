"""How sure a score is: bootstrap intervals over scenes or tiles, and the difference of two predictions of the same ground.

Pixels of a scene resemble each other, so pixels are no sample; scenes, tiles or blocks of pixels are drawn instead,
with replacement, and every score is computed from the sum of the drawn confusion matrices (Efron 1979; for units that
hold clustered pixels: Field and Welsh 2007). Intervals are percentiles of those scores.

How far to trust one: blocks of the same scene are still alike when they are smaller than what varies in the scene, so
an interval over them is rather too narrow, and it speaks about these scenes, not about the next one. Percentiles of
few units are too narrow as well, so "95 %" is the share of the resamples that they hold, not the chance that they hold the
truth: that is `MEASURED_COVERAGE`, and reports mark intervals over fewer than `FEW_UNITS`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from swath.errors import ConfigError
from swath.scoring.metrics import score_arrays

MINIMUM_UNITS = 5
"""With fewer units there is no interval: percentiles of so few say nothing."""

MEASURED_COVERAGE = {
    5: 0.835, 6: 0.855, 8: 0.878, 10: 0.889, 12: 0.898, 16: 0.914, 20: 0.914, 30: 0.927, 40: 0.934, 80: 0.945, 160: 0.944,
}  # fmt: skip
"""Units to the share of 95 % intervals of the IoU that hold the truth, of 3,000 simulated sets of tiles that differ in their
target share and in how hard they are (`experiments/benchmarks/coverage.py`): never quite 95 %, and far from it with few."""

FEW_UNITS = 20
"""Intervals over fewer units are marked: at least one in ten does not hold the truth, where one in twenty is promised."""

MARK = "*"
"""What stands behind an interval over few units."""

DRAWN_AT_ONCE = 4_000_000
DEFINED = 0.5


@dataclass(frozen=True)
class Difference:
    """Score of B minus score of A with its interval, and the share of resamples in which B is better."""

    value: float
    low: float
    high: float
    better: float

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


def interval_mark(units: int) -> str:
    """What stands behind an interval over so many units: `MARK` where they are few, else nothing."""
    return MARK if units < FEW_UNITS else ""


def measured_coverage(units: int) -> str:
    """How many 95 % intervals over so many units hold the truth, for people; of the next smaller number that was measured."""
    known = max((number for number in MEASURED_COVERAGE if number <= units), default=MINIMUM_UNITS)
    return f"in simulation {100 * MEASURED_COVERAGE[known]:.0f}% of 95% intervals over {known} units hold the truth"


def few_units_notes(units: Iterable[int]) -> list[str]:
    """The sentence that explains `MARK`, once, where intervals over some of these numbers of units bear it."""
    if not any(MINIMUM_UNITS <= number < FEW_UNITS for number in units):
        return []
    shares = ", ".join(f"{100 * MEASURED_COVERAGE[number]:.0f}% over {number}" for number in (6, 10, 16, 40))
    return [
        f"{MARK} over fewer than {FEW_UNITS} units, and too narrow: the share of 95% intervals that hold the truth in "
        f"simulation is {shares} units"
    ]


def interval_notes(confidence: float, units: Iterable[int]) -> list[str]:
    """What a table of intervals over these numbers of units has to say of them below it; nothing without an interval."""
    enough = [int(number) for number in units if number >= MINIMUM_UNITS]
    if not enough:
        return []
    fewest = min(enough)
    return [
        f"[{confidence:.0%} bootstrap intervals over {fewest} units or more], {measured_coverage(fewest)}",
        *few_units_notes(enough),
    ]


def resampled_sums(units_UM: NDArray[np.integer], resamples: int, seed: int) -> NDArray[np.float64]:
    """float64 (R, M): sums over U units drawn with replacement out of U, `resamples` times.

    Any score that is a function of sums over units can be bootstrapped with it. Equal seeds draw equal units.
    Raises ConfigError without a resample.
    """
    if resamples < 1:
        raise ConfigError(f"resamples={resamples}: the bootstrap needs at least one, better 1000 or more")
    units = np.asarray(units_UM, np.float64)
    count = len(units)
    rng = np.random.default_rng(seed)
    step = max(1, DRAWN_AT_ONCE // count)
    sizes = [min(step, resamples - start) for start in range(0, resamples, step)]
    return np.concatenate([rng.multinomial(count, np.full(count, 1 / count), size=n) @ units for n in sizes])


def intervals(
    matrices: NDArray[np.integer], classes: Sequence[str], confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> dict[str, tuple[float, float]]:  # fmt: skip
    """Percentile interval (low, high) of every ``iou_...`` and ``f1_...`` of the sum of matrices (U, K, K), by name.

    Units without a labelled pixel are left out first. No interval is given for fewer than `MINIMUM_UNITS` units, nor
    for a score that is undefined in half of the resamples (a class that hardly any unit has). Raises ConfigError for a
    confidence outside (0, 1).
    """
    labelled = _labelled(matrices)
    if len(labelled) < MINIMUM_UNITS:
        return {}
    found = _headlines(_resample(labelled, resamples, seed), classes)
    return {name: _percentiles(values, confidence) for name, values in found.items() if _is_defined(values)}


def paired_differences(
    a: NDArray[np.integer], b: NDArray[np.integer], classes: Sequence[str], confidence: float = 0.95,
    resamples: int = 2000, seed: int = 0,
) -> dict[str, Difference]:  # fmt: skip
    """Scores of B minus those of A, matrices (U, K, K) of the same U units in the same order, by name.

    Both sides of a resample hold the same units, so what makes a unit hard for both does not blur the difference.
    Same rules for too few units and undefined scores as `intervals`.
    """
    keep = np.asarray(a).sum((-2, -1)) + np.asarray(b).sum((-2, -1)) > 0
    a, b = np.asarray(a)[keep], np.asarray(b)[keep]
    if len(a) < MINIMUM_UNITS:
        return {}
    drawn = [_headlines(_resample(side, resamples, seed), classes) for side in (a, b)]
    whole = [score_arrays(side.sum(0), classes) for side in (a, b)]
    out = {}
    for name in drawn[0]:
        change, value = drawn[1][name] - drawn[0][name], float(whole[1][name] - whole[0][name])
        if _is_defined(change) and np.isfinite(value):
            better = float((change[np.isfinite(change)] > 0).mean())
            out[name] = Difference(value, *_percentiles(change, confidence), better)
    return out


def _labelled(matrices: NDArray[np.integer]) -> NDArray[np.integer]:
    return np.asarray(matrices)[np.asarray(matrices).sum((-2, -1)) > 0]


def _resample(matrices: NDArray[np.integer], resamples: int, seed: int) -> NDArray[np.float64]:
    count, classes, _ = matrices.shape
    return resampled_sums(matrices.reshape(count, -1), resamples, seed).reshape(-1, classes, classes)


def _headlines(matrices: NDArray[np.float64], classes: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    table = score_arrays(matrices, classes)  # type: ignore[arg-type]
    return {name: values for name, values in table.items() if name.startswith(("iou_", "f1_", "r2"))}


def _is_defined(values: NDArray[np.float64]) -> bool:
    return bool(np.isfinite(values).mean() > DEFINED)


def _percentiles(values: NDArray[np.float64], confidence: float) -> tuple[float, float]:
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence={confidence}: must lie between 0 and 1, such as 0.95")
    tail = 50 * (1 - confidence)
    low, high = np.nanpercentile(values, [tail, 100 - tail])
    return float(low), float(high)
