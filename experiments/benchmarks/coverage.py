"""How often the bootstrap intervals of scores hold the truth, by the number of units that they are drawn from.

    python experiments/benchmarks/coverage.py --trials 4000

A trial draws tiles of 2,000 pixels that differ in their share of the target and in how hard they are, and asks for the 95 %
interval of the IoU and of the F1 of all of them together. The truth is the score of 2,000,000 such tiles. With 4,000 trials
the standard error of a coverage of 90 % is half a percent. What it prints is `MEASURED_COVERAGE` in `swath.scoring.bootstrap`.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from swath.scoring.bootstrap import intervals
from swath.scoring.metrics import score_arrays

CLASSES = ("background", "target")
SCORES = ("iou_fg", "f1_fg")
UNITS = (5, 6, 8, 10, 12, 16, 20, 30, 40, 80, 160)
PIXELS = 2000


def tiles(count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Confusion matrices (count, 2, 2), rows = truth: target share Beta(1.5, 6), recall Beta(20, 3), false alarms Beta(2, 60)."""
    positive = rng.binomial(PIXELS, rng.beta(1.5, 6, count))
    hit = rng.binomial(positive, rng.beta(20, 3, count))
    false = rng.binomial(PIXELS - positive, rng.beta(2, 60, count))
    background = PIXELS - positive - false
    return np.stack([background, false, positive - hit, hit], axis=-1).reshape(count, 2, 2)


def coverage(units: int, trials: int, resamples: int, truth: dict[str, float], seed: int) -> dict[str, float]:
    """Share of the trials whose interval holds the truth, by score."""
    rng = np.random.default_rng([seed, units])
    held = dict.fromkeys(SCORES, 0)
    for trial in range(trials):
        found = intervals(tiles(units, rng), CLASSES, resamples=resamples, seed=trial)
        for score in SCORES:
            low, high = found[score]
            held[score] += low <= truth[score] <= high
    return {score: count / trials for score, count in held.items()}


def main() -> None:
    """Print a line per number of units."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=4000)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    everything = tiles(2_000_000, np.random.default_rng(options.seed)).sum(0)
    truth = {score: float(score_arrays(everything, CLASSES)[score]) for score in SCORES}
    print(f"{'units':>5s}" + "".join(f"{score:>9s}" for score in SCORES))
    for units in UNITS:
        found = coverage(units, options.trials, options.resamples, truth, options.seed)
        print(f"{units:5d}" + "".join(f"{found[score]:9.3f}" for score in SCORES), flush=True)


if __name__ == "__main__":
    main()
