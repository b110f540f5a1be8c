"""Tables of scores: everything together, by area, by scene and by condition, each with its interval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from swath.errors import CatalogError
from swath.nn.model import Task
from swath.scoring.baselines import best_band_threshold, constant_metrics
from swath.scoring.bootstrap import MINIMUM_UNITS, intervals, resampled_sums
from swath.scoring.breakdown import by_condition, summary
from swath.scoring.config import ScoringConfig
from swath.scoring.counts import sampling_units, scene_rows, stacked_matrices, sums_by
from swath.scoring.metrics import combined, named, score_arrays, scores, tile_means
from swath.scoring.scenes import SceneScore


@dataclass
class ScoreTable:
    """Units with their counts, and all that follows from sums over them.

    Sums of matrices do not depend on how pixels were cut into units, scenes or ranks. Filled with `add` (scored scenes)
    or `extend` (tiles of an evaluation).
    """

    tasks: Mapping[str, Task]
    settings: ScoringConfig = field(default_factory=ScoringConfig)
    notes: list[str] = field(default_factory=list)
    """Sentences that belong beside the numbers."""
    parts: list[gpd.GeoDataFrame] = field(default_factory=list)
    histograms: dict[str, NDArray[np.int64]] | None = None
    """Sums over the scored scenes for `threshold`, by band; only bands that all of them have. None: no scene yet."""
    constants: Mapping[str, int] = field(default_factory=dict)
    """By task, the class that one names everywhere who only knows the training labels: see `constant_guesses`."""

    def add(self, key: str, area: str, score: SceneScore, about: Mapping[str, Any] | None = None) -> None:
        """Take in a scored scene; `about` is its row in the table of scenes."""
        self.parts.append(scene_rows(key, area, score, about))
        self.add_histograms(score.histograms)

    def add_histograms(self, histograms: Mapping[str, NDArray[np.int64]]) -> None:
        """Take in a scene's counts of band values by class."""
        if self.histograms is None:
            self.histograms = dict(histograms)
        else:
            shared = self.histograms.keys() & histograms.keys()
            self.histograms = {band: self.histograms[band] + histograms[band] for band in sorted(shared)}

    def extend(self, rows: gpd.GeoDataFrame) -> None:
        """Take in a table of units."""
        self.parts.append(rows)

    @property
    def rows(self) -> gpd.GeoDataFrame:
        """All units, with the columns of `swath.scoring.counts.COLUMNS`. Raises CatalogError when nothing is labelled."""
        filled = [part for part in self.parts if len(part)]
        if not filled:
            raise CatalogError("no labelled pixel in any scored scene: there is no score. Check the labels.")
        systems = {str(part.crs) for part in filled}
        crs = filled[0].crs if len(systems) == 1 else None
        joined = pd.concat([pd.DataFrame(part) for part in filled], ignore_index=True)
        return gpd.GeoDataFrame(joined, geometry="geometry", crs=crs)

    def totals(self) -> dict[str, NDArray[np.int64]]:
        """The confusion matrix of everything, by task."""
        rows = self.rows
        return {task: stacked_matrices(rows[rows["task"] == task]).sum(0) for task in self._labelled(rows)}

    def _labelled(self, rows: gpd.GeoDataFrame) -> list[str]:
        have = set(rows["task"])
        return [task for task in self.tasks if task in have]

    def metrics(self, prefix: str) -> dict[str, float]:
        """Scores under ``<prefix>/...``, their intervals, means over tiles, those of a constant guess
        (``<prefix>/constant_...``), and ``baseline/threshold_iou_fg``."""
        table: dict[str, float] = {}
        totals = self.totals()
        for task, matrix in totals.items():
            table |= named(scores(matrix, self.tasks[task].classes), prefix, task, len(self.tasks))
        table |= combined(table, self.settings.combined, prefix)
        table |= self.interval_metrics(prefix) | self._tile_means(prefix)
        table |= constant_metrics(totals, self.constants, self.tasks, self.settings.combined, prefix)
        threshold = self.threshold()
        return table | ({"baseline/threshold_iou_fg": threshold[0]} if threshold else {})

    def interval_metrics(self, prefix: str) -> dict[str, float]:
        """The ends of the intervals: ``<prefix>/iou_fg_low``, ``<prefix>/iou_fg_high`` and so on."""
        rows, s = self.rows, self.settings
        table: dict[str, float] = {}
        for task in self._labelled(rows):
            _, drawn = sampling_units(rows[rows["task"] == task], s.scenes_needed)
            bounds = intervals(drawn, self.tasks[task].classes, s.confidence, s.resamples, s.seed)
            ends = {f"{n}_{e}": v for n, pair in bounds.items() for e, v in zip(("low", "high"), pair, strict=True)}
            table |= named(ends, prefix, task, len(self.tasks))
        return table | self._combined_interval(prefix)

    def sampled(self) -> tuple[int, str]:
        """(units, what they are) that the intervals of everything are drawn from; of several tasks the fewest."""
        rows = self.rows
        found = []
        for task in self._labelled(rows):
            unit, drawn = sampling_units(rows[rows["task"] == task], self.settings.scenes_needed)
            found.append((len(drawn), unit))
        return min(found)

    def _combined_interval(self, prefix: str) -> dict[str, float]:
        """The interval of the combined score: what is drawn counts with its pixels of all tasks."""
        s, rows = self.settings, self.rows
        tasks = self._labelled(rows)
        if not s.combined or len(tasks) < len(self.tasks):
            return {}
        by = "scene" if rows["scene"].nunique() >= s.scenes_needed else "key"
        names = sorted(rows[by].unique())
        units = [sums_by(rows[rows["task"] == task], by, names) for task in tasks]
        if len(names) < MINIMUM_UNITS:
            return {}
        drawn = resampled_sums(np.concatenate([u.reshape(len(names), -1) for u in units], axis=1), s.resamples, s.seed)
        parts = np.split(drawn, np.cumsum([u[0].size for u in units])[:-1], axis=1)
        scored: dict[str, Any] = {}
        for task, part, unit in zip(tasks, parts, units, strict=True):
            found = score_arrays(part.reshape(-1, *unit.shape[1:]), self.tasks[task].classes)  # type: ignore[arg-type]
            scored |= named(found, prefix, task, len(self.tasks))  # type: ignore[arg-type]
        values = combined(scored, s.combined, prefix).get(f"{prefix}/combined")
        if values is None:
            return {}
        low, high = np.nanpercentile(values, [50 * (1 - s.confidence), 50 * (1 + s.confidence)])
        return {f"{prefix}/combined_low": float(low), f"{prefix}/combined_high": float(high)}

    def _tile_means(self, prefix: str) -> dict[str, float]:
        rows = self.rows
        table: dict[str, float] = {}
        for task in self._labelled(rows):
            means = tile_means(stacked_matrices(rows[rows["task"] == task]))
            table |= named(means, prefix, task, len(self.tasks))
        return table

    def threshold(self) -> tuple[float, str] | None:
        """(IoU, rule) of the best threshold on one band that all scenes have, chosen on these very pixels."""
        return best_band_threshold(self.histograms) if self.histograms else None

    def frame(self) -> pd.DataFrame:
        """A row per task and per scene, area and all together (column `of`): every score with its interval."""
        rows = self.rows
        groups = [("all", "all", rows)]
        groups += [("area", str(area), part) for area, part in rows.groupby("area")]
        groups += [("scene", str(scene), part) for scene, part in rows.groupby("scene")]
        return pd.DataFrame(
            [
                {"of": of, "name": name, "task": task, **summary(mine, self.tasks[task].classes, self.settings)}
                for of, name, part in groups
                for task in self._labelled(part)
                for mine in [part[part["task"] == task]]
            ]
        )

    def conditions(self) -> pd.DataFrame:
        """Scores by the conditions of the settings (see `by_condition`)."""
        return by_condition(self.rows, self.settings.conditions, self.tasks, self.settings)
