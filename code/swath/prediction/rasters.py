"""The two rasters of a predicted scene, classes and probabilities: where they lie and how their bands are laid out."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from swath.errors import ConfigError, RasterError
from swath.figures.pictures import PALETTE
from swath.files import path_below
from swath.geo.grid import Grid
from swath.geo.layout import RasterSpec
from swath.labels import IGNORE
from swath.nn.model import Classification, Regression, Task

STEP = re.compile(r"step 0-(\d+)")


@dataclass(frozen=True, kw_only=True)
class SceneOutput:
    """Where the two rasters of a predicted scene go."""

    classes: Path
    probabilities: Path

    @property
    def paths(self) -> tuple[Path, Path]:
        return self.classes, self.probabilities


def scene_output(folder: Path, area: str, key: str) -> SceneOutput:
    """Below `folder`: classes/<area>/<key>.tif and probabilities/<area>/<key>.tif.

    Raises CatalogError for an area or a key that leads out of the folder.
    """
    return SceneOutput(
        classes=path_below(folder / "classes", area, key, suffix=".tif"),
        probabilities=path_below(folder / "probabilities", area, key, suffix=".tif"),
    )


def class_spec(grid: Grid, tasks: Mapping[str, Task]) -> RasterSpec:
    """Layout of a class raster: cloud-optimised, uint8, a band per task, 255 = nodata; of one task with its colours."""
    color = {
        i: (*(int(v) for v in PALETTE[i % len(PALETTE)]), 255)
        for i in range(max(len(t.classes) for t in tasks.values()))
    }
    palette = color if len(tasks) == 1 else None
    return RasterSpec(grid=grid, bands=list(tasks), dtype="uint8", nodata=IGNORE, overviews="mode", colors=palette)  # type: ignore[arg-type]


def probability_spec(grid: Grid, tasks: Mapping[str, Task]) -> RasterSpec:
    """Layout of a probability raster: cloud-optimised, float32, NaN = nodata.

    A task of two classes has one band, named by it, with the second class's probability; others have a band
    ``<task>:<class>`` per class. A regression has one band ``<task>:step 0-<last>`` with its number.
    """
    return RasterSpec(grid=grid, bands=band_names(tasks), dtype="float32", nodata=math.nan, overviews="average")


def band_names(tasks: Mapping[str, Task]) -> list[str]:
    """Names of a probability raster's bands."""
    return [name for task, t in tasks.items() for name in _bands_of(task, t)]


def _bands_of(name: str, task: Task) -> list[str]:
    if isinstance(task, Regression):
        return [f"{name}:step 0-{len(task.classes) - 1}"]
    return [name] if task.is_binary else [f"{name}:{c}" for c in task.classes]


def tasks_of(bands: Sequence[str]) -> dict[str, Task]:
    """The tasks of a probability raster: the inverse of `band_names`. Raises RasterError for names that it never gives."""
    classes: dict[str, list[str]] = {}
    for band in bands:
        task, _, name = band.partition(":")
        classes.setdefault(task, []).extend([name] if name else [])
    tasks = {task: _task_of(task, names) for task, names in classes.items()}
    if band_names(tasks) != list(bands):
        raise RasterError(
            f"bands {', '.join(bands)}: not the probabilities of a model. Name the one band of a task of two classes "
            "<task>, and the bands of any other task, one after the other, <task>:<class>."
        )
    return tasks


def is_step(band: str) -> bool:
    """Whether a band of this name holds the number of a regression, in steps, and not a probability."""
    return STEP.fullmatch(band.partition(":")[2]) is not None


def _task_of(task: str, names: Sequence[str]) -> Task:
    steps = STEP.fullmatch(names[0]) if len(names) == 1 else None
    if steps:
        return Regression(classes=tuple(str(i) for i in range(int(steps[1]) + 1)))
    return Classification(classes=tuple(names) or ("background", task))


def probability_bands(probability: NDArray[np.float32], tasks: Mapping[str, Task]) -> NDArray[np.float32]:
    """The bands of a probability raster (see `probability_spec`), from (K of all tasks, height, width)."""
    found = _split(probability, tasks, [task.channels for task in tasks.values()])
    return np.concatenate([p[1:] if task.is_binary else p for task, p in found])


def class_bands(
    bands: NDArray[np.float32], tasks: Mapping[str, Task], threshold: float | None = None
) -> NDArray[np.uint8]:
    """uint8 (tasks, height, width) from the bands of a probability raster; 255 where NaN.

    Of two classes the second one where its probability >= `threshold` (None: one half, the more probable one), of
    several the most probable one, of steps the nearest one.
    """
    limit = np.float32(0.5 if threshold is None else threshold)
    decided = [
        np.where(np.isnan(p[0]), IGNORE, _decided(p, task, limit))
        for task, p in _split(bands, tasks, [1 if task.is_binary else task.channels for task in tasks.values()])
    ]
    return np.stack(decided).astype(np.uint8)


def _decided(bands: NDArray[np.float32], task: Task, limit: np.float32) -> NDArray[Any]:
    if isinstance(task, Regression):
        return np.clip(np.rint(np.nan_to_num(bands[0])), 0, len(task.classes) - 1)
    return bands[0] >= limit if task.is_binary else np.nan_to_num(bands).argmax(axis=0)


def _split(
    bands: NDArray[np.float32], tasks: Mapping[str, Task], sizes: Sequence[int]
) -> Iterator[tuple[Task, NDArray[np.float32]]]:
    yield from zip(tasks.values(), np.split(bands, np.cumsum(sizes)[:-1]), strict=True)


def require_threshold(threshold: float | None, tasks: Mapping[str, Task]) -> None:
    """Raise ConfigError for a threshold outside [0, 1], or one that no task of two classes could use."""
    if threshold is None:
        return
    if not 0 <= threshold <= 1:
        raise ConfigError(f"threshold={threshold}: must lie between 0 and 1")
    if not any(task.is_binary for task in tasks.values()):
        raise ConfigError(
            f"threshold={threshold}: only tasks of two classes have one; {', '.join(tasks)} take the most probable class. "
            "Leave it out."
        )
