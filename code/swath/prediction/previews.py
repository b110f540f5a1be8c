"""Small pictures of whole scenes with what was predicted."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from swath.data.scene_image import SceneImage
from swath.data.tables import Row
from swath.errors import RasterError
from swath.figures.pictures import Agreement, colors, draw_mask_outline, palette_of, panel, stretch
from swath.geo.grid import Window
from swath.geo.raster import RasterReader
from swath.labels import IGNORE
from swath.nn.model import Regression, Task
from swath.scoring.scenes import task_positions

STRIP_ROWS = 64
"""Rows of a picture that are read at once."""

# ------------------------------------------------------------------------------------------------------------ pictures


def quick_look(
    scene: Row, classes: Path | None, side: int = 900, tasks: Mapping[str, Task] | None = None
) -> NDArray[np.uint8]:
    """uint8 RGB of a whole scene, a row with `image`, at most `side` px, with the predicted foreground's outline in red.

    With `tasks` of which one has more than two classes, or several, the map of each in colours beside it.
    """
    with SceneImage.of(scene).reader() as reader:
        step = max(1, math.ceil(max(reader.info.grid.shape) / side))
        picture = stretch(thinned(reader.image, reader.info.grid.shape, step))
    if classes is None:
        return picture
    with RasterReader(classes) as reader:
        bands = thinned(reader.labels, reader.info.grid.shape, step)
    maps = [
        colors(band, palette_of(len(task.classes), isinstance(task, Regression)))
        for band, task in zip(bands, (tasks or {}).values(), strict=False)
        if len(bands) > 1 or not task.is_binary
    ]
    mask = bands[0]
    draw_mask_outline(picture, (mask > 0) & (mask != IGNORE), (235, 30, 40))
    return np.concatenate([picture, *maps], axis=1)


def compared_look(
    scene: Row, classes: Path, labels: Path, tasks: Mapping[str, Task], side: int = 450
) -> NDArray[np.uint8]:
    """uint8 RGB of a scene, a row with `image`, with its map and its labels: a row of five pictures for each task (see `panel`), each picture
    of at most `side` px. The scores are of all pixels, not of those that are shown.

    Raises RasterError when the three are not of one size, or a band of a task is missing.
    """
    with ExitStack() as stack:
        source = stack.enter_context(SceneImage.of(scene).reader())
        found, truth = (stack.enter_context(RasterReader(path)) for path in (classes, labels))
        require_same_size(source, found, truth)
        shape = source.info.grid.shape
        step = max(1, math.ceil(max(shape) / side))
        picture = thinned(source.image, shape, step)
        guess_THW, truth_THW, agreements = _read_both(found, truth, list(tasks), step)
    rows = []
    for number, (name, task) in enumerate(tasks.items()):
        rows.append(
            panel(
                picture,
                truth_THW[number],
                guess_THW[number],
                task.classes,
                source.info.path.stem if len(tasks) == 1 else f"{source.info.path.stem} {name}",
                palette_of(len(task.classes), isinstance(task, Regression)),
                agreements[number],
            )
        )
    return np.concatenate(rows)


def require_same_size(*readers: RasterReader) -> None:
    """Raise RasterError when rasters that are drawn beside each other differ in height or width."""
    first = readers[0]
    for other in readers[1:]:
        if other.info.grid.shape != first.info.grid.shape:
            raise RasterError(
                f"{other.path}: {other.info.grid.shape} pixels, {first.path.name} has {first.info.grid.shape}. Only rasters "
                "of one size are drawn beside each other."
            )


def _read_both(
    found: RasterReader, truth: RasterReader, tasks: Sequence[str], step: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], list[Agreement]]:
    """Every `step`-th pixel of a map and of its labels, bands in the order of `tasks`, and the counts of all pixels."""
    guess_bands = task_positions(found.info, tasks)
    truth_bands = task_positions(truth.info, tasks)
    height, width = truth.info.grid.shape
    agreements = [Agreement()] * len(tasks)
    guesses, truths = [], []
    for row in range(0, height, step * STRIP_ROWS):
        strip = Window(row, 0, min(step * STRIP_ROWS, height - row), width)
        guess_THW, truth_THW = found.labels(strip)[guess_bands], truth.labels(strip)[truth_bands]
        for number, (guess_HW, truth_HW) in enumerate(zip(guess_THW, truth_THW, strict=True)):
            agreements[number] = agreements[number].plus(Agreement.of(truth_HW, guess_HW))
        guesses.append(guess_THW[:, ::step, ::step])
        truths.append(truth_THW[:, ::step, ::step])
    return np.concatenate(guesses, axis=1), np.concatenate(truths, axis=1), agreements


def thinned(read: Callable[[Window], NDArray[Any]], shape: tuple[int, int], step: int) -> NDArray[Any]:
    """Every `step`-th row and column of (bands, height, width), which is read strip by strip."""
    return np.concatenate(
        [
            read(Window(r, 0, min(step * STRIP_ROWS, shape[0] - r), shape[1]))[:, ::step, ::step]
            for r in range(0, shape[0], step * STRIP_ROWS)
        ],
        axis=1,
    )
