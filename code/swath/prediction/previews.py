"""Small pictures of whole scenes with what was predicted."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from swath.figures.pictures import colors, palette_of, stretch
from swath.geo.grid import Window
from swath.geo.raster import RasterReader
from swath.labels import IGNORE
from swath.nn.model import Regression, Task

# ------------------------------------------------------------------------------------------------------------ pictures


def quick_look(
    image: Path, classes: Path | None, side: int = 900, tasks: Mapping[str, Task] | None = None
) -> NDArray[np.uint8]:
    """uint8 RGB of a whole scene, at most `side` px, with the predicted foreground's outline in red.

    With `tasks` of which one has more than two classes, or several, the map of each in colours beside it.
    """
    with RasterReader(image) as reader:
        step = max(1, math.ceil(max(reader.info.grid.shape) / side))
        picture = stretch(_thinned(reader.image, reader.info.grid.shape, step))
    if classes is None:
        return picture
    with RasterReader(classes) as reader:
        bands = _thinned(reader.labels, reader.info.grid.shape, step)
    maps = [
        colors(band, palette_of(len(task.classes), isinstance(task, Regression)))
        for band, task in zip(bands, (tasks or {}).values(), strict=False)
        if len(bands) > 1 or not task.is_binary
    ]
    mask = bands[0]
    foreground = (mask > 0) & (mask != IGNORE)
    edge = foreground & ~_eroded(foreground)
    picture[edge] = (235, 30, 40)
    return np.concatenate([picture, *maps], axis=1)


def _thinned(read: Callable[[Window], NDArray[Any]], shape: tuple[int, int], step: int) -> NDArray[Any]:
    return np.concatenate(
        [
            read(Window(r, 0, min(step * 64, shape[0] - r), shape[1]))[:, ::step, ::step]
            for r in range(0, shape[0], step * 64)
        ],
        axis=1,
    )


def _eroded(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    inner = mask.copy()
    inner[1:] &= mask[:-1]
    inner[:-1] &= mask[1:]
    inner[:, 1:] &= mask[:, :-1]
    inner[:, :-1] &= mask[:, 1:]
    return inner
