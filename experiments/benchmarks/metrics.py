"""Confusion matrix and scores of each class of 100 MPix against scikit-learn and torchmetrics.

    python experiments/benchmarks/metrics.py --megapixels 100 --rounds 5

Two uint8 maps of K classes, 90 % of the pixels right, in one thread; all three give the same matrix, which is checked.
torchmetrics lives in an environment of its own and is measured in a process of its own; its time has no imports in it.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rounds import elsewhere, in_turn, python_with, row, write


def maps(megapixels: int, classes: int) -> tuple[Any, Any]:
    """(prediction, truth), uint8 (pixels,)."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, classes, megapixels * 10**6, dtype=np.uint8)
    wrong = rng.random(len(truth), dtype=np.float32) < 0.1
    return np.where(wrong, rng.integers(0, classes, len(truth), dtype=np.uint8), truth), truth


def ours(predicted: Any, truth: Any, classes: int) -> tuple[float, Any]:
    import torch

    from swath.scoring.metrics import confusion_matrix, scores

    torch.set_num_threads(1)
    started = time.perf_counter()
    matrix = confusion_matrix(torch.from_numpy(predicted), torch.from_numpy(truth), classes).numpy()
    scores(matrix, [str(i) for i in range(classes)])
    return time.perf_counter() - started, matrix


def sklearn(predicted: Any, truth: Any, classes: int) -> tuple[float, Any]:
    from sklearn.metrics import confusion_matrix

    started = time.perf_counter()
    matrix = confusion_matrix(truth, predicted, labels=range(classes))
    return time.perf_counter() - started, matrix


def torchmetrics(predicted: Any, truth: Any, classes: int) -> tuple[float, Any]:
    import torch
    from torchmetrics.functional.classification import multiclass_confusion_matrix  # type: ignore[import-not-found]

    torch.set_num_threads(1)
    guess, target = torch.from_numpy(predicted).int(), torch.from_numpy(truth).int()  # it takes no uint8
    started = time.perf_counter()
    matrix = multiclass_confusion_matrix(guess, target, classes).numpy()
    return time.perf_counter() - started, matrix


MEASUREMENTS = {"ours": ours, "sklearn": sklearn, "torchmetrics": torchmetrics}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--megapixels", type=int, default=100)
    options.add_argument("--classes", type=int, default=3)
    options.add_argument("--measure", choices=MEASUREMENTS, help=argparse.SUPPRESS)
    given = options.parse_args()
    work = maps(given.megapixels, given.classes)
    if given.measure:
        print(MEASUREMENTS[given.measure](*work, given.classes)[0])
        return
    few = [a[: 10**5] for a in work]
    if not np.array_equal(ours(*few, given.classes)[1], sklearn(*few, given.classes)[1]):
        raise SystemExit("our matrix is not scikit-learn's")
    same = [f"--megapixels={given.megapixels}", f"--classes={given.classes}", "--measure=torchmetrics"]
    python = python_with("torchmetrics")
    found = in_turn(
        {
            "ours": lambda: ours(*work, given.classes)[0],
            "sklearn": lambda: sklearn(*work, given.classes)[0],
            "torchmetrics": partial(elsewhere, python, Path(__file__), *same),
        },
        given.rounds,
    )
    rows = [
        row("scores / scikit-learn's confusion_matrix", found["ours"], found["sklearn"], "<= 0.3", "s"),
        row("scores / torchmetrics' confusion matrix", found["ours"], found["torchmetrics"], "<= 1.0", "s"),
    ]
    write("metrics", rows, megapixels=given.megapixels, classes=given.classes, rounds=given.rounds)


if __name__ == "__main__":
    main()
