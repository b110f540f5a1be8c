"""Scenes against their labels: which may be compared, and what is counted. Tables of it are in `score_table`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from swath.errors import ConfigError, RasterError
from swath.geo.grid import Grid, Window
from swath.geo.raster import RasterReader, describe
from swath.geo.windows import strips
from swath.labels import IGNORE
from swath.nn.model import Task
from swath.scoring.alignment import Where, align, predicted_at
from swath.scoring.baselines import add_histograms
from swath.scoring.metrics import confusion_matrices

STRIP_PIXELS = 4_000_000


@dataclass(frozen=True)
class SceneScore:
    """Confusion matrices of a scene by block, and histograms for the best single-band threshold of the first task."""

    blocks: dict[str, NDArray[np.int64]]
    """By task: (block rows, block columns, K, K)."""
    grid: Grid
    block: int
    """Side of the blocks in pixels; those at the right and lower edge are smaller."""
    histograms: dict[str, NDArray[np.int64]]

    @property
    def matrices(self) -> dict[str, NDArray[np.int64]]:
        """The whole scene's confusion matrix by task."""
        return {task: blocks.sum((0, 1)) for task, blocks in self.blocks.items()}

    @property
    def is_one_block(self) -> bool:
        return max(self.grid.shape) <= self.block

    def windows(self) -> Iterator[tuple[tuple[int, int], Window]]:
        """Each block's position among the blocks and its window in the scene."""
        for i, row in enumerate(range(0, self.grid.shape[0], self.block)):
            for j, col in enumerate(range(0, self.grid.shape[1], self.block)):
                yield (i, j), Window(row, col, self.block, self.block).intersect(self.grid.window)


def score_scene(
    classes: Path, labels: Path, image: Path | None, tasks: Mapping[str, Task], block: int = 512,
    on: Where = "same",
) -> SceneScore:  # fmt: skip
    """Compare a predicted scene with its labels, strip by strip, and count by blocks of `block` pixels.

    Raises RasterError when the two are not on one grid (or, `on` "labels", do not cover the same ground), ConfigError
    for blocks without pixels. Pixels predicted as nodata count as class 0: a map that leaves out labelled ground is not
    forgiven.
    """
    if block < 1:
        raise ConfigError(f"scoring.block={block}: blocks need at least one pixel, such as 512")
    grid = describe(labels).grid
    at = align(classes, labels, on)
    rows, cols = (-(-length // block) for length in grid.shape)
    blocks = {name: np.zeros((rows, cols, len(t.classes), len(t.classes)), np.int64) for name, t in tasks.items()}
    column = torch.arange(grid.shape[1])[None] // block
    histograms: dict[str, NDArray[np.int64]] = {}
    with ExitStack() as stack:
        predicted, truth = (stack.enter_context(RasterReader(path)) for path in (classes, labels))
        source = stack.enter_context(RasterReader(image)) if image else None
        for strip in _strips_of_blocks(grid.shape, block):
            p, t = predicted_at(predicted, strip, at), truth.labels(strip)
            for name, task in tasks.items():
                band, guess = _band_of(truth, name), p[_band_of(predicted, name)]
                pair = torch.from_numpy(np.where(guess == IGNORE, 0, guess)), torch.from_numpy(t[band])
                counts = confusion_matrices(*pair, len(task.classes), column, cols)
                blocks[name][strip.row // block] += counts.numpy()
            if source is not None:
                add_histograms(histograms, source, strip, t[0])
    return SceneScore(blocks, grid, block, histograms)


def _strips_of_blocks(shape: tuple[int, int], block: int) -> Iterator[Window]:
    """Strips of bounded size, none of which reaches over two rows of blocks."""
    for row in range(0, shape[0], block):
        for strip in strips((min(block, shape[0] - row), shape[1]), STRIP_PIXELS):
            yield Window(row + strip.row, 0, strip.height, strip.width)


def _band_of(reader: RasterReader, task: str) -> int:
    """Position of a task's band; a raster of one band serves a task of any name."""
    if task in reader.info.bands:
        return reader.info.bands.index(task)
    if len(reader.info.bands) == 1:
        return 0
    raise RasterError(f"{reader.path}: no band {task}; it has {', '.join(reader.info.bands)}. Name it in the tasks.")
