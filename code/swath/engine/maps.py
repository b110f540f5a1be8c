"""The two rasters of a predicted scene, classes and probabilities: where they lie and how their bands are laid out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from swath.engine.panels import PALETTE
from swath.geo.grid import Grid
from swath.geo.raster import IGNORE, RasterSpec
from swath.nn.heads import Classification


@dataclass(frozen=True, kw_only=True)
class SceneOutput:
    """Where the two rasters of a predicted scene go."""

    classes: Path
    probabilities: Path

    @property
    def paths(self) -> tuple[Path, Path]:
        return self.classes, self.probabilities


def scene_output(folder: Path, area: str, key: str) -> SceneOutput:
    """Below `folder`: classes/<area>/<key>.tif and probabilities/<area>/<key>.tif."""
    return SceneOutput(
        classes=folder / "classes" / area / f"{key}.tif",
        probabilities=folder / "probabilities" / area / f"{key}.tif",
    )


def class_spec(grid: Grid, tasks: Mapping[str, Classification]) -> RasterSpec:
    """Layout of a class raster: uint8, a band per task, 255 = nodata; of one task with its colours."""
    color = {
        i: (*(int(v) for v in PALETTE[i % len(PALETTE)]), 255) for i in range(max(t.channels for t in tasks.values()))
    }
    palette = color if len(tasks) == 1 else None
    return RasterSpec(grid=grid, bands=list(tasks), dtype="uint8", nodata=IGNORE, compress=True, colors=palette)  # type: ignore[arg-type]


def probability_spec(grid: Grid, tasks: Mapping[str, Classification]) -> RasterSpec:
    """Layout of a probability raster: float32, NaN = nodata.

    A task of two classes has one band, named by it, with the second class's probability; others have a band
    ``<task>:<class>`` per class.
    """
    names = [n for task, t in tasks.items() for n in ([task] if t.is_binary else [f"{task}:{c}" for c in t.classes])]
    return RasterSpec(grid=grid, bands=names, dtype="float32", nodata=math.nan, compress=True)


def by_task(
    probability: NDArray[np.float32], tasks: Mapping[str, Classification]
) -> Iterator[tuple[Classification, NDArray[np.float32]]]:
    """Each task with its classes' probabilities, from (K of all tasks, height, width)."""
    start = 0
    for task in tasks.values():
        yield task, probability[start : start + task.channels]
        start += task.channels


def class_bands(probability: NDArray[np.float32], tasks: Mapping[str, Classification]) -> NDArray[np.uint8]:
    """uint8 (tasks, height, width): most probable class, 255 where NaN; from (K of all tasks, height, width)."""
    bands = [np.where(np.isnan(p[0]), IGNORE, np.nan_to_num(p).argmax(axis=0)) for _, p in by_task(probability, tasks)]
    return np.stack(bands).astype(np.uint8)


def probability_bands(probability: NDArray[np.float32], tasks: Mapping[str, Classification]) -> NDArray[np.float32]:
    """The bands of a probability raster (see `probability_spec`), from (K of all tasks, height, width)."""
    return np.concatenate([p[1:] if task.is_binary else p for task, p in by_task(probability, tasks)])
