"""Each area judged by a model that has not seen it: the plan of the trainings and maps, and the table at the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from swath.config import absolute, configclass, load
from swath.data.tables import read_table, require_areas, write_csv
from swath.errors import CatalogError
from swath.figures.charts import Bar, bars_figure
from swath.files import write_text
from swath.scoring.comparison import compare, comparison_text
from swath.scoring.config import ScoringConfig
from swath.scoring.report import UNITS, as_dicts, interval_text, iou_bar
from swath.scoring.table import ScoreTable
from swath.training.config import TrainingConfig

NEVER = 10**9


@configclass
class CrossValidationConfig:
    """Leave one area out in turn, for each variant of a training and of its maps; scores over all areas together.

    Weights are the last ones of each training: an area that selected the weights could not judge them.
    """

    training_config: str
    """Config file of the training."""
    inference_config: str
    """Config file of the maps."""
    scenes_path: str
    """Folder of scenes with a scenes.parquet."""
    labels_path: str
    """Folder of label rasters."""
    output_path: str
    """Folder for predictions (<variant>/<area>), and the table of scores."""
    areas: tuple[str, ...] | None = None
    """Areas to leave out in turn; None takes every area of the scenes."""
    parameters: dict[str, str] = field(default_factory=dict)
    """Overrides of the training's config that all variants share."""
    variants: dict[str, dict[str, str]] = field(default_factory=lambda: {"base": {}})
    """Name of a variant to its overrides of the training's config; the first one is what others are compared with."""
    maps: dict[str, dict[str, str]] = field(default_factory=lambda: {"plain": {}})
    """Name of a way to make maps to its overrides of the inference's config; each is made with every training."""
    scoring: ScoringConfig = ScoringConfig()
    """Units and intervals of the scores."""
    name: str = "leave one area out"
    """Name of the parent run."""


@dataclass(frozen=True)
class Fold:
    """One training with one area left out."""

    variant: str
    area: str
    overrides: Mapping[str, str]

    @property
    def name(self) -> str:
        return f"{self.variant}, without {self.area}"

    def parameters(self, config: CrossValidationConfig) -> dict[str, str]:
        """Parameters of the entry point ``training``."""
        own = {
            "config_path": config.training_config,
            "data.split.validation_areas": self.area,
            "validation.metric": "None",
        }
        own["validation.every"] = str(NEVER)  # but at the end
        return own | {"name": self.name} | dict(config.parameters) | dict(self.overrides)

    def map_parameters(self, config: CrossValidationConfig, way: str, run_id: str) -> dict[str, str]:
        """Parameters of the entry point ``inference`` for the area that was left out."""
        paths = {
            "input_path": config.scenes_path,
            "labels_path": config.labels_path,
            "output_path": self.output(config, way),
        }
        own = {"config_path": config.inference_config, "run_id": run_id, "areas": self.area}
        scoring = {"score_prefix": "held_out", "scoring.block": str(config.scoring.block)}
        return own | paths | scoring | config.maps[way]

    def output(self, config: CrossValidationConfig, way: str) -> str:
        """Folder of this fold's predictions and scores."""
        return f"{config.output_path}/{label(self.variant, way, config)}/{self.area}"


def label(variant: str, way: str, config: CrossValidationConfig) -> str:
    """Name of a variant with a way to make maps; the latter is left out where there is only one."""
    return variant if len(config.maps) == 1 else f"{variant}, {way}"


def folds(config: CrossValidationConfig, areas: Sequence[str]) -> Iterator[Fold]:
    """All trainings, area by area within a variant. Raises CatalogError for unknown areas, or when there is only one."""
    chosen = tuple(config.areas or sorted(set(areas)))
    require_areas(chosen, areas)
    if len(set(areas)) < 2:
        raise CatalogError("cross-validation leaves one area out and needs at least two. Use block folds within one.")
    for variant, overrides in config.variants.items():
        for area in chosen:
            yield Fold(variant, area, overrides)


class CrossValidationResults:
    """The scores of all folds once they are there: a table per variant, and what differs from the first one."""

    def __init__(self, config: CrossValidationConfig, plan: Sequence[Fold]) -> None:
        self.config = config
        training = load(config.training_config, TrainingConfig)
        self.tables: dict[str, ScoreTable] = {}
        for fold in plan:
            for way in config.maps:
                name = label(fold.variant, way, config)
                table = self.tables.setdefault(name, ScoreTable(training.tasks, config.scoring))
                table.extend(
                    read_table(absolute(fold.output(config, way)) / UNITS, ("key", "task", "matrix"), "inference")
                )

    @cached_property
    def frame(self) -> pd.DataFrame:
        """Scores with intervals: a row per variant, task and area, and all areas together (column `of`)."""
        frames = [table.frame().assign(variant=name) for name, table in self.tables.items()]
        joined = pd.concat(frames, ignore_index=True)
        return joined[joined["of"] != "scene"][["variant", *(c for c in joined.columns if c != "variant")]]

    @cached_property
    def comparisons(self) -> dict[str, pd.DataFrame]:
        """Every other variant against the first one on the same units, by the names of the two."""
        names = list(self.tables)
        first = self.tables[names[0]]
        return {
            f"{name} against {names[0]}": compare(first.rows, self.tables[name].rows, first.tasks, self.config.scoring)
            for name in names[1:]
        }

    def metrics(self) -> dict[str, float]:
        """Scores of all areas together with the ends of their intervals, under ``held_out/<variant>/...``."""
        found: dict[str, float] = {}
        for name, table in self.tables.items():
            found |= table.metrics(f"held_out/{name}")
        return found

    def text(self) -> str:
        """For people: a line per variant with its interval, the areas' IoU, and the differences to the first variant."""
        areas = sorted(set(self.frame[self.frame["of"] == "area"]["name"]))
        width = max(map(len, self.tables))
        lines = [f"{'':{width}s}  {'IoU, all held-out areas':26s}{''.join(f'{area:>12s}' for area in areas)}"]
        for (name, _), part in self.frame.groupby(["variant", "task"], sort=False):
            rows = {row["name"]: row for row in as_dicts(part)}
            cells = "".join(f"{rows[a]['iou_fg']:12.3f}" if a in rows else f"{'':12s}" for a in areas)
            row = rows["all"]
            lines.append(f"{name:{width}s}  {interval_text(row, 'iou_fg'):26s}{cells}")
        for name, table in self.comparisons.items():
            lines += [f"{name}:", *(f"  {line}" for line in comparison_text(table).splitlines())]
        return "\n".join(lines) + "\n"

    def write(self, folder: Path) -> list[Path]:
        """Write cross_validation.txt and .csv, and comparisons.csv where there are several variants."""
        write_text(folder / "cross_validation.txt", self.text())
        write_csv(folder / "cross_validation.csv", self.frame)
        written = [folder / "cross_validation.txt", folder / "cross_validation.csv"]
        if self.comparisons:
            frames = [table.assign(comparison=name) for name, table in self.comparisons.items()]
            write_csv(folder / "comparisons.csv", pd.concat(frames))
            written.append(folder / "comparisons.csv")
        return written

    def picture(self) -> NDArray[np.uint8]:
        """uint8 RGB: IoU of every variant with its interval, all areas together and each alone."""
        groups: dict[str, list[Bar]] = {}
        for row in as_dicts(self.frame):
            bar = iou_bar(str(row["variant"]), row)
            groups.setdefault(f"{row['task']}, {row['name']}", []).append(bar)
        return bars_figure(groups, "IoU of the foreground in areas that were left out")
