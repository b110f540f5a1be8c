"""Windows over a whole scene in rows, blended and streamed: memory grows with the width of the scene only."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from swath.config import configclass
from swath.config.ranges import Count, Pixels, PositiveCount
from swath.errors import ConfigError
from swath.geo.grid import Window
from swath.geo.windows import blend_weights, constant_stride_offsets
from swath.interrupt import check_stop
from swath.nn.model import Task
from swath.nn.tta import Merge, Predict, Views
from swath.steps.prefetch import prefetch

BATCH_PIXELS = 1_100_000
CPU = torch.device("cpu")

Read = Callable[[Window], NDArray[np.float32]]
"""Raw bands (C, height, width) of a window, NaN where nodata or outside the scene."""

Band = tuple[NDArray[np.float32], NDArray[np.bool_]]
"""Bands (C, height, width) under a row of windows, and which pixels (height, width) have no measurement."""

Strip = tuple[Window, NDArray[np.float32]]
"""Part of a scene, as wide as it, and probabilities (K of all tasks, rows, width)."""


@configclass
class SlidingConfig:
    """How windows slide, blend and are turned."""

    window: Pixels = 512
    """Side of the windows in pixels."""
    overlap: Count = 128
    """Pixels that neighbouring windows share."""
    blend: Literal["uniform", "linear", "gaussian"] = "linear"
    """Weights of a window's pixels where windows overlap."""
    tta: Views = "off"
    """Test-time augmentation, one prediction per view: off, flips (4 views), rotations (4 quarter turns) or d4 (all 8)."""
    merge: Merge = "mean"
    """How the views' probabilities become one: mean, gmean (geometric mean), max or min (of two classes: of the second)."""
    batch: PositiveCount | None = None
    """Windows per forward pass; None takes about a million pixels."""


@dataclass
class Accumulator:
    """Weighted sums of the window rows in flight: `rows` rows from `top` on, for all tasks' classes together."""

    width: int
    rows: int
    classes: int
    top: int = 0
    device: torch.device = CPU
    total: Tensor = field(init=False)
    weight: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.total = torch.zeros((self.classes, self.rows, self.width), device=self.device)
        self.weight = torch.zeros((self.rows, self.width), device=self.device)

    def add(self, probability_KHW: Tensor, weights_HW: Tensor, window: Window, height: int) -> None:
        """Add one window; the parts outside the scene (columns, rows from `height` on) are dropped."""
        inside = window.intersect(Window(self.top, 0, min(self.rows, height - self.top), self.width))
        here = inside.relative_to(Window(self.top, 0, self.rows, self.width)).slices
        there = inside.relative_to(window).slices
        self.total[(slice(None), *here)] += probability_KHW[(slice(None), *there)] * weights_HW[there]
        self.weight[here] += weights_HW[there]

    def flush(self, until: int) -> Tensor:
        """Mean probabilities (K, rows, width) of the rows above `until`, NaN where no window was; they leave the buffer."""
        count = until - self.top
        weight = self.weight[:count]
        mean = self.total[:, :count] / torch.where(weight > 0, weight, math.nan)
        for buffer in (self.total, self.weight):
            kept = self.rows - count
            buffer[..., :kept, :] = buffer[..., count:, :].clone()
            buffer[..., kept:, :] = 0
        self.top = until
        return mean


def window_rows(height: int, sliding: SlidingConfig) -> list[int]:
    """First pixel rows of the rows of windows; strip i reaches from the i-th to the next. The last is moved inside.

    Raises ConfigError for an overlap that leaves no step.
    """
    size = sliding.window
    if not 0 <= sliding.overlap < size:
        raise ConfigError(f"sliding.overlap={sliding.overlap}: must be at least 0 and below sliding.window={size}")
    return constant_stride_offsets(height, size, size - sliding.overlap, "shift")


def predict_rows(
    read: Read, shape: tuple[int, int], predict: Predict, tasks: Mapping[str, Task], sliding: SlidingConfig,
    device: torch.device = CPU, part: range | None = None,
) -> Generator[Strip, None, None]:  # fmt: skip
    """Yield (strip, probabilities (K of all tasks, rows, width)) from the top of a scene to its bottom.

    Pixels without any measurement are NaN in the result; windows without one are not computed. The last window of a
    row or column is moved inside; scenes smaller than a window are padded with NaN. The next rows are read while
    windows are computed, and none is read twice.

    `part` takes strips ``part.start`` to ``part.stop - 1`` only (see `window_rows`). Every pixel is the same sum of the
    same windows in the same order then, and the batches are the same, so it gets the same value, bit for bit.
    """
    size, rows = sliding.window, window_rows(shape[0], sliding)
    part = range(len(rows)) if part is None else part
    first = _first_row(rows, part.start, size)
    strips = _strips(rows, shape)[first : part.stop]
    classes = sum(task.channels for task in tasks.values())
    buffer = Accumulator(shape[1], size, classes, rows[first], device)
    bands = prefetch(_bands(read, rows[first : part.stop], size, max(shape[1], size)))
    with closing(bands):  # its thread is done before the reader closes
        for strip, probability_KHW in _blend(bands, strips, predict, sliding, buffer, shape[0]):
            if strip.row >= rows[part.start]:
                yield strip, probability_KHW


def _first_row(rows: list[int], start: int, size: int) -> int:
    """The first row of windows that reaches into strip `start`: those from it on are the strip's halo."""
    return next(i for i, row in enumerate(rows) if row + size > rows[start])


def _strips(rows: list[int], shape: tuple[int, int]) -> list[Window]:
    """The strip of each row of windows: from its first pixel row to that of the next one, as wide as the scene."""
    ends = [*rows[1:], shape[0]]
    return [Window(row, 0, end - row, shape[1]) for row, end in zip(rows, ends, strict=True)]


def _blend(
    bands: Iterable[Band], strips: list[Window], predict: Predict,
    sliding: SlidingConfig, buffer: Accumulator, height: int,
) -> Iterator[Strip]:  # fmt: skip
    """Each strip with its mean probabilities (K, rows, width), NaN without a measurement; `height` is the scene's."""
    size = sliding.window
    weights_HW = torch.from_numpy(blend_weights((size, size), sliding.blend)).to(buffer.device)
    for strip, (band_CHW, gap_HW) in zip(strips, bands, strict=True):
        images = _batches(torch.from_numpy(band_CHW).to(buffer.device), gap_HW, sliding, buffer.width)
        for window, probability_KHW in _predict_windows(images, predict, strip.row, size):
            buffer.add(probability_KHW, weights_HW, window, height)
        mean_KHW = buffer.flush(strip.row + strip.height).cpu().numpy()
        mean_KHW[:, gap_HW[: strip.height, : strip.width]] = np.nan
        yield strip, mean_KHW


def _predict_windows(
    batches: Iterable[tuple[list[int], Tensor]], predict: Predict, row: int, size: int
) -> Iterator[tuple[Window, Tensor]]:
    """Each window of the row of windows at pixel row `row`, with its probabilities (K of all tasks, size, size)."""
    for cols, images_BCHW in batches:
        check_stop()
        joined_BKHW = torch.cat(list(predict(images_BCHW).values()), dim=1)
        for col, probability_KHW in zip(cols, joined_BKHW, strict=True):
            yield Window(row, col, size, size), probability_KHW


def _bands(read: Read, rows: Iterable[int], size: int, width: int) -> Iterator[Band]:
    """The `size` pixel rows from each of `rows` on, and where they have no measurement; shared rows are read once."""
    band, end = np.empty((0, 0, 0), np.float32), 0
    for row in rows:
        known = max(0, end - row)
        fresh = read(Window(row + known, 0, size - known, width))
        band = np.concatenate([band[:, size - known :], fresh], axis=1) if known else fresh
        end = row + size
        yield band, np.asarray(np.isnan(band).all(axis=0))


def _batches(
    band_CHW: Tensor, gap_HW: NDArray[np.bool_], sliding: SlidingConfig, width: int
) -> Iterator[tuple[list[int], Tensor]]:
    """Columns and images (B, C, H, W) of the windows of one row that have a measurement.

    Never of two rows: what is in a batch must not depend on which rows a rank has, as it can change the last bit.
    """
    size = sliding.window
    count = sliding.batch or max(1, BATCH_PIXELS // size**2)
    cols = constant_stride_offsets(width, size, size - sliding.overlap, "shift")
    live = [c for c in cols if not gap_HW[:, c : c + size].all()]
    for start in range(0, len(live), count):
        chosen = live[start : start + count]
        yield chosen, torch.stack([band_CHW[:, :, c : c + size] for c in chosen])
