"""Charts: confusion matrices, bars, curves and lines as pictures, and files to draw on. Nobody else makes a figure."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from swath.figures.pictures import PALETTE
from swath.files import atomic_write


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


class Line(NamedTuple):
    """A line of a chart; without a label it is not in the legend, without a colour it takes the next one."""

    values: Sequence[float]
    label: str | None = None
    width: float = 1.2
    color: str | None = None


def lines_figure(
    x: Sequence[float], lines: Sequence[Line], marked: tuple[float, str], labels: tuple[str, str], title: str
) -> NDArray[np.uint8]:  # fmt: skip
    """uint8 RGB: lines over `x`, one place of it `marked` by a label; `labels` of both axes."""
    figure = Figure(figsize=(7.2, 4.5), dpi=110, layout="constrained")
    axes = figure.subplots()
    for line in lines:
        axes.plot(x, line.values, label=line.label, linewidth=line.width, color=line.color)
    place, label = marked
    axes.axvline(place, color="black", linestyle=":", label=label)
    axes.set(xlabel=labels[0], ylabel=labels[1], title=title)
    axes.legend(fontsize=8)
    return _drawn(figure)


@contextmanager
def drawing(path: Path, size: tuple[float, float], columns: int = 1, rows: int = 1) -> Iterator[Any]:
    """Axes (one, or an array of `columns` or `rows`) to draw on; the PNG gets its name when the block ends without error."""
    figure = Figure(figsize=size, dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)  # no pyplot: nothing stays in memory when the figure goes
    yield figure.subplots(rows, columns)
    with atomic_write(path) as part:
        canvas.print_png(part)


def _drawn(figure: Figure) -> NDArray[np.uint8]:
    canvas = FigureCanvasAgg(figure)  # no pyplot: nothing stays in memory when the figure goes
    canvas.draw()
    picture = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    figure.clear()
    del figure, canvas
    gc.collect()  # figures hold cycles; with a large heap they would pile up until Python looks
    return picture
