"""Scores from one confusion matrix over all valid pixels: they do not depend on batches, tiles or ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from swath.errors import ConfigError
from swath.labels import IGNORE


def confusion_matrix(predicted: Tensor, target: Tensor, classes: int) -> Tensor:
    """int64 (K, K) counts, rows = truth, columns = prediction; pixels with target 255 do not count."""
    valid = target != IGNORE
    true, guess = target[valid].long(), predicted[valid].long()
    if len(true) and max(int(true.max()), int(guess.max())) >= classes:
        raise ConfigError(
            f"label {int(true.max())} or prediction {int(guess.max())} is not among {classes} classes (0 to {classes - 1}, "
            "255 = ignore). Name all classes in the config's tasks, or correct the labels."
        )
    index = true * classes + guess
    return torch.bincount(index, minlength=classes * classes).reshape(classes, classes)


def scores(matrix: NDArray[np.int64], classes: Sequence[str]) -> dict[str, float]:
    """Scores of a confusion matrix (rows = truth).

    Per class: ``iou_<class>``, ``precision_<class>``, ``recall_<class>``, ``f1_<class>``. Over the classes above 0
    together, foreground against class 0: ``precision_fg``, ``recall_fg``, ``iou_fg`` and ``f1_fg`` = 2TP / (2TP + FP +
    FN), the last two being the primary scores of a binary task. Averages say in their name that they include the background: ``iou_macro_bg``, ``f1_macro_bg``; those
    without it are ``iou_macro_fg``, ``f1_macro_fg``. ``accuracy`` is the share of pixels that are right. A score
    whose denominator is 0 (class neither there nor predicted) is left out, and out of the averages.
    """
    m = np.asarray(matrix, np.float64)
    tp, fp, fn = np.diag(m), m.sum(0) - np.diag(m), m.sum(1) - np.diag(m)
    iou, f1 = _ratio(tp, tp + fp + fn), _ratio(2 * tp, 2 * tp + fp + fn)
    table: dict[str, float] = {"accuracy": float(_ratio(tp.sum(), m.sum()))}
    for i, name in enumerate(classes):
        values = (iou[i], _ratio(tp[i], tp[i] + fp[i]), _ratio(tp[i], tp[i] + fn[i]), f1[i])
        table |= {
            f"{kind}_{name}": float(v) for kind, v in zip(("iou", "precision", "recall", "f1"), values, strict=True)
        }
    hit, false, missed = m[1:, 1:].sum(), m[0, 1:].sum(), m[1:, 0].sum()
    table |= {
        "precision_fg": float(_ratio(hit, hit + false)), "recall_fg": float(_ratio(hit, hit + missed)),
        "iou_fg": float(_ratio(hit, hit + false + missed)), "f1_fg": float(_ratio(2 * hit, 2 * hit + false + missed)),
        "iou_macro_bg": _mean(iou), "f1_macro_bg": _mean(f1), "iou_macro_fg": _mean(iou[1:]), "f1_macro_fg": _mean(f1[1:]),
    }  # fmt: skip
    return {name: value for name, value in table.items() if np.isfinite(value)}


def _ratio(a: NDArray[np.float64] | float, b: NDArray[np.float64] | float) -> NDArray[np.float64]:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.asarray(b) > 0, np.divide(a, b), np.nan)


def _mean(values: NDArray[np.float64]) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def named(table: Mapping[str, float], prefix: str, task: str, tasks: int) -> dict[str, float]:
    """Metric names of the form ``validation/iou_water``; with several tasks ``validation/<task>/iou_<class>``."""
    middle = f"{prefix}/" if tasks == 1 else f"{prefix}/{task}/"
    return {f"{middle}{name}": value for name, value in table.items()}


# -------------------------------------------------------------------------------------------------- threshold baseline

THRESHOLD_BINS = 600


def threshold_histogram(
    band_HW: NDArray[np.float32], target_HW: NDArray[np.uint8], edges: NDArray[np.float64]
) -> NDArray[np.int64]:
    """int64 (2, bins): pixels of class 0 and of the classes above it by value, for `best_threshold`."""
    valid = np.isfinite(band_HW) & (target_HW != IGNORE)
    inner = np.clip(np.digitize(band_HW[valid], edges) - 1, 0, len(edges) - 2)
    foreground = target_HW[valid] > 0
    return np.stack([np.bincount(inner[foreground == side], minlength=len(edges) - 1) for side in (False, True)])


def best_threshold(histogram: NDArray[np.int64], edges: NDArray[np.float64]) -> tuple[float, float, bool]:
    """(IoU, threshold, below) of the best rule "foreground where band < threshold" (below) or >= threshold.

    What a single band can reach at most on these very pixels: the threshold is chosen on them.
    """
    background, foreground = histogram[0].cumsum(), histogram[1].cumsum()
    total = max(int(foreground[-1]), 1)
    below = foreground / (total + background)
    above = (total - foreground) / (total + background[-1] - background)
    i, j = int(below.argmax()), int(above.argmax())
    if below[i] >= above[j]:
        return float(below[i]), float(edges[i + 1]), True
    return float(above[j]), float(edges[j + 1]), False
