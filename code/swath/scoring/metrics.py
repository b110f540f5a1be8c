"""Scores from one confusion matrix over all valid pixels: they do not depend on batches, tiles or ranks."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from swath.errors import ConfigError
from swath.labels import IGNORE

log = logging.getLogger("swath.metrics")


def confusion_matrix(predicted: Tensor, target: Tensor, classes: int) -> Tensor:
    """int64 (K, K) counts, rows = truth, columns = prediction; pixels with target 255 do not count."""
    return confusion_matrices(predicted, target, classes, torch.zeros((), dtype=torch.long), 1)[0]


def confusion_matrices(predicted: Tensor, target: Tensor, classes: int, group: Tensor, groups: int) -> Tensor:
    """int64 (G, K, K): a `confusion_matrix` for each group of pixels, for scores by tile or block.

    `group` (int64, 0 to G - 1) broadcasts to the shape of `target`. Raises ConfigError for labels beyond the classes.
    """
    valid = target != IGNORE
    # bytes and no boolean index: counting 100 megapixels takes a tenth of the time that int64 copies take
    true, guess = _bytes(target), _bytes(predicted)
    if bool((valid & ((true >= classes) | (guess >= classes))).any()):
        raise ConfigError(
            f"label {int(target[valid].max())} or prediction {int(predicted[valid].max())} is not among {classes} classes (0 to "
            f"{classes - 1}, 255 = ignore). Name all classes in the config's tasks, or correct the labels."
        )
    ignored = classes**2
    wide = torch.uint8 if ignored < 256 else torch.int32
    pair = torch.where(valid, true.to(wide) * classes + guess, ignored)
    if groups > 1:
        pair = group.to(target.device, torch.int32) * (ignored + 1) + pair
    counts = torch.bincount(pair.flatten(), minlength=groups * (ignored + 1))
    return counts.reshape(groups, -1)[:, :ignored].reshape(groups, classes, classes)


def _bytes(classes: Tensor) -> Tensor:
    """uint8; what does not fit becomes 255, which is a class nowhere."""
    return classes if classes.dtype == torch.uint8 else classes.clamp(-1, 255).byte()


def scores(matrix: NDArray[np.int64], classes: Sequence[str]) -> dict[str, float]:
    """Scores of a confusion matrix (rows = truth).

    Per class: ``iou_<class>``, ``precision_<class>``, ``recall_<class>``, ``f1_<class>``. Over the classes above 0
    together, foreground against class 0: ``precision_fg``, ``recall_fg``, ``iou_fg`` and ``f1_fg`` = 2TP / (2TP + FP +
    FN), the last two being the primary scores of a binary task. Averages say in their name that they include the
    background: ``iou_macro_bg``, ``f1_macro_bg``; those without it are ``iou_macro_fg``, ``f1_macro_fg``. ``accuracy``
    is the share of pixels that are right. With more than two classes also ``f1_weighted``, the mean of the classes' F1
    weighted by their true pixels, and ``r2`` = 1 - SSE / SST of the class numbers, which says something where classes
    are steps of one quantity; a truth without spread counts as 1 when nothing is wrong, else as 0, as in scikit-learn,
    and is warned of. A score whose denominator is 0 (class neither there nor predicted) is left
    out, and out of the averages.
    """
    if len(classes) > 2 and np.count_nonzero(matrix.sum(1)) == 1:
        step = classes[int(matrix.sum(1).argmax())]
        log.warning("all %d labelled pixels are %s: their R2 is undefined and counts as 1 or 0", matrix.sum(), step)
    table = {name: float(value) for name, value in score_arrays(matrix, classes).items()}
    return {name: value for name, value in table.items() if np.isfinite(value)}


def score_arrays(matrices: NDArray[np.integer], classes: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """The `scores` of many confusion matrices (..., K, K) at once: float64 arrays (...), NaN where one is undefined."""
    m = np.asarray(matrices, np.float64)
    tp = np.diagonal(m, axis1=-2, axis2=-1)
    guessed, true = m.sum(-2), m.sum(-1)
    iou, f1 = _ratio(tp, true + guessed - tp), _ratio(2 * tp, true + guessed)
    table = {"accuracy": _ratio(tp.sum(-1), m.sum((-2, -1)))}
    for kind, values in (("iou", iou), ("precision", _ratio(tp, guessed)), ("recall", _ratio(tp, true)), ("f1", f1)):
        table |= {f"{kind}_{name}": values[..., i] for i, name in enumerate(classes)}
    table |= _foreground(m)
    if len(classes) > 2:
        table |= {"f1_weighted": _ratio((np.nan_to_num(f1) * true).sum(-1), true.sum(-1)), "r2": _r2(m)}
    return table | {
        "iou_macro_bg": _mean(iou), "f1_macro_bg": _mean(f1),
        "iou_macro_fg": _mean(iou[..., 1:]), "f1_macro_fg": _mean(f1[..., 1:]),
    }  # fmt: skip


def _foreground(m: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Scores of all classes above 0 together against class 0."""
    hit, false, missed = m[..., 1:, 1:].sum((-2, -1)), m[..., 0, 1:].sum(-1), m[..., 1:, 0].sum(-1)
    return {
        "precision_fg": _ratio(hit, hit + false), "recall_fg": _ratio(hit, hit + missed),
        "iou_fg": _ratio(hit, hit + false + missed), "f1_fg": _ratio(2 * hit, 2 * hit + false + missed),
    }  # fmt: skip


def _r2(m: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 - SSE / SST of class numbers, from matrices (..., K, K); 1 or 0 where the truth is one class, NaN without any."""
    level = np.arange(m.shape[-1], dtype=np.float64)
    true = m.sum(-1)
    count, error2 = true.sum(-1), (m * (level[:, None] - level) ** 2).sum((-2, -1))
    mean = _ratio(true @ level, count)
    spread = (true * (level - mean[..., None]) ** 2).sum(-1)
    alone = np.count_nonzero(true, axis=-1) == 1
    return np.where(alone, np.where(error2 > 0, 0.0, 1.0), 1 - _ratio(error2, np.where(alone, 1.0, spread)))


def combined(
    table: Mapping[str, float], weights: Mapping[str, float], prefix: str, name: str = "combined"
) -> dict[str, float]:
    """``<prefix>/combined``: the weighted mean of scores that the table has under ``<prefix>/<score>``.

    The AutoICE challenge's score is {"SIC/r2": 2, "SOD/f1_weighted": 2, "FLOE/f1_weighted": 1} (Stokholm et al. 2024,
    The Cryosphere 18). Empty without weights, or while one of the scores is undefined.
    """
    parts = {score: table.get(f"{prefix}/{score}") for score in weights}
    known = {score: value for score, value in parts.items() if value is not None}
    if not weights or len(known) < len(weights):
        return {}
    return {f"{prefix}/{name}": sum(weights[s] * value for s, value in known.items()) / sum(weights.values())}


def _ratio(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(b > 0, np.divide(a, b), np.nan)


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the last axis of what is defined; NaN when nothing is."""
    defined = np.isfinite(values)
    return _ratio(np.where(defined, values, 0.0).sum(-1), defined.sum(-1).astype(np.float64))


def tile_means(matrices: NDArray[np.integer], empty: Literal["exclude", "one"] = "exclude") -> dict[str, float]:
    """Foreground scores averaged tile by tile, of matrices (U, K, K): a view beside the score over all pixels.

    ``iou_fg_tile_mean``, ``f1_fg_tile_mean`` and the number of tiles that counted, ``tile_mean_tiles``. A tile with
    neither true nor predicted foreground has no IoU. It is left out, or counts as 1 under names that say so
    (``iou_fg_tile_mean_empty1``). Tiles without a labelled pixel never count; the means are left out when none does.
    """
    labelled = np.asarray(matrices)[np.asarray(matrices).sum((-2, -1)) > 0]
    suffix, instead = ("", np.nan) if empty == "exclude" else ("_empty1", 1.0)
    found = _foreground(labelled.astype(np.float64))
    table = {f"{name}_tile_mean{suffix}": found[name] for name in ("iou_fg", "f1_fg")}
    table = {name: np.where(np.isnan(values), instead, values) for name, values in table.items()}
    counted = float(np.isfinite(table[f"iou_fg_tile_mean{suffix}"]).sum())
    means = {name: float(_mean(values)) for name, values in table.items()}
    return {name: mean for name, mean in means.items() if counted} | {f"tile_mean_tiles{suffix}": counted}


def named(table: Mapping[str, float], prefix: str, task: str, tasks: int) -> dict[str, float]:
    """Metric names of the form ``validation/iou_water``; with several tasks ``validation/<task>/iou_<class>``."""
    middle = f"{prefix}/" if tasks == 1 else f"{prefix}/{task}/"
    return {f"{middle}{name}": value for name, value in table.items()}


# -------------------------------------------------------------------------------------------------- threshold baseline

THRESHOLD_BINS = 2**16
"""Bins of a threshold histogram: the upper half of a float32's bits, so each is 0.8 % of its value wide or narrower, in any
unit, and histograms of any scenes can be added."""


def threshold_histogram(band_HW: NDArray[np.float32], target_HW: NDArray[np.uint8]) -> NDArray[np.int64]:
    """int64 (2, THRESHOLD_BINS): pixels of class 0 and of the classes above it by value, for `best_threshold`."""
    valid = np.isfinite(band_HW) & (target_HW != IGNORE)
    bins = _rising_bits(band_HW[valid]) >> 16
    foreground = target_HW[valid] > 0
    return np.stack([np.bincount(bins[foreground == side], minlength=THRESHOLD_BINS) for side in (False, True)])


def _rising_bits(values: NDArray[np.float32]) -> NDArray[np.uint32]:
    """The bits of float32 numbers as integers in the order of the numbers; -0 and 0 are one."""
    bits = np.ascontiguousarray(values + np.float32(0)).view(np.uint32)
    negative = bits >> 31 == 1
    return np.where(negative, ~bits, bits | np.uint32(1 << 31))


def _lower_edge(number: int) -> float:
    """The smallest number of a bin of `threshold_histogram`."""
    bits = np.uint32(number << 16)
    positive = number >= THRESHOLD_BINS // 2
    bits = bits & np.uint32(2**31 - 1) if positive else ~bits
    return float(bits.view(np.float32))


def best_threshold(histogram: NDArray[np.int64]) -> tuple[float, float, bool]:
    """(IoU, threshold, below) of the best rule "foreground where band < threshold" (below) or >= threshold.

    What a single band can reach at most on these very pixels: the threshold is chosen on them.
    """
    background, foreground = histogram[0].cumsum(), histogram[1].cumsum()
    total = max(int(foreground[-1]), 1)
    below = foreground / (total + background)
    above = (total - foreground) / (total + background[-1] - background)
    i, j = int(below.argmax()), int(above.argmax())
    if below[i] >= above[j]:
        return float(below[i]), _lower_edge(i + 1), True
    return float(above[j]), _lower_edge(j + 1), False
