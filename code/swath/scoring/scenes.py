"""Scenes against their labels: which may be compared, and what is counted. Tables of it are in `scoring.table`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from swath.data.scene_image import SceneImage
from swath.data.tables import Row
from swath.errors import ConfigError
from swath.geo.grid import Grid, Window
from swath.geo.layout import RasterInfo
from swath.geo.raster import RasterReader, describe, require_clear_labels
from swath.geo.windows import strips
from swath.geo.zones import Zones
from swath.labels import IGNORE
from swath.nn.model import Task
from swath.scoring.alignment import Where, align, predicted_at, zones_at
from swath.scoring.baselines import add_histograms
from swath.scoring.metrics import confusion_matrices

STRIP_PIXELS = 4_000_000
NAME_TASKS = "Name it in the tasks."


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
    classes: Path, labels: Path, image: Row | None, tasks: Mapping[str, Task], block: int = 512,
    on: Where = "same", missing: Zones | None = None,
) -> SceneScore:  # fmt: skip
    """Compare a predicted scene with its labels, strip by strip, and count by blocks of `block` pixels.

    Raises RasterError when the two are not on one grid (or, `on` "labels", do not cover the same ground), ConfigError
    for blocks without pixels. Pixels predicted as nodata count as class 0: a map that leaves out labelled ground is not
    forgiven. Labels in `missing` zones of the map's grid do not count. With `image`, a row of a table of scenes, its bands are
    counted for the threshold baseline of the first task.
    """
    if block < 1:
        raise ConfigError(f"scoring.block={block}: blocks need at least one pixel, such as 512")
    for path in (classes, labels):
        require_clear_labels(path)
    grid = describe(labels).grid
    at = align(classes, labels, on)
    counts = BlockCounts(grid.shape, block, tasks)
    histograms: dict[str, NDArray[np.int64]] = {}
    with ExitStack() as stack:
        predicted = stack.enter_context(RasterReader(classes))
        truth = stack.enter_context(RasterReader(labels))
        source = stack.enter_context(SceneImage.of(image).reader()) if image else None
        guess_bands = task_positions(predicted.info, list(tasks))
        truth_bands = task_positions(truth.info, list(tasks))
        for strip in _strips_of_blocks(grid.shape, block):
            guess_THW = predicted_at(predicted, strip, at)[guess_bands]
            truth_THW = truth.labels(strip)[truth_bands]
            if missing is not None:
                truth_THW = np.where(zones_at(missing, predicted.info.grid, strip, at), IGNORE, truth_THW)
            try:
                counts.add(strip.row, guess_THW, truth_THW)
            except ConfigError as error:
                raise ConfigError(f"{labels}, {classes}: {error}") from None
            if source is not None:
                add_histograms(histograms, source, strip, truth_THW[0])
    return SceneScore(counts.blocks, grid, block, histograms)


def task_positions(info: RasterInfo, tasks: Sequence[str]) -> list[int]:
    """Positions of the tasks' bands, counted from 0: by name, in whatever order the file has them.

    A raster of one band serves a single task of any name, never two. Raises RasterError for a task without a band.
    """
    if len(tasks) == 1:
        return [info.position_of_task(tasks[0], NAME_TASKS)]
    return [number - 1 for number in info.numbers_of(tasks, NAME_TASKS)]


class BlockCounts:
    """Confusion counts of each task by block of a scene, added strip by strip."""

    def __init__(self, shape: tuple[int, int], block: int, tasks: Mapping[str, Task]) -> None:
        self.block, self.tasks = block, tasks
        rows, self.columns = (-(-length // block) for length in shape)
        self.block_of_column = torch.arange(shape[1])[None] // block
        self.blocks: dict[str, NDArray[np.int64]] = {}
        for name, task in tasks.items():
            classes = len(task.classes)
            self.blocks[name] = np.zeros((rows, self.columns, classes, classes), np.int64)

    def add(self, first_row: int, guess_THW: NDArray[np.uint8], truth_THW: NDArray[np.uint8]) -> None:
        """Count a strip (uint8, tasks in order) that begins at `first_row` and lies in one row of blocks."""
        for (name, task), guess_HW, truth_HW in zip(self.tasks.items(), guess_THW, truth_THW, strict=True):
            guess = torch.from_numpy(np.where(guess_HW == IGNORE, 0, guess_HW))
            truth = torch.from_numpy(truth_HW)
            counts = confusion_matrices(guess, truth, len(task.classes), self.block_of_column, self.columns)
            self.blocks[name][first_row // self.block] += counts.numpy()


def _strips_of_blocks(shape: tuple[int, int], block: int) -> Iterator[Window]:
    """Strips of bounded size, none of which reaches over two rows of blocks."""
    for row in range(0, shape[0], block):
        for strip in strips((min(block, shape[0] - row), shape[1]), STRIP_PIXELS):
            yield Window(row + strip.row, 0, strip.height, strip.width)
