"""Search for the decision threshold on probability maps of scenes that the models have not seen: one streamed pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from swath.config import InputPath, OutputPath, absolute, configclass
from swath.config.ranges import Share
from swath.data.naming import area_of
from swath.errors import CatalogError, ConfigError, RasterError
from swath.figures.charts import Line, lines_figure
from swath.geo.mosaic import require_votes
from swath.geo.raster import RasterReader, require_clear_labels
from swath.geo.windows import strips
from swath.labels import IGNORE
from swath.prediction.rasters import tasks_of
from swath.scoring.lineage import prediction_folders
from swath.scoring.metrics import scores
from swath.scoring.pairs import Pairs, pair_predictions
from swath.steps.config import StepConfig, ledger_of

STRIP_PIXELS = 4_000_000
SHOWN = ("iou_fg", "f1_fg", "precision_fg", "recall_fg", "iou_macro_bg", "f1_macro_bg", "accuracy")


@configclass
class ThresholdSearchConfig(StepConfig):
    """Find the probability from which on a pixel is foreground."""

    input_path: InputPath
    """Folder of predictions of scenes that their model has not seen; of several folds' models joined by ';'."""
    labels_path: InputPath
    """Folder of label rasters."""
    output_path: OutputPath
    """Folder for thresholds.csv and thresholds.png."""
    task: str | None = None
    """Task of two classes to search for; None takes the first."""
    start: Share = 0.3
    """Lowest threshold."""
    stop: Share = 0.7
    """Highest threshold."""
    step: Share = 0.01
    """Distance of thresholds."""
    score: Literal["iou_fg", "f1_fg", "iou_macro_bg", "f1_macro_bg", "accuracy"] = "iou_fg"
    """Score to maximise; of equal ones the threshold nearest one half wins."""
    name_parts: tuple[str, ...] = ()
    """Parts of file names between underscores that do not matter when the two are paired, such as vh and 3b."""
    allow_selection_set: bool = True
    """Search on scenes that selected the models' weights, too; the run is then marked. Scenes that trained are refused."""

    def made_by(self) -> str | None:
        """The id of the run that left what this config gives now, whole and unchanged; None where there is none."""
        folders = prediction_folders(self.input_path, "probabilities", "input_path")
        labels = absolute(self.labels_path)
        paired = {folder: pair_predictions(folder, labels, self.name_parts) for folder in folders}
        ledger = ledger_of("threshold_search", self, absolute(self.output_path))
        return ledger.made_by(count_jobs(self, paired))


def threshold_values(config: ThresholdSearchConfig) -> NDArray[np.float32]:
    """start, start + step, ... up to stop, float32 as the rasters are. Raises ConfigError for an empty or wrong range."""
    start, stop, step = config.start, config.stop, config.step
    if not (0 <= start <= stop <= 1 and step > 0):
        raise ConfigError(f"start={start}, stop={stop}, step={step}: need 0 <= start <= stop <= 1 and step > 0")
    count = int((stop - start) / step + 1e-6) + 1
    return np.round(start + step * np.arange(count), 9).astype(np.float32)


def threshold_counts(
    probability_HW: NDArray[np.float32], truth_HW: NDArray[np.uint8], thresholds: NDArray[np.float32]
) -> NDArray[np.int64]:
    """int64 (2, T + 1): labelled pixels of background and foreground by the number of thresholds that they reach (>=).

    Pixels without a prediction reach none: a map that leaves out labelled ground is not forgiven.
    """
    valid = truth_HW != IGNORE
    reached = np.searchsorted(thresholds, np.nan_to_num(probability_HW[valid], nan=-1.0), side="right")
    foreground, bins = truth_HW[valid] > 0, len(thresholds) + 1
    return np.bincount(reached + bins * foreground, minlength=2 * bins).reshape(2, bins)


def threshold_matrices(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """int64 (T, 2, 2): the confusion matrix (rows = truth) of each threshold, from `threshold_counts`."""
    positive = counts[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:]
    total = counts.sum(axis=1, keepdims=True)
    return np.stack([total - positive, positive], axis=-1).transpose(1, 0, 2)


# -------------------------------------------------------------------------------------------------------------- scenes


@dataclass(frozen=True, kw_only=True)
class CountJob:
    """A predicted scene and its labels."""

    key: str
    area: str
    probabilities: Path
    labels: Path
    task: str | None
    thresholds: tuple[float, ...]

    @property
    def inputs(self) -> tuple[Path, Path]:
        return self.probabilities, self.labels

    @property
    def outputs(self) -> tuple[Path, ...]:
        return ()

    def run(self) -> list[list[int]]:
        """Count the scene."""
        return count_scene(self)


def count_jobs(config: ThresholdSearchConfig, found: Mapping[Path, Pairs]) -> list[CountJob]:
    """A job per labelled scene of each folder of predictions."""
    thresholds = tuple(threshold_values(config).tolist())
    return [
        CountJob(
            key=f"{i}/{key}", area=area_of(path, folder), probabilities=path, labels=truth, task=config.task,
            thresholds=thresholds,
        )
        for i, (folder, pairs) in enumerate(found.items())
        for key, (path, truth) in pairs.found.items()
    ]  # fmt: skip


def count_scene(job: CountJob) -> list[list[int]]:
    """`threshold_counts` of a whole scene, strip by strip, as lists.

    Raises RasterError for classes instead of probabilities or for two grids, ConfigError for a task of several classes.
    """
    thresholds = np.asarray(job.thresholds, np.float32)
    counts = np.zeros((2, len(thresholds) + 1), np.int64)
    with RasterReader(job.probabilities) as found, RasterReader(job.labels) as truth:
        difference = truth.info.grid.difference(found.info.grid)
        if difference:
            raise RasterError(
                f"{job.labels} and {job.probabilities}: not on one grid: {difference}. Rasterise the labels."
            )
        if found.info.dtype == "uint8":
            raise RasterError(
                f"{job.probabilities}: holds classes; thresholds need probabilities. Set input_path to them."
            )
        require_clear_labels(job.labels)
        band, label_band = _bands(found, truth, job.task)
        for strip in strips(found.info.grid.shape, STRIP_PIXELS):
            probability = found.image(strip, bands=[band + 1])[0]
            require_votes(probability, found.info)
            counts += threshold_counts(probability, truth.labels(strip)[label_band], thresholds)
    return [[int(n) for n in row] for row in counts]


def _bands(found: RasterReader, truth: RasterReader, task: str | None) -> tuple[int, int]:
    """Positions of the task's band in both rasters; labels of one band serve a task of any name."""
    tasks = tasks_of(found.info.bands)
    name = task or next(iter(tasks))
    if name not in tasks or not tasks[name].is_binary:
        binary = ", ".join(n for n, t in tasks.items() if t.is_binary) or "none"
        raise ConfigError(f"task={name}: {found.path} has no task of two classes of that name; it has: {binary}")
    return found.info.bands.index(name), truth.info.position_of_task(name, "Set `task` to one of both.")


# -------------------------------------------------------------------------------------------------------------- search


@dataclass(frozen=True)
class Search:
    """What a search found: the scores of every threshold, in all areas and by area, and the best one."""

    table: pd.DataFrame
    """A row per threshold: threshold, and scores of all scenes together."""
    by_area: Mapping[str, NDArray[np.float64]]
    """The maximised score at each threshold, by area."""
    score: str
    best: int
    """Position of the best threshold."""
    left_out: float | None
    """Score when each area is decided by the threshold that is best on the others; None with a single area."""

    @property
    def threshold(self) -> float:
        return float(self.table["threshold"][self.best])

    def metrics(self) -> dict[str, float]:
        """The best threshold, its scores, the searched score at one half, and that of thresholds chosen elsewhere."""
        found = {f"threshold/{name}": float(self.table[name][self.best]) for name in SHOWN if name in self.table}
        half = self.table.index[np.isclose(self.table["threshold"], 0.5)]
        found |= {f"threshold/{self.score}_at_half": float(self.table[self.score][i]) for i in half}
        found |= {} if self.left_out is None else {f"threshold/{self.score}_left_out": self.left_out}
        return {"threshold/best": self.threshold} | {k: v for k, v in found.items() if np.isfinite(v)}

    def report(self) -> str:
        """The result as a text for people."""
        found, score = self.metrics(), self.score
        lines = {
            f"best threshold, {self.threshold:.3f}": found.get(f"threshold/{score}"),
            "one half": found.get(f"threshold/{score}_at_half"),
            "each area by the best threshold of the others": self.left_out,
        }
        text = "".join(f"{what:46s} {score} {value:.4f}\n" for what, value in lines.items() if value is not None)
        low, high = self.table["threshold"].iloc[[0, -1]]
        at_end = self.best in (0, len(self.table) - 1) and low < high
        return text + (
            f"The best one is at the end of {low:g} to {high:g}: set start or stop further out.\n" if at_end else ""
        )


def search(counts: Mapping[str, Sequence[NDArray[np.int64]]], thresholds: NDArray[np.float32], score: str) -> Search:
    """The best of `thresholds` by `score`, from the `threshold_counts` of each area's scenes.

    Raises CatalogError when the labels hold no foreground, so that nothing can be chosen.
    """
    areas = {area: threshold_matrices(np.sum(scenes, axis=0)) for area, scenes in counts.items()}
    total = np.sum(list(areas.values()), axis=0)
    if not total[0, 1].sum():
        raise CatalogError("labels_path: none of these scenes has foreground. Search on scenes that have some.")
    table = pd.DataFrame([_scores(matrix) for matrix in total]).reindex(columns=list(SHOWN))
    table.insert(0, "threshold", np.round(thresholds.astype(np.float64), 6))
    best = _best(total, thresholds, score)
    others = (
        {area: _best(total - matrices, thresholds, score) for area, matrices in areas.items()} if len(areas) > 1 else {}
    )
    left_out = _scores(sum(areas[area][i] for area, i in others.items())).get(score) if others else None
    curves = {area: np.array([_scores(m).get(score, np.nan) for m in matrices]) for area, matrices in areas.items()}
    return Search(table, curves, score, best, left_out)


def _scores(matrix: NDArray[np.int64]) -> dict[str, float]:
    return scores(matrix, ("background", "foreground"))


def _best(matrices: NDArray[np.int64], thresholds: NDArray[np.float32], score: str) -> int:
    values = np.array([_scores(matrix).get(score, -np.inf) for matrix in matrices])
    ties = np.flatnonzero(values == values.max())
    return int(ties[np.abs(thresholds[ties] - 0.5).argmin()])


def threshold_figure(found: Search) -> NDArray[np.uint8]:
    """uint8 RGB: scores by threshold, the best one marked, and the searched score of each area in grey."""
    lines = [Line(list(values), width=0.8, color="0.75") for values in found.by_area.values()]
    if lines:
        lines[0] = lines[0]._replace(label=f"{found.score}, one area")
    for name in dict.fromkeys(("iou_fg", "f1_fg", "precision_fg", "recall_fg", found.score)):
        lines.append(Line(list(found.table[name]), name, width=2.2 if name == found.score else 1.2))
    best = (found.threshold, f"best, {found.threshold:.3f}")
    return lines_figure(list(found.table["threshold"]), lines, best, ("threshold (>=)", "score"), "all scenes")
