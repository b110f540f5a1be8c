"""Statistics of pixels that merge: of tiles to scenes, of images to a data set, of processes to one result.

`Moments` of several bands are lists with an entry per band, in JSON types: count, mean, m2 (sum of squared deviations),
min, max and a sketch of the quantiles. Count, extremes, mean and deviations merge exactly, to rounding in float64, and
to the same bits whatever the order of the parts (`math.fsum` rounds once).

A sketch holds `SKETCH` values at equally spaced ranks. Each merge moves a quantile by at most 1 / (SKETCH - 1) of the
pixels, about 0.1 percentile, so four merges deep still means less than half a percentile. Of images beyond `SAMPLE` pixels
every third, fifth, ... is sorted: for noise that moves the median by a standard deviation of 0.14 percentile, other
quantiles by less, and the many images of a data set by less again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Moments = dict[str, list[Any]]

SKETCH = 1025
"""Values of a quantile sketch."""

SAMPLE = 1 << 16
"""Pixels of a band, at least, that give its sketch: sorting all of a tile would take longer than reading it."""

FAN_IN = 64
"""Parts that are merged at once in a stream: four merges deep are 16 million images."""

QUANTILES = {"q01": 0.01, "q50": 0.50, "q99": 0.99}

_RANKS = np.linspace(0, 1, SKETCH)
_WEIGHTS = np.r_[0.5, np.ones(SKETCH - 2), 0.5] / (SKETCH - 1)
"""Share of the pixels around each value of a sketch: half a step at both ends."""


def band_moments(image_CHW: NDArray[np.float32]) -> Moments:
    """Moments per band over finite pixels."""
    seen = np.isfinite(image_CHW)
    whole = bool(seen.all())
    bands = [_moments(band.ravel() if whole else band[valid]) for band, valid in zip(image_CHW, seen, strict=True)]
    return {name: [band[name] for band in bands] for name in bands[0]}


def _moments(values: NDArray[np.float32]) -> dict[str, Any]:
    if not values.size:
        nan = float("nan")
        return {"count": 0, "mean": nan, "m2": 0.0, "min": nan, "max": nan, "sketch": []}
    deviations = values.astype(np.float64)
    mean = float(deviations.mean())
    deviations -= mean
    low, high = _unsigned(values.min()), _unsigned(values.max())
    sketch = _sketch(np.sort(_sample(values)).astype(np.float64)) + 0.0
    sketch[0], sketch[-1] = low, high
    return {
        "count": int(values.size), "mean": mean, "m2": float(deviations @ deviations),
        "min": low, "max": high, "sketch": sketch.tolist(),
    }  # fmt: skip


def _unsigned(value: Any) -> float:
    """A number without the sign of a zero: which of 0.0 and -0.0 is the smaller one depends on which comes first."""
    return float(value) + 0.0


def _sample(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """All values, or every n-th: n is odd, so that it meets each column of images whose width is even."""
    step = values.size // SAMPLE
    return values if step < 2 else values[:: step - 1 + step % 2]


def _sketch(ordered: NDArray[np.float64]) -> NDArray[np.float64]:
    """`SKETCH` values at equal steps of rank; few values are repeated, as values between them would not be ranks."""
    if ordered.size < SKETCH:
        return ordered[np.minimum((_RANKS * ordered.size).astype(np.intp), ordered.size - 1)]
    at = _RANKS * (ordered.size - 1)
    low = np.minimum(at.astype(np.intp), ordered.size - 2)
    return ordered[low] + (at - low) * (ordered[low + 1] - ordered[low])


def merge_moments(parts: Sequence[Mapping[str, list[Any]]]) -> Moments:
    """Moments of the union of several sets of pixels: Chan, Golub and LeVeque's pairwise update, weighted sketches.

    The order of the parts changes no bit.
    """
    merged = [
        _merge_band([{k: v[band] for k, v in part.items()} for part in parts]) for band in range(len(parts[0]["count"]))
    ]
    return {name: [band[name] for band in merged] for name in merged[0]}


def _merge_band(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    full = [p for p in parts if p["count"]]
    if not full:
        return dict(parts[0])
    counts = np.array([p["count"] for p in full], np.float64)
    means = np.array([p["mean"] for p in full])
    mean = math.fsum(counts * means) / math.fsum(counts)
    m2 = math.fsum([*(p["m2"] for p in full), *(counts * (means - mean) ** 2)])
    return {
        "count": sum(p["count"] for p in full), "mean": mean, "m2": m2,
        "min": _unsigned(min(p["min"] for p in full)), "max": _unsigned(max(p["max"] for p in full)),
        "sketch": _merge_sketches([p["sketch"] for p in full], counts),
    }  # fmt: skip


def _merge_sketches(sketches: Sequence[Sequence[float]], counts: NDArray[np.float64]) -> list[float]:
    if len(sketches) == 1:
        return list(sketches[0])
    values = np.concatenate([np.asarray(s) for s in sketches])
    weights = np.outer(counts / counts.sum(), _WEIGHTS).ravel()
    order = np.lexsort((weights, values))  # equal values by their weights: not by the order of the parts
    reached = np.cumsum(weights[order]) - 0.5 * weights[order]
    merged = np.interp(_RANKS, reached, values[order])
    merged[0], merged[-1] = values.min(), values.max()
    return merged.tolist()


class RunningMoments:
    """Moments of a stream of images in bounded memory, whatever the sizes of the images.

    Parts wait until `FAN_IN` of one depth are there, are merged, and wait again one deeper: no quantile goes through
    more than the logarithm of the number of images in merges, and no more than `FAN_IN` parts wait at a depth.
    """

    def __init__(self) -> None:
        self._waiting: list[list[Moments]] = []

    def add(self, image_CHW: NDArray[np.float32]) -> Moments:
        """Count an image in, and return its own moments; NaN and infinities are no measurement."""
        found = band_moments(image_CHW)
        self.push(found)
        return found

    def push(self, part: Moments, depth: int = 0) -> None:
        """Count the moments of an image in."""
        if depth == len(self._waiting):
            self._waiting.append([])
        here = self._waiting[depth]
        here.append(part)
        if len(here) == FAN_IN:
            self._waiting[depth] = []
            self.push(merge_moments(here), depth + 1)

    def total(self) -> Moments | None:
        """Moments of all images so far; None before the first."""
        parts = [part for depth in self._waiting for part in depth]
        return merge_moments(parts) if parts else None


def band_statistics(moments: Mapping[str, list[Any]], bands: Sequence[str]) -> dict[str, dict[str, float]]:
    """``{band: {count, std, mean, min, max, q01, q50, q99}}``; finite: a band without a valid pixel has count and std
    only, both 0."""
    return {
        band: _band_statistics({name: values[i] for name, values in moments.items()}) for i, band in enumerate(bands)
    }


def _band_statistics(band: Mapping[str, Any]) -> dict[str, float]:
    if not band["count"]:
        return {"count": 0, "std": 0.0}
    quantiles = {name: float(np.interp(q, _RANKS, band["sketch"])) for name, q in QUANTILES.items()}
    std = float(np.sqrt(band["m2"] / band["count"]))
    return {"count": band["count"], "std": std, **{n: band[n] for n in ("mean", "min", "max")}, **quantiles}
