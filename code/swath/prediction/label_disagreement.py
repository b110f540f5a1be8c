"""Where predictions and labels disagree in whole patches: windows of scenes with the share of their labels that is doubted.

A pixel is doubted by 1 minus the probability of its label, or, of class maps, by 0 or 1, and only where the map calls it
something else, and where such pixels fill a disk: outlines that are drawn a pixel off, and speckle, are no faults of
labels. The mean over a window orders the windows, as the self-confidence of labels does in C. G. Northcutt, L. Jiang,
I. L. Chuang, Confident Learning, JAIR 70, 2021, https://doi.org/10.1613/jair.1.12125.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from swath.errors import RasterError
from swath.geo.grid import Grid, Window
from swath.geo.morphology import opened
from swath.geo.raster import RasterReader
from swath.geo.windows import ConstantSize, windows
from swath.interrupt import check_stop
from swath.labels import IGNORE
from swath.nn.model import Regression, Task
from swath.prediction.label_shifts import grown
from swath.prediction.rasters import class_bands, tasks_of

NAME_TASK = "Name it in `task`."
DISAGREEMENT = "disagreement"
"""Kind of a fault."""


@dataclass(frozen=True, kw_only=True)
class Disagreement:
    """A window of a scene and how far a map doubts its labels there."""

    row: int
    col: int
    height: int
    width: int
    labelled: int
    """Pixels that have a label and a prediction."""
    doubt: float
    """Mean doubt of these pixels, 0 to 1."""
    missing_target: float
    """Share of these pixels that the labels call class 0, and the map something else, in patches."""
    false_target: float
    """Share of these pixels that the labels call a class above 0, and the map something else, in patches."""


class PredictedMap:
    """A map of classes or probabilities as `inference` leaves it, in windows.

    Raises RasterError for a map on another grid than its scene, or without the task.
    """

    def __init__(self, path: Path, grid: Grid, task: str | None) -> None:
        self.reader = RasterReader(path)
        info = self.reader.info
        difference = grid.difference(info.grid)
        if difference:
            raise RasterError(f"{path}: not on the grid of its scene: {difference}. Predict this scene again.")
        self.task: Task | None = None
        if info.dtype == "uint8":
            self.numbers = [info.position_of_task(task, NAME_TASK) + 1]
            return
        tasks = tasks_of(info.bands)
        self.name = next(iter(tasks)) if task is None or len(tasks) == 1 else task
        if self.name not in tasks:
            raise RasterError(f"{path}: no task {self.name}; it has {', '.join(tasks)}. {NAME_TASK}")
        self.task = tasks[self.name]
        self.numbers = [n for n, band in enumerate(info.bands, 1) if band.partition(":")[0] == self.name]

    def __enter__(self) -> PredictedMap:
        return self

    def __exit__(self, *_: object) -> None:
        self.reader.close()

    def classes(self, window: Window) -> NDArray[np.uint8]:
        """uint8 (1, height, width): the class of each pixel, 255 without a prediction."""
        if self.task is None:
            return self.reader.labels(window, self.numbers)
        return class_bands(self.reader.image(window, self.numbers), {self.name: self.task})

    def doubt(self, window: Window, labels_HW: NDArray[np.uint8]) -> NDArray[np.float32]:
        """float32 (height, width): 1 minus the probability of the label; of classes and of a regression 0 or 1."""
        if self.task is None or isinstance(self.task, Regression):
            return (self.classes(window)[0] != labels_HW).astype(np.float32)
        bands = self.reader.image(window, self.numbers)
        all_KHW = np.concatenate([1 - bands, bands]) if self.task.is_binary else bands
        has_class_HW = labels_HW < len(all_KHW)
        place_HW = np.where(has_class_HW, labels_HW, 0).astype(np.int64)
        of_label_HW = np.take_along_axis(all_KHW, place_HW[None], axis=0)[0]
        return np.where(has_class_HW, 1 - of_label_HW, 1).astype(np.float32)


def disagreements(
    labels: RasterReader, found: PredictedMap, task: int, block: int, narrowest: int
) -> Iterator[Disagreement]:
    """Each window of at most `block` pixels that has labels and predictions; the windows partition the scene.

    `task`: position of the band of labels. `narrowest`: radius in pixels of the disk that doubted pixels have to fill.
    """
    for _, core in windows(labels.info.grid.shape, ConstantSize(size=block, min_overlap=0)):
        check_stop()
        around = grown(core, 2 * narrowest)  # as far as an opening looks
        labels_HW = labels.labels(around, [task + 1])[0]
        classes_HW, doubt_HW = found.classes(around)[0], found.doubt(around, labels_HW)
        valid_HW = (labels_HW != IGNORE) & (classes_HW != IGNORE)
        patches_HW = in_patches(valid_HW & (classes_HW != labels_HW), valid_HW, narrowest)
        inner = core.relative_to(around).slices
        valid_HW, patches_HW, labels_HW = valid_HW[inner], patches_HW[inner], labels_HW[inner]
        labelled = int(valid_HW.sum())
        if labelled:
            yield Disagreement(
                row=core.row, col=core.col, height=core.height, width=core.width, labelled=labelled,
                doubt=float(doubt_HW[inner][patches_HW].sum(dtype=np.float64)) / labelled,
                missing_target=int((patches_HW & (labels_HW == 0)).sum()) / labelled,
                false_target=int((patches_HW & (labels_HW > 0)).sum()) / labelled,
            )  # fmt: skip


def in_patches(differs_HW: NDArray[np.bool_], valid_HW: NDArray[np.bool_], narrowest: int) -> NDArray[np.bool_]:
    """Those of the differing pixels that a disk of radius `narrowest` covers, all of whose valid pixels differ."""
    if narrowest == 0:
        return differs_HW
    as_classes = np.where(valid_HW, differs_HW, IGNORE).astype(np.uint8)
    return opened(as_classes, 1, narrowest) == 1
