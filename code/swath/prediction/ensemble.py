"""Several models' maps of the same scenes to one: weighted mean of probabilities, or a vote; strip by strip."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from swath.config import InputPath, OutputPath, configclass
from swath.data.pairing import by_key
from swath.errors import CatalogError, ConfigError, RasterError
from swath.geo.mosaic import STRIP_PIXELS, decide
from swath.geo.raster import RasterReader
from swath.geo.raster_writer import RasterWriter
from swath.geo.windows import strips
from swath.nn.model import Task
from swath.prediction.rasters import (
    SceneOutput,
    class_bands,
    class_spec,
    is_step,
    probability_spec,
    require_threshold,
    tasks_of,
)
from swath.steps.config import StepConfig

MemberRule = Literal["mean", "max", "any", "majority", "n-1"]
"""How members become one: two ways to join probabilities, and three to count votes."""


@configclass
class EnsembleConfig(StepConfig):
    """Predictions of several models for the same scenes to one. Without weights or scores all models count alike."""

    input_paths: InputPath
    """Folders of the members' predictions, joined by ';', or a pattern such as output/folds/test/base/*: outputs of
    inference, or folders of probability or class rasters."""
    output_path: OutputPath
    """Folder for classes/<area>/<key>.tif and probabilities/<area>/<key>.tif."""
    weights: tuple[float, ...] | None = None
    """A weight per member in the order of input_paths (of a pattern: of names), for the mean; 0 leaves a member out. Votes
    and the largest probability count alike."""
    scores: tuple[float, ...] | None = None
    """A score per member on scenes that it has not seen; weights are made from them."""
    score_metric: str | None = None
    """Metric of the members' training runs that is such a score, e.g. best/validation/iou_fg."""
    score_range: tuple[float, float] | None = (0.2, 1.0)
    """Weights of the worst and the best score, those between in proportion; None takes the scores as weights."""
    rule: MemberRule = "mean"
    """How classes are decided: by the mean probability, by the largest one of the second of two classes (max), or by the
    members' votes: any, majority or n-1 of the n members."""
    threshold: float | str | None = None
    """Probability from which on (>=) the mean, or a member's vote, is the second of two classes; None is one half. Or where
    `threshold_search` left the best one: its output_path, or runs:/<id>; scenes that it was searched on are then refused
    as the test of these maps."""
    tuned_on: tuple[str, ...] = ()
    """Keys of the scenes that the threshold was searched on; known by itself when `threshold` names a search."""


# ------------------------------------------------------------------------------------------------------------- weights


def member_weights(config: EnsembleConfig, count: int, score_of: Callable[[str], Sequence[float]]) -> tuple[float, ...]:
    """A weight >= 0 for each of `count` members: given, from scores, or 1.

    ``score_of(metric)`` looks up the members' scores in their training runs. Raises ConfigError for contradictory,
    too many, too few, negative or only zero weights.
    """
    chosen = [name for name in ("weights", "scores", "score_metric") if getattr(config, name) is not None]
    if len(chosen) > 1:
        raise ConfigError(f"{' and '.join(chosen)} both say how members count. Leave all but one out.")
    given = config.weights if config.weights is not None else config.scores
    values = tuple(score_of(config.score_metric)) if config.score_metric else given
    if values is None:
        return (1.0,) * count
    if len(values) != count:
        raise ConfigError(f"{chosen[0]}: {len(values)} values for {count} members in input_paths. Give one for each.")
    weights = values if config.weights is not None else score_weights(values, config.score_range)
    if not all(np.isfinite(weights)) or min(weights) < 0 or max(weights) <= 0:
        raise ConfigError(f"{chosen[0]}: gives the weights {weights}; none may be below 0, and one must be above")
    return tuple(weights)


def score_weights(scores: Sequence[float], between: tuple[float, float] | None) -> tuple[float, ...]:
    """Scores stretched linearly so that the worst weighs ``between[0]`` and the best ``between[1]``; equal ones weigh 1."""
    if between is None:
        return tuple(scores)
    low, high = min(scores), max(scores)
    if high == low:
        return (1.0,) * len(scores)
    return tuple(between[0] + (between[1] - between[0]) * ((s - low) / (high - low)) for s in scores)


# ------------------------------------------------------------------------------------------------------------- members


@dataclass(frozen=True, kw_only=True)
class EnsembleJob:
    """One scene: its members' rasters with their weights, and how they decide."""

    key: str
    members: Sequence[Path]
    weights: Sequence[float]
    output: SceneOutput
    rule: MemberRule
    threshold: float | None

    @property
    def inputs(self) -> Sequence[Path]:
        return self.members

    @property
    def outputs(self) -> tuple[Path, Path]:
        return self.output.paths

    def run(self) -> None:
        """Combine the members."""
        combine_scene(self)


def ensemble_jobs(
    config: EnsembleConfig, folders: Sequence[Path], weights: Sequence[float], output: Path
) -> list[EnsembleJob]:
    """A job per scene, named and placed as in the first folder; members of weight 0 are left out.

    Raises CatalogError that lists, for each folder, the scenes that it lacks and those that only it has.
    """
    assert not isinstance(config.threshold, str), "the script reads the decision that it names"
    members = {folder: by_key(folder) for folder in folders}
    require_same_scenes(members)
    counted = [folder for folder, weight in zip(folders, weights, strict=True) if weight > 0]
    places = {key: path.relative_to(folders[0]) for key, path in members[folders[0]].items()}
    return [
        EnsembleJob(
            key=key, members=[members[folder][key] for folder in counted], weights=[w for w in weights if w > 0],
            output=SceneOutput(classes=output / "classes" / place, probabilities=output / "probabilities" / place),
            rule=config.rule, threshold=config.threshold,
        )
        for key, place in places.items()
    ]  # fmt: skip


def require_same_scenes(members: Mapping[Path, Mapping[str, Path]]) -> None:
    """Raise CatalogError unless all folders hold rasters of the same scenes, and of one at least."""
    (first, expected), *others = members.items()
    if not expected:
        raise CatalogError(f"{first}: no predictions found. Set input_paths to folders of <area>/<scene>.tif.")
    faults = []
    for folder, found in others:
        missing, extra = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
        faults += [f"{folder} lacks {', '.join(missing)}"] if missing else []
        faults += [f"{folder} has {', '.join(extra)} besides"] if extra else []
    if faults:
        raise CatalogError(
            f"members of an ensemble must cover the same scenes; against {first}: {'; '.join(faults)}. "
            "Predict the same scenes with every model, or move what is too much elsewhere."
        )


# ------------------------------------------------------------------------------------------------------------ combining


def combine_scene(job: EnsembleJob) -> None:
    """Write the classes and the weighted mean probabilities of one scene.

    Members are probability rasters, or class rasters of two classes that count as probabilities 0 and 1. Raises
    RasterError when grids or bands differ, or class rasters hold further classes.
    """
    with ExitStack() as stack:
        readers = [stack.enter_context(RasterReader(path)) for path in job.members]
        tasks = _common_tasks(readers, job)
        grid = readers[0].info.grid
        soft_bands = [i for i, name in enumerate(readers[0].info.bands) if not is_step(name)]
        classes = stack.enter_context(RasterWriter(job.output.classes, class_spec(grid, tasks)))
        soft = stack.enter_context(RasterWriter(job.output.probabilities, probability_spec(grid, tasks)))
        for strip in strips(grid.shape, STRIP_PIXELS // len(readers)):
            members = np.stack([reader.image(strip) for reader in readers])
            _require_probabilities(members[:, soft_bands], readers)
            joined = largest(members) if job.rule == "max" else weighted_mean(members, job.weights)
            soft.write(joined, strip)
            classes.write(_decided(members, joined, tasks, job), strip)


def weighted_mean(members: NDArray[np.float32], weights: Sequence[float]) -> NDArray[np.float32]:
    """sum(w p) / sum(w) over the members (first axis) that see a pixel; NaN where none does.

    Sums are float64, so that equal members give back exactly their float32 values.
    """
    total, weight = np.zeros(members.shape[1:]), np.zeros(members.shape[1:])
    for member, w in zip(members, weights, strict=True):
        seen = ~np.isnan(member)
        total += np.where(seen, w * member.astype(np.float64), 0)
        weight += w * seen
    return np.where(weight > 0, total / np.where(weight > 0, weight, 1), np.nan).astype(np.float32)


def largest(members: NDArray[np.float32]) -> NDArray[np.float32]:
    """The largest value of the members (first axis) that see a pixel; NaN where none does."""
    return np.fmax.reduce(members, axis=0)


def _decided(
    members: NDArray[np.float32], joined: NDArray[np.float32], tasks: Mapping[str, Task], job: EnsembleJob
) -> NDArray[np.uint8]:
    if job.rule == "mean" or job.rule == "max":
        return class_bands(joined, tasks, job.threshold)
    threshold = 0.5 if job.threshold is None else job.threshold
    return np.stack([decide(members[:, band], job.rule, threshold) for band in range(len(tasks))])


def _common_tasks(readers: Sequence[RasterReader], job: EnsembleJob) -> dict[str, Task]:
    first = readers[0].info
    for reader in readers[1:]:
        difference = first.grid.difference(reader.info.grid)
        if difference is None and reader.info.bands != first.bands:
            difference = f"bands {', '.join(first.bands)} against {', '.join(reader.info.bands)}"
        if difference:
            raise RasterError(
                f"{first.path} and {reader.path}: cannot be averaged: {difference}. Predict the same scenes with models of "
                "the same tasks."
            )
    tasks = tasks_of(first.bands)
    require_threshold(job.threshold, tasks)
    several = [name for name, task in tasks.items() if not task.is_binary]
    if several and job.rule != "mean":
        raise ConfigError(f"rule={job.rule}: is for two classes, {', '.join(several)} has more. Set rule=mean.")
    return tasks


def _require_probabilities(members: NDArray[np.float32], readers: Sequence[RasterReader]) -> None:
    for member, reader in zip(members, readers, strict=True):
        low, high = (float(f(member, initial=0.0, where=~np.isnan(member))) for f in (np.min, np.max))
        if low < 0 or high > 1:
            raise RasterError(
                f"{reader.path}: values from {low:g} to {high:g}: neither probabilities nor two classes. "
                "Set input_paths to the probabilities of models with several classes."
            )
