"""Each area, date or event judged by a model that has not seen it: the trainings and maps, and the table at the end."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from swath.config import InputPath, OutputPath, configclass, load
from swath.data.splits.split import ByColumn
from swath.data.tables import read_table, require_areas, require_values, write_csv
from swath.errors import CatalogError, ConfigError
from swath.figures.charts import Bar, bars_figure
from swath.files import write_text
from swath.scoring.bootstrap import interval_notes
from swath.scoring.comparison import compare, comparison_text
from swath.scoring.config import ScoringConfig
from swath.scoring.report import about_intervals, as_dicts, interval_text, iou_bar
from swath.scoring.table import ScoreTable
from swath.training.config import TrainingConfig

NEVER = 10**9
AREA, TITLE = "area", "leave one area out"
TEST = "test"
"""Folder of the maps of `test_path`."""


@configclass
class CrossValidationConfig:
    """Leave one area out in turn, for each variant of a training and of its maps; scores over all areas together.

    Weights are the last ones of each training: an area that selected the weights could not judge them. With another
    column, its values take the place of areas, and `ByColumn` that of the training's split; scenes that have no value
    neither train nor judge. Ground on both sides is refused there as everywhere.
    """

    training_config: str
    """Config file of the training."""
    inference_config: str
    """Config file of the maps."""
    scenes_path: InputPath
    """Folder of scenes with a scenes.parquet."""
    labels_path: InputPath
    """Folder of label rasters."""
    output_path: OutputPath
    """Folder for predictions (<variant>/<value>), and the table of scores."""
    column: str = AREA
    """Column of scenes.parquet and of the table of tiles whose values are left out in turn: area, date, event, ..."""
    test_path: InputPath | None = None
    """Folder of further scenes, such as a challenge's test set, that each training maps, too, without scores: the members
    of an ensemble, in <output_path>/test/<variant>/<value>."""
    test_only: dict[str, tuple[str, ...]] | None = None
    """Those of them to map, by their columns: {"side": ("test",)}; None takes all."""
    areas: tuple[str, ...] | None = None
    """Values of the column to leave out in turn, as texts; None takes every one that the scenes have."""
    parameters: dict[str, str] = field(default_factory=dict)
    """Overrides of the training's config that all variants share."""
    variants: dict[str, dict[str, str]] = field(default_factory=lambda: {"base": {}})
    """Name of a variant to its overrides of the training's config; the first one is what others are compared with."""
    maps: dict[str, dict[str, str]] = field(default_factory=lambda: {"plain": {}})
    """Name of a way to make maps to its overrides of the inference's config; each is made with every training."""
    scoring: ScoringConfig = ScoringConfig()
    """Units and intervals of the scores."""
    name: str = TITLE
    """Name of the parent run."""

    def __post_init__(self) -> None:
        if self.test_path and TEST in self.variants:
            raise ConfigError(
                f"variants: {TEST} is the folder of the maps of test_path. Give the variant another name."
            )
        if self.test_only is not None and not self.test_path:
            raise ConfigError("test_only: says which scenes of test_path to map; set test_path, too.")

    @property
    def title(self) -> str:
        """The name; where none was given, it says what is left out."""
        return f"leave one {self.column} out" if self.name == TITLE else self.name


@dataclass(frozen=True)
class Fold:
    """One training with one value of a column left out."""

    variant: str
    value: str
    overrides: Mapping[str, str]
    column: str = AREA

    @property
    def name(self) -> str:
        return f"{self.variant}, without {self.value if self.column == AREA else f'{self.column} {self.value}'}"

    def parameters(self, config: CrossValidationConfig) -> dict[str, str]:
        """Parameters of the entry point ``training``."""
        own = {"config_path": config.training_config} | self._split() | {"validation.metric": "None"}
        own["validation.every"] = str(NEVER)  # but at the end
        return own | {"name": self.name} | dict(config.parameters) | dict(self.overrides)

    def _split(self) -> dict[str, str]:
        """Overrides of the training that hold the value out."""
        if self.column == AREA:
            return {"data.split.validation_areas": self.value}
        split = f"{ByColumn.__module__}:{ByColumn.__qualname__}"
        held = {"data.split.column": self.column, "data.split.validation": json.dumps([self.value])}
        return {"data.split": split} | held

    def _scenes(self) -> dict[str, str]:
        """Overrides of the inference that take the scenes with the value."""
        return {"areas": self.value} if self.column == AREA else {"only": json.dumps({self.column: [self.value]})}

    def map_parameters(self, config: CrossValidationConfig, way: str, run_id: str) -> dict[str, str]:
        """Parameters of the entry point ``inference`` for the scenes that were left out."""
        paths = {
            "input_path": config.scenes_path,
            "labels_path": config.labels_path,
            "output_path": self.output(config, way),
        }
        own = {"config_path": config.inference_config, "run_id": run_id} | self._scenes()
        scoring = {"score_prefix": "held_out", "scoring.block": str(config.scoring.block)}
        return own | paths | scoring | config.maps[way]

    def test_parameters(self, config: CrossValidationConfig, way: str, run_id: str) -> dict[str, str]:
        """Parameters of the entry point ``inference`` for the scenes of `test_path`, without labels."""
        folder = label(self.variant, way, config)
        paths = {
            "input_path": str(config.test_path),
            "output_path": f"{config.output_path}/{TEST}/{folder}/{self._folder}",
        }
        chosen = "None" if config.test_only is None else json.dumps({k: list(v) for k, v in config.test_only.items()})
        plain = {"areas": "None", "only": chosen, "labels_path": "None", "also_score": "{}"}
        own = {"config_path": config.inference_config, "run_id": run_id}
        return own | plain | config.maps[way] | paths

    @property
    def _folder(self) -> str:
        """Name of the folder of the value."""
        return self.value if self.column == AREA else quote(self.value, safe=" ").replace("..", "%2E%2E")

    def output(self, config: CrossValidationConfig, way: str) -> str:
        """Folder of this fold's predictions and scores."""
        return f"{config.output_path}/{label(self.variant, way, config)}/{self._folder}"


def label(variant: str, way: str, config: CrossValidationConfig) -> str:
    """Name of a variant with a way to make maps; the latter is left out where there is only one."""
    return variant if len(config.maps) == 1 else f"{variant}, {way}"


def folds(config: CrossValidationConfig, values: Sequence[str]) -> Iterator[Fold]:
    """All trainings, value by value within a variant; `values` are those that the scenes have in the column.

    Raises CatalogError for values that no scene has, or when there is only one.
    """
    chosen = tuple(config.areas or sorted(set(values)))
    if config.column == AREA:
        require_areas(chosen, values)
    else:
        require_values(config.column, chosen, values, "areas")
    if len(set(values)) < 2:
        what = f"cross-validation leaves one {config.column} out and needs at least two."
        all_there = f"There is {', '.join(sorted(set(values))) or 'none'}. Choose another column."
        raise CatalogError(f"{what} {'Use block folds within one.' if config.column == AREA else all_there}")
    for variant, overrides in config.variants.items():
        for value in chosen:
            yield Fold(variant, value, overrides, config.column)


class CrossValidationResults:
    """The scores of all folds once they are there: a table per variant, and what differs from the first one."""

    def __init__(self, config: CrossValidationConfig) -> None:
        self.config = config
        self.tasks = load(config.training_config, TrainingConfig).tasks
        self.tables: dict[str, ScoreTable] = {}

    def add(self, fold: Fold, way: str, units: Path) -> None:
        """Add the table of scores that the run of a fold's maps, made in one way, has logged."""
        name = label(fold.variant, way, self.config)
        table = self.tables.setdefault(name, ScoreTable(self.tasks, self.config.scoring))
        rows = read_table(units, ("key", "task", "matrix"), "inference")
        table.extend(rows.assign(area=fold.value))  # tables of scores group by area

    @cached_property
    def frame(self) -> pd.DataFrame:
        """Scores with intervals: a row per variant, task and value left out, and all together (column `of`)."""
        frames = [table.frame().assign(variant=name) for name, table in self.tables.items()]
        joined = pd.concat(frames, ignore_index=True)
        kept = joined[joined["of"] != "scene"].replace({"of": {AREA: self.config.column}})
        return kept[["variant", *(c for c in joined.columns if c != "variant")]]

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
        """Scores of all values together with the ends of their intervals, under ``held_out/<variant>/...``."""
        found: dict[str, float] = {}
        for name, table in self.tables.items():
            found |= table.metrics(f"held_out/{name}")
        return found

    def text(self) -> str:
        """For people: a line per variant with IoU, each value's and that of all, and F1; then the differences to the first
        variant.
        """
        values = sorted(set(self.frame[self.frame["of"] != "all"]["name"]))
        width, wide = max(map(len, self.tables)), max(12, *(len(value) + 1 for value in values))
        head = f"IoU, all {'held-out areas' if self.config.column == AREA else 'left out'}"
        lines = [f"{'':{width}s}  {head:26s}{''.join(f'{value:>{wide}s}' for value in values)}  F1 (Dice), all"]
        for (name, _), part in self.frame.groupby(["variant", "task"], sort=False):
            rows = {row["name"]: row for row in as_dicts(part)}
            cells = "".join(f"{rows[v]['iou_fg']:{wide}.3f}" if v in rows else f"{'':{wide}s}" for v in values)
            row = rows["all"]
            iou, f1 = interval_text(row, "iou_fg"), interval_text(row, "f1_fg")
            lines.append(f"{name:{width}s}  {iou:26s}{cells}  {f1}")
        for name, table in self.comparisons.items():
            lines += [f"{name}:", *(f"  {line}" for line in comparison_text(table).splitlines())]
        whole = self.frame[self.frame["of"] == "all"]
        return "\n".join([*lines, *interval_notes(self.config.scoring.confidence, whole["units"])]) + "\n"

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
        column = self.config.column
        left_out = "in areas that were left out" if column == AREA else f"where its {column} was left out"
        title = f"IoU of the foreground {left_out}\n{about_intervals(self.config.scoring.confidence)}"
        return bars_figure(groups, title)
