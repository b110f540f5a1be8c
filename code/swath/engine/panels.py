"""Pictures for people: image, label, prediction and overlay side by side; a confusion matrix. Arrays in, arrays out."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from swath.labels import IGNORE

PALETTE = np.array(
    [
        [222, 215, 200],
        [30, 110, 200],
        [230, 150, 40],
        [60, 160, 80],
        [200, 60, 70],
        [140, 90, 180],
        [110, 110, 110],
        [240, 210, 60],
    ],
    np.uint8,
)
"""RGB of classes 0, 1, 2, ...; further classes start over."""
UNLABELLED = np.array([255, 255, 255], np.uint8)
GAP = 4
CAPTION = 18


def stretch(image_CHW: NDArray[np.float32], low: float = 2.0, high: float = 98.0) -> NDArray[np.uint8]:
    """uint8 RGB (height, width, 3) of the first three bands (fewer are repeated): percentiles `low` to `high` to 0..255.

    Bands without negative values, such as linear backscatter and reflectance, are shown as their logarithm. NaN is white.
    """
    bands = [image_CHW[i % len(image_CHW)] for i in range(3)]
    return np.stack([_stretch_band(band, low, high) for band in bands], axis=-1)


def _stretch_band(band_HW: NDArray[np.float32], low: float, high: float) -> NDArray[np.uint8]:
    valid = np.isfinite(band_HW)
    if not valid.any():
        return np.full(band_HW.shape, 255, np.uint8)
    values = np.log10(np.maximum(band_HW, 1e-6)) if band_HW[valid].min() >= 0 else band_HW
    a, b = np.percentile(values[valid], [low, high])
    scaled = np.clip((values - a) / max(b - a, 1e-6), 0, 1) * 245
    return np.where(valid, scaled, 255).astype(np.uint8)


def palette_of(classes: int, ordered: bool = False) -> NDArray[np.uint8]:
    """uint8 (N, 3): `PALETTE`; for steps of one quantity, or more classes than it has, a colour each from dark to light."""
    if classes <= len(PALETTE) and not ordered:
        return PALETTE
    return (colormaps["viridis"](np.linspace(0, 1, classes))[:, :3] * 255).astype(np.uint8)


def colors(labels_HW: NDArray[np.integer], palette: NDArray[np.uint8] = PALETTE) -> NDArray[np.uint8]:
    """uint8 RGB of class numbers; 255 is white."""
    safe = np.where(labels_HW == IGNORE, 0, labels_HW)
    return np.where((labels_HW == IGNORE)[..., None], UNLABELLED, palette[safe % len(palette)]).astype(np.uint8)


def overlay(
    image_HWC: NDArray[np.uint8], labels_HW: NDArray[np.integer], predicted_HW: NDArray[np.integer]
) -> NDArray[np.uint8]:
    """The image with agreement and errors of the foreground in colour: hits blue, false alarms red, misses yellow."""
    valid = labels_HW != IGNORE
    hit = valid & (labels_HW > 0) & (predicted_HW == labels_HW)
    false = valid & (predicted_HW > 0) & (predicted_HW != labels_HW)
    missed = valid & (labels_HW > 0) & (predicted_HW == 0)
    out = image_HWC.astype(np.float32)
    for where, color in ((hit, (30, 110, 230)), (false, (235, 40, 40)), (missed, (250, 220, 40))):
        out[where] = 0.45 * out[where] + 0.55 * np.array(color, np.float32)
    return out.astype(np.uint8)


def panel(
    image_CHW: NDArray[np.float32],
    labels_HW: NDArray[np.uint8],
    predicted_HW: NDArray[np.integer],
    caption: str = "",
    palette: NDArray[np.uint8] = PALETTE,
) -> NDArray[np.uint8]:
    """uint8 RGB: image, label, prediction and overlay in a row, with the foreground IoU written above; of more than two
    classes also the share of labelled pixels that have the right one.
    """
    picture = stretch(image_CHW)
    valid = labels_HW != IGNORE
    both = (valid & (labels_HW > 0) & (predicted_HW > 0)).sum()
    either = (valid & ((labels_HW > 0) | (predicted_HW > 0))).sum()
    score = f"IoU {both / either:.3f}" if either else "no foreground"
    if valid.any() and max(labels_HW[valid].max(), predicted_HW[valid].max()) > 1:
        score += f"  right {(labels_HW == predicted_HW)[valid].mean():.0%}"
    cells = [
        picture,
        colors(labels_HW, palette),
        colors(predicted_HW, palette),
        overlay(picture, labels_HW, predicted_HW),
    ]
    titles = [caption, "label", "prediction", f"overlay  {score}"]
    return side_by_side(cells, titles)


def side_by_side(cells: Sequence[NDArray[np.uint8]], titles: Sequence[str]) -> NDArray[np.uint8]:
    """uint8 RGB: pictures of one height in a row, each with a title above."""
    return np.concatenate([_titled(cell, title) for cell, title in zip(cells, titles, strict=True)], axis=1)


def _titled(cell_HWC: NDArray[np.uint8], title: str) -> NDArray[np.uint8]:
    height, width = cell_HWC.shape[:2]
    out = np.full((height + CAPTION, width + GAP, 3), 255, np.uint8)
    out[CAPTION:, :width] = cell_HWC
    text = title if len(title) * 7 <= width else "..." + title[-(width // 7 - 3) :]
    cv2.putText(out, text, (2, CAPTION - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
    return out


def stacked(rows: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Panels below each other; narrower ones are filled with white."""
    width = max(row.shape[1] for row in rows)
    return np.concatenate([np.pad(r, ((0, GAP), (0, width - r.shape[1]), (0, 0)), constant_values=255) for r in rows])


def confusion_figure(matrix: NDArray[np.int64], classes: Sequence[str], title: str) -> NDArray[np.uint8]:
    """uint8 RGB: counts and row shares of a confusion matrix (rows = truth)."""
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(1.6 + 1.3 * len(classes), 1.4 + 1.1 * len(classes)), dpi=110, layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(classes)), classes)
    axes.set_yticks(range(len(classes)), classes)
    axes.set(xlabel="predicted", ylabel="true", title=title)
    for (i, j), share in np.ndenumerate(shares):
        axes.text(
            j,
            i,
            f"{share:.1%}\n{matrix[i, j]:,}",
            ha="center",
            va="center",
            color="white" if share > 0.5 else "black",
        )
    return _drawn(figure)


class Bar(NamedTuple):
    """One bar: its value in [0, 1] with an interval (NaN: none), and a note at its end."""

    label: str
    value: float
    low: float
    high: float
    note: str


def bars_figure(groups: Mapping[str, Sequence[Bar]], title: str, most: int = 24) -> NDArray[np.uint8]:
    """uint8 RGB: horizontal bars with intervals, one panel per group; of more than `most` bars the lowest are shown."""
    shown = {name: _lowest(bars, most) for name, bars in groups.items()}
    heights = [0.7 + 0.26 * len(bars) for bars in shown.values()]
    figure = Figure(figsize=(7.5, 0.5 + sum(heights)), dpi=110, layout="constrained")
    rows = figure.subplots(len(shown), 1, squeeze=False, sharex=True, gridspec_kw={"height_ratios": heights})
    for axes, (name, bars) in zip(rows[:, 0], shown.items(), strict=True):
        _draw_bars(axes, bars)
        axes.set_title(name if len(bars) == len(groups[name]) else f"{name}: {most} lowest of {len(groups[name])}",
                       loc="left", fontsize=10)  # fmt: skip
    figure.suptitle(title, fontsize=11)
    return _drawn(figure)


def _lowest(bars: Sequence[Bar], most: int) -> list[Bar]:
    kept = set(sorted(bars, key=lambda bar: np.nan_to_num(bar.value, nan=2.0))[:most])
    return [bar for bar in bars if bar in kept]


def _draw_bars(axes: Any, bars: Sequence[Bar]) -> None:
    color = tuple(PALETTE[1] / 255)
    values = np.nan_to_num([bar.value for bar in bars])
    axes.barh(range(len(bars)), values, height=0.7, color=color, alpha=0.75)
    for i, bar in enumerate(bars):
        if np.isfinite(bar.low):
            axes.plot([bar.low, bar.high], [i, i], color="black", linewidth=1.2, marker="|", markersize=6)
        number = f"{bar.value:.3f}" if np.isfinite(bar.value) else "undefined"
        axes.text(1.01, i, f"{number}  {bar.note}", va="center", fontsize=8)
    axes.set_yticks(range(len(bars)), [bar.label[-40:] for bar in bars], fontsize=8)
    axes.set(xlim=(0, 1), ylim=(len(bars) - 0.4, -0.6))


class Point(NamedTuple):
    """A point of a curve with its interval (NaN: none)."""

    x: float
    value: float
    low: float
    high: float


def curves_figure(curves: Mapping[str, Sequence[Point]], x: str, y: str, title: str) -> NDArray[np.uint8]:
    """uint8 RGB: values with intervals over `x`, one line per name."""
    figure = Figure(figsize=(7.5, 4.5), dpi=110, layout="constrained")
    axes = figure.subplots()
    for number, (name, points) in enumerate(curves.items(), start=1):
        ordered, color = sorted(points), tuple(PALETTE[number % len(PALETTE)] / 255)
        at = [point.x for point in ordered]
        axes.plot(at, [point.value for point in ordered], marker="o", color=color, label=name)
        axes.fill_between(at, [p.low for p in ordered], [p.high for p in ordered], color=color, alpha=0.2)
    axes.set(xlabel=x, ylabel=y, title=title)
    axes.grid(alpha=0.3)
    axes.legend()
    return _drawn(figure)


def _drawn(figure: Figure) -> NDArray[np.uint8]:
    canvas = FigureCanvasAgg(figure)  # no pyplot: nothing stays in memory when the figure goes
    canvas.draw()
    picture = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    figure.clear()
    del figure, canvas
    gc.collect()  # figures hold cycles; with a large heap they would pile up until Python looks
    return picture
