"""Tables of scores: all scenes together, by area and by scene, beside the best single-band threshold."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from swath.config import configclass
from swath.data.catalog import by_key
from swath.engine.inference import SceneScore, best_band_threshold
from swath.errors import CatalogError
from swath.nn.heads import Classification
from swath.nn.metrics import named, scores


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
