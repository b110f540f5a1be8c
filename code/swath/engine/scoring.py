"""Tables of scores: all scenes together, by area and by scene, beside the best single-band threshold."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from swath.config import configclass
from swath.data.catalog import by_key
from swath.data.splits import shared_ground
from swath.errors import CatalogError, LeakError, RasterError
from swath.geo.grid import Window
from swath.geo.raster import IGNORE, RasterReader, describe
from swath.geo.windows import strips
from swath.nn.heads import Classification
from swath.nn.metrics import (
    THRESHOLD_BINS,
    best_threshold,
    confusion_matrix,
    named,
    scores,
    threshold_histogram,
)


@configclass
class ValidateConfig:
    """Score a folder of predictions against ground truth."""

    preds_path: str
    """Folder of predicted class rasters, of scenes or tiles."""
    gt_path: str
    """Folder of label rasters; _vh_, _vv_ and _3b_ in names do not matter when the two are paired."""
    tasks: dict[str, Classification]
    """Tasks (bands of the rasters) and their classes."""
    run_id: str | None = None
    """Training run of the predictions: scenes that trained it, or selected its weights, are refused."""
    allow_selection_set: bool = False
    """Score scenes that the training selected its weights on; the run is then marked as such."""


@dataclass(frozen=True)
class Pairs:
    """Predictions with their labels, and keys that have only one of the two."""

    found: Mapping[str, tuple[Path, Path]]
    missing: Sequence[str]
    extra: Sequence[str]

    @property
    def notes(self) -> list[str]:
        """Sentences about what has no partner."""
        kinds = (("labels without a prediction", self.missing), ("predictions without labels", self.extra))
        return [f"{len(keys)} {what}: {', '.join(keys[:5])}" for what, keys in kinds if keys]


def pair_predictions(predictions: Path, truth: Path) -> Pairs:
    """Pair rasters by key. Raises CatalogError when no prediction has labels."""
    predicted, labels = by_key(predictions), by_key(truth)
    both = sorted(set(predicted) & set(labels))
    if not both:
        raise CatalogError(
            f"{predictions} and {truth} have no scene in common ({len(predicted)} and {len(labels)} rasters). Check both paths."
        )
    return Pairs(
        {key: (predicted[key], labels[key]) for key in both},
        sorted(set(labels) - set(both)),
        sorted(set(predicted) - set(both)),
    )


@dataclass
class SceneScore:
    """Confusion matrices of one scene, and histograms for the best single-band threshold of the first task."""

    matrices: dict[str, NDArray[np.int64]]
    histograms: dict[str, NDArray[np.int64]]


EDGES = np.linspace(-50.0, 20.0, THRESHOLD_BINS + 1)
"""Edges of the threshold histograms: dB, for bands of linear backscatter."""


def score_scene(classes: Path, labels: Path, image: Path | None, tasks: Mapping[str, Classification]) -> SceneScore:
    """Compare a predicted scene with its labels, strip by strip. Raises RasterError when the two are not on one grid.

    Pixels predicted as nodata count as class 0: a map that leaves out labelled ground is not forgiven.
    """
    difference = describe(labels).grid.difference(describe(classes).grid)
    if difference:
        raise RasterError(f"{labels} and {classes}: not on one grid: {difference}. Rasterise the labels on this scene.")
    matrices = {name: np.zeros((t.channels, t.channels), np.int64) for name, t in tasks.items()}
    histograms: dict[str, NDArray[np.int64]] = {}
    with ExitStack() as stack:
        predicted, truth = (stack.enter_context(RasterReader(path)) for path in (classes, labels))
        source = stack.enter_context(RasterReader(image)) if image else None
        for strip in strips(predicted.info.grid.shape, 4_000_000):
            p, t = predicted.labels(strip), truth.labels(strip)
            for name, task in tasks.items():
                band, guess = _band_of(truth, name), p[_band_of(predicted, name)]
                pair = torch.from_numpy(np.where(guess == IGNORE, 0, guess)), torch.from_numpy(t[band])
                matrices[name] += confusion_matrix(*pair, task.channels).numpy()
            if source is not None:
                _add_histograms(histograms, source, strip, t[0])
    return SceneScore(matrices, histograms)


def _band_of(reader: RasterReader, task: str) -> int:
    """Position of a task's band; a raster of one band serves a task of any name."""
    if task in reader.info.bands:
        return reader.info.bands.index(task)
    if len(reader.info.bands) == 1:
        return 0
    raise RasterError(f"{reader.path}: no band {task}; it has {', '.join(reader.info.bands)}. Name it in the tasks.")


def _add_histograms(
    histograms: dict[str, NDArray[np.int64]], source: RasterReader, strip: Window, truth_HW: NDArray[np.uint8]
) -> None:
    for name, band in zip(source.info.bands, source.image(strip), strict=True):
        db = 10 * np.log10(np.where(band > 0, band, np.nan))
        found = threshold_histogram(db, truth_HW, EDGES)
        histograms[name] = histograms[name] + found if name in histograms else found


def best_band_threshold(histograms: Mapping[str, NDArray[np.int64]]) -> tuple[float, str]:
    """(IoU, rule as text) of the best threshold on one band: the most that thresholding can reach on these scenes."""
    best = max(((*best_threshold(h, EDGES), band) for band, h in histograms.items()), key=lambda found: found[0])
    iou, threshold, below, band = best
    return iou, f"{band} {'<' if below else '>='} {threshold:.1f} dB"


def require_fair(scenes: gpd.GeoDataFrame, used: gpd.GeoDataFrame, allow_selection_set: bool) -> bool:
    """Check that scored scenes share no ground with the training; return whether they are the ones it selected on.

    Raises LeakError when a scene trained the model, or selected its weights without `allow_selection_set`.
    """
    sides = {side: _shared(scenes, used[used["side"] == side]) for side in ("training", "validation")}
    if sides["training"]:
        raise LeakError(
            f"{', '.join(sides['training'][:5])}: trained this model, so a score on it says nothing. Score other scenes, or leave labels_path out."
        )
    if sides["validation"] and not allow_selection_set:
        raise LeakError(
            f"{', '.join(sides['validation'][:5])}: selected the weights of this model, so a score on it is flattered. "
            "Score other scenes, or set allow_selection_set=True: the run is then marked."
        )
    return bool(sides["validation"])


def _shared(scenes: gpd.GeoDataFrame, tiles: gpd.GeoDataFrame) -> list[str]:
    names = set(scenes["key"]) & set(tiles["scene"])
    keys = scenes["key"].to_numpy()
    return sorted(names | {keys[i] for i, _ in shared_ground(scenes, tiles)})


def _is_area(chosen: str, key: str, area: str) -> bool:
    return area == chosen


@dataclass
class ScoreTable:
    """Scene scores, and what is derived from their sums; a sum of matrices does not depend on how pixels were cut."""

    tasks: Mapping[str, Classification]
    rows: list[tuple[str, str, SceneScore]] = field(default_factory=list)

    def add(self, key: str, area: str, score: SceneScore) -> None:
        self.rows.append((key, area, score))

    def totals(self, keep: Callable[[str, str], bool] = lambda key, area: True) -> dict[str, NDArray[np.int64]]:
        """Sum of the confusion matrices of the scenes for which ``keep(key, area)`` holds, by task."""
        chosen = [score for key, area, score in self.rows if keep(key, area)]
        return {task: np.sum([score.matrices[task] for score in chosen], axis=0) for task in self.tasks}

    def metrics(self, prefix: str) -> dict[str, float]:
        """Scores of all scenes under ``<prefix>/...``, and the threshold's under ``baseline/threshold_iou_fg``."""
        table: dict[str, float] = {}
        for task, matrix in self.totals().items():
            table |= named(scores(matrix, self.tasks[task].classes), prefix, task, len(self.tasks))
        threshold = self.threshold()
        return table | ({"baseline/threshold_iou_fg": threshold[0]} if threshold else {})

    def threshold(self) -> tuple[float, str] | None:
        """(IoU, rule) of the best single-band threshold on all scenes, chosen on these very pixels."""
        names = {name for _, _, score in self.rows for name in score.histograms}
        if not names:
            return None
        return best_band_threshold({n: np.sum([s.histograms[n] for _, _, s in self.rows], axis=0) for n in names})

    def frame(self) -> pd.DataFrame:
        """A row per task and per scene, area and all together (column `of`), with every score."""
        groups = [("all", "all", self.totals())]
        for chosen in sorted({area for _, area, _ in self.rows}):
            groups.append(("area", chosen, self.totals(partial(_is_area, chosen))))
        groups += [("scene", key, score.matrices) for key, _, score in self.rows]
        return pd.DataFrame(
            [
                {"of": of, "name": name, "task": task, **scores(matrix, self.tasks[task].classes)}
                for of, name, matrices in groups
                for task, matrix in matrices.items()
            ]
        )

    def csv(self) -> str:
        buffer = io.StringIO()
        self.frame().to_csv(buffer, index=False, float_format="%.6f")
        return buffer.getvalue()

    def report(self) -> str:
        """The scores as a text for people."""
        lines = [f"{'':44s} {'IoU':>7s} {'F1':>7s} {'precision':>10s} {'recall':>7s}   (foreground)"]
        for row in self.frame().to_dict("records"):
            cells = [row.get(k, float("nan")) for k in ("iou_fg", "f1_fg", "precision_fg", "recall_fg")]
            label = f"{row['task']}, {row['of']}" + ("" if row["of"] == "all" else f" {row['name']}")
            lines.append(f"{label[:44]:44s} {cells[0]:7.4f} {cells[1]:7.4f} {cells[2]:10.4f} {cells[3]:7.4f}")
        threshold = self.threshold()
        if threshold:
            lines.append(
                f"{'best threshold on one band, ' + threshold[1]:44s} {threshold[0]:7.4f}   (chosen on these pixels)"
            )
        return "\n".join(lines) + "\n"
