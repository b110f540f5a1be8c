"""Windows over a whole scene in rows, blended and streamed: memory grows with the width of the scene only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from swath.config import configclass
from swath.engine.tta import Merge, Predict, Views
from swath.errors import ConfigError
from swath.geo.grid import Window
from swath.geo.windows import blend_weights, constant_stride_offsets
from swath.nn.heads import Task

BATCH_PIXELS = 1_100_000


@configclass
class SlidingConfig:
    """How windows slide, blend and are turned."""

    window: int = 512
    """Side of the windows in pixels."""
    overlap: int = 128
    """Pixels that neighbouring windows share."""
    blend: Literal["uniform", "linear", "gaussian"] = "linear"
    """Weights of a window's pixels where windows overlap."""
    tta: Views = "off"
    """Test-time augmentation, one prediction per view: off, flips (4 views), rotations (4 quarter turns) or d4 (all 8)."""
    merge: Merge = "mean"
    """How the views' probabilities become one: mean, gmean (geometric mean), max or min (of two classes: of the second)."""
    batch: int | None = None
    """Windows per forward pass; None takes about a million pixels."""


@dataclass
class Accumulator:
    """Weighted sums of the window rows in flight: `rows` rows from `top` on, for all tasks' classes together."""

    width: int
    rows: int
    classes: int
    top: int = 0
    total: NDArray[np.float32] = field(init=False)
    weight: NDArray[np.float32] = field(init=False)

    def __post_init__(self) -> None:
        self.total = np.zeros((self.classes, self.rows, self.width), np.float32)
        self.weight = np.zeros((self.rows, self.width), np.float32)

    def add(
        self,
        probability_KHW: NDArray[np.float32],
        weights_HW: NDArray[np.float32],
        window: Window,
        height: int,
    ) -> None:
        """Add one window; the parts outside the scene (columns, rows from `height` on) are dropped."""
        inside = window.intersect(Window(self.top, 0, min(self.rows, height - self.top), self.width))
        here = inside.relative_to(Window(self.top, 0, self.rows, self.width)).slices
        there = inside.relative_to(window).slices
        self.total[(slice(None), *here)] += probability_KHW[(slice(None), *there)] * weights_HW[there]
        self.weight[here] += weights_HW[there]

    def flush(self, until: int) -> NDArray[np.float32]:
        """Mean probabilities (K, rows, width) of the rows above `until`, NaN where no window was; they leave the buffer."""
        count = until - self.top
        seen = self.weight[:count] > 0
        mean = np.where(seen, self.total[:, :count] / np.where(seen, self.weight[:count], 1), np.nan)
        for buffer in (self.total, self.weight):
            kept = self.rows - count
            buffer[..., :kept, :] = buffer[..., count:, :].copy()
            buffer[..., kept:, :] = 0
        self.top = until
        return mean.astype(np.float32)


def predict_rows(
    read: Callable[[Window], NDArray[np.float32]], shape: tuple[int, int], predict: Predict, tasks: Mapping[str, Task],
    sliding: SlidingConfig,
) -> Iterator[tuple[Window, NDArray[np.float32]]]:  # fmt: skip
    """Yield (strip, probabilities (K of all tasks, rows, width)) from the top of a scene to its bottom.

    `read(window)` gives raw bands, NaN where nodata or outside. Pixels without any measurement are NaN in the
    result; windows without one are not computed. The last window of a row or column is moved inside; scenes smaller
    than a window are padded with NaN.
    """
    size = sliding.window
    if not 0 <= sliding.overlap < size:
        raise ConfigError(f"sliding.overlap={sliding.overlap}: must be at least 0 and below sliding.window={size}")
    stride = size - sliding.overlap
    rows, cols = (constant_stride_offsets(length, size, stride, "shift") for length in shape)
    weights = blend_weights((size, size), sliding.blend)
    buffer = Accumulator(shape[1], size, sum(task.channels for task in tasks.values()))
    batch = sliding.batch or max(1, BATCH_PIXELS // size**2)
    missing = np.zeros((size, shape[1]), bool)
    for i, row in enumerate(rows):
        band = read(Window(row, 0, size, max(shape[1], size)))
        gap = np.asarray(np.isnan(band).all(axis=0))
        missing[:] = gap[:, : shape[1]]
        live = [c for c in cols if not gap[:, c : c + size].all()]
        for start in range(0, len(live), batch):
            chosen = live[start : start + batch]
            images = torch.from_numpy(np.stack([band[:, :, c : c + size] for c in chosen]))
            joined = torch.cat(list(predict(images).values()), dim=1).numpy()
            for col, probability in zip(chosen, joined, strict=True):
                buffer.add(probability, weights, Window(row, col, size, size), shape[0])
        until = rows[i + 1] if i + 1 < len(rows) else shape[0]
        done = buffer.flush(until)
        done[:, missing[: until - row]] = np.nan
        yield Window(row, 0, until - row, shape[1]), done
