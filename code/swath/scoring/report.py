"""What a person gets of a `ScoreTable`: a text, tables, the units as a map, pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from swath.data.tables import write_csv, write_table
from swath.figures.charts import Bar, bars_figure, confusion_figure
from swath.files import write_text
from swath.scoring.bootstrap import (
    FEW_UNITS,
    MARK,
    MINIMUM_UNITS,
    few_units_notes,
    interval_mark,
    measured_coverage,
)
from swath.scoring.composite import combined_frame, combined_text
from swath.scoring.counts import stacked_matrices
from swath.scoring.metrics import tile_means
from swath.scoring.table import ScoreTable

HEADER = f"{'':44s} {'IoU':>20s}  {'F1':>20s}   {'precision':>9s} {'recall':>7s}   (foreground)"


@dataclass(frozen=True)
class ScoreReport:
    """The report of a table that is complete: everything is computed once."""

    table: ScoreTable

    @cached_property
    def frame(self) -> pd.DataFrame:
        return self.table.frame()

    @cached_property
    def conditions(self) -> pd.DataFrame:
        return self.table.conditions()

    @cached_property
    def combined(self) -> pd.DataFrame:
        return combined_frame(self.table)

    def text(self) -> str:
        """The scores as a text for people: 0.781 [0.752, 0.806]."""
        lines = [HEADER]
        for row in as_dicts(self.frame):
            label = f"{row['task']}, {row['of']}" + ("" if row["of"] == "all" else f" {row['name']}")
            lines.append(_line(label, row))
        for (task, column), part in self.conditions.groupby(["task", "condition"], sort=False):
            if column != "area" and len(part) > 1:  # areas stand above; one value is no breakdown
                lines.append(f"{task} by {column}")
                lines += [_line(f"    {row['value']}", row) for row in as_dicts(part)]
        lines += combined_text(self.combined, self.table.settings.combined)
        return "\n".join([*lines, *self._footnotes()]) + "\n"

    def _footnotes(self) -> list[str]:
        lines = []
        threshold = self.table.threshold()
        if threshold:
            rule = f"best threshold on one band, {threshold[1]}"
            lines.append(f"{rule:44s} {threshold[0]:.3f}   (chosen on these pixels)")
        for row in as_dicts(self.frame[self.frame["of"] == "all"]):
            lines += [self._about_interval(row), self._about_tiles(row["task"])]
        shown = [*self.frame["units"], *(self.conditions["units"] if len(self.conditions) else ())]
        return [*lines, *few_units_notes(shown), *self.table.notes]

    def _about_interval(self, row: Mapping[str, Any]) -> str:
        s = self.table.settings
        if row["units"] < MINIMUM_UNITS:
            few = f"{row['units']} {row['unit']} are too few"
            return f"{row['task']}: no intervals, {few}. Score more scenes, or choose a smaller scoring.block."
        whole = row["unit"] == "scenes"
        drawn = f"{row['units']} {row['unit']}" + ("" if whole else f" of {row['scenes']} scenes")
        reach = "" if whole else "; they speak about these scenes only"
        return (
            f"{row['task']}: [{s.confidence:.0%} bootstrap intervals over {drawn}], percentiles of {s.resamples} resamples; "
            f"{measured_coverage(row['units'])}{reach}"
        )

    def _about_tiles(self, task: str) -> str:
        rows = self.table.rows
        mine = rows[rows["task"] == task]
        means = tile_means(stacked_matrices(mine))
        counted, unit = int(means["tile_mean_tiles"]), f"{mine['unit'].iloc[0]}s"
        mean = (
            f"mean IoU {means['iou_fg_tile_mean']:.3f}, F1 {means['f1_fg_tile_mean']:.3f} " if counted else "no mean "
        )
        return (
            f"{task}: {mean}over single {unit}: {counted} of {len(mine)} counted, "
            f"{len(mine) - counted} with neither true nor predicted foreground left out"
        )

    def write(self, folder: Path) -> list[Path]:
        """Write scores.txt, scores.csv, scores_by_condition.csv, scores.parquet (the units) and, of several tasks with
        a combined score, scores_combined.csv; return their paths."""
        write_text(folder / "scores.txt", self.text())
        tables = {"scores.csv": self.frame, "scores_by_condition.csv": self.conditions}
        tables |= {} if self.combined.empty else {"scores_combined.csv": self.combined}
        for name, table in tables.items():
            write_csv(folder / name, table)
        write_table(folder / UNITS, self.table.rows)
        return [folder / name for name in ("scores.txt", *tables, UNITS)]

    def pictures(self) -> dict[str, NDArray[np.uint8]]:
        """uint8 RGB pictures by file name: confusion matrix and scores by condition of each task."""
        out = {}
        for task, matrix in self.table.totals().items():
            classes = self.table.tasks[task].classes
            out[f"confusion_{task}.png"] = confusion_figure(matrix, classes, f"{task}, everything scored")
            mine = self.conditions[self.conditions["task"] == task]
            groups = {
                str(name): [iou_bar(str(row["value"]), row) for row in as_dicts(part)]
                for name, part in mine.groupby("condition", sort=False)
            }
            title = f"{task}: IoU of the foreground\n{about_intervals(self.table.settings.confidence)}"
            out[f"scores_by_condition_{task}.png"] = bars_figure(groups, title)
        return out


UNITS = "scores.parquet"
"""File and artifact of a run that holds its units (see `swath.scoring.counts.COLUMNS`)."""


def as_dicts(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table, columns by their names."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def _line(label: str, row: Mapping[str, Any]) -> str:
    cells = [interval_text(row, "iou_fg"), interval_text(row, "f1_fg")]
    precision, recall = (row.get(name, np.nan) for name in ("precision_fg", "recall_fg"))
    return f"{label[:44]:44s} {cells[0]:>21s} {cells[1]:>21s}  {precision:9.3f} {recall:7.3f}"


def interval_text(row: Mapping[str, Any], name: str) -> str:
    """A score with its interval, ``0.781 [0.752, 0.806]``, and a mark where its `units` are few, see `interval_mark`.

    Blanks in place of an interval, or a mark, that is not there.
    """
    low, high = row.get(f"{name}_low", np.nan), row.get(f"{name}_high", np.nan)
    has_interval = bool(np.isfinite(low))
    interval = f" [{low:.3f}, {high:.3f}]{interval_mark(row['units'])}" if has_interval else ""
    return f"{row.get(name, np.nan):.3f}{interval:16s}"


def about_intervals(confidence: float) -> str:
    """What a chart says of its intervals."""
    return f"{confidence:.0%} bootstrap intervals ({MARK} fewer than {FEW_UNITS} units: too narrow)"


def iou_bar(label: str, row: Mapping[str, Any]) -> Bar:
    """The bar of a row of scores: IoU of the foreground with its interval and the units behind it."""
    value, low, high = (float(row.get(f"iou_fg{end}", np.nan)) for end in ("", "_low", "_high"))
    mark = interval_mark(row["units"]) if np.isfinite(low) else ""
    return Bar(label, value, low, high, f"{row['units']} {row['unit']}{mark}")
