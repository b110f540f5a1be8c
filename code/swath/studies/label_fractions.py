"""What more labels are worth: one training on each of several nested parts of its data, and the curve of scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from swath.config import OutputPath, configclass, load, override_all
from swath.data.tables import write_csv
from swath.errors import CatalogError, ConfigError
from swath.figures.charts import Point, curves_figure
from swath.files import write_text
from swath.scoring.bootstrap import interval_mark, interval_notes
from swath.scoring.config import ScoringConfig
from swath.scoring.metrics import combined, named, scores
from swath.scoring.report import as_dicts, interval_text
from swath.scoring.table import ScoreTable
from swath.studies.cross_validation import NEVER
from swath.training.config import TrainingConfig


@configclass
class LabelFractionsConfig:
    """Train on nested parts of the training tiles, for every variant and seed; judge all on the same held-out tiles.

    An epoch has as many steps for every part if the training sets `data.samples_per_epoch`; without, parts differ in
    the length of the training as well.
    """

    training_config: str
    """Config file of the training; its split holds tiles out."""
    output_path: OutputPath
    """Folder for the table of scores."""
    fractions: tuple[float, ...] = (0.2, 0.4, 0.6, 0.8, 1.0)
    """Shares of the training side; smaller ones lie within larger ones."""
    by: str = "scene"
    """Column whose values are drawn, all tiles of one together: scene, area, group; key for single tiles."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Each draws another order of the parts and starts from other weights; scores are of all seeds together."""
    variants: dict[str, dict[str, str]] = field(default_factory=lambda: {"base": {}})
    """Name of a variant to its overrides of the training's config, such as one with and one without `warm_start.weights`."""
    parameters: dict[str, str] = field(default_factory=dict)
    """Overrides of the training's config that all variants share."""
    side: Literal["validation", "test"] = "validation"
    """Tiles that judge. On validation tiles the weights of the last step are judged, none are selected on them; on
    test tiles those that the training selects."""
    metric: str = "iou_fg"
    """Score of the curve: iou_fg, f1_macro_bg, ..., <task>/<score> with several tasks, or combined."""
    scoring: ScoringConfig | None = None
    """Intervals of the scores; None takes the training's `validation.scoring`."""
    name: str = "label fractions"
    """Name of the parent run."""

    def __post_init__(self) -> None:
        wrong = [f for f in self.fractions if not 0 < f <= 1]
        if wrong or not self.fractions or not self.seeds or not self.variants:
            raise ConfigError(
                f"fractions={self.fractions}, seeds={self.seeds}: give shares above 0 and up to 1, at least one seed, and "
                "at least one variant"
            )

    @property
    def training(self) -> TrainingConfig:
        """The training's config with the overrides that all variants share."""
        return override_all(load(self.training_config, TrainingConfig), list(self.parameters.items()))


@dataclass(frozen=True)
class Part:
    """One training on one part of the data."""

    variant: str
    fraction: float
    seed: int

    @property
    def name(self) -> str:
        return f"{self.variant}, {self.fraction:.4g} of the labels, seed {self.seed}"

    def parameters(self, config: LabelFractionsConfig) -> dict[str, str]:
        """Parameters of the entry point ``training``."""
        own = {
            "config_path": config.training_config, "name": self.name, "seed": str(self.seed),
            "data.subset.fraction": str(self.fraction), "data.subset.by": config.by, "data.subset.seed": str(self.seed),
        }  # fmt: skip
        if config.side == "validation":
            own |= {"validation.metric": "None", "validation.every": str(NEVER)}  # but at the end
        return own | dict(config.parameters) | config.variants[self.variant]


def parts(config: LabelFractionsConfig) -> Iterator[Part]:
    """All trainings. Raises ConfigError for a metric that none of them has."""
    known = metric_names(config.training, config.scoring)
    if config.metric not in known:
        raise ConfigError(f"metric={config.metric}: no such score. There are: {', '.join(sorted(known))}.")
    for variant in config.variants:
        for fraction in sorted(set(config.fractions)):
            for seed in dict.fromkeys(config.seeds):
                yield Part(variant, fraction, seed)


def metric_names(training: TrainingConfig, scoring: ScoringConfig | None) -> set[str]:
    """Scores that a table of the training's tasks has."""
    table: dict[str, float] = {}
    for task, about in training.tasks.items():
        table |= named(
            scores(np.ones((len(about.classes),) * 2, np.int64), about.classes), "any", task, len(training.tasks)
        )
    table |= combined(table, (scoring or training.validation.scoring).combined, "any")
    return {name.removeprefix("any/") for name in table}


def pooled(tables: Sequence[gpd.GeoDataFrame]) -> gpd.GeoDataFrame:
    """The units of several trainings that were judged by the same tiles as one table: counts are added unit by unit.

    So a unit stays one draw of the bootstrap, however many trainings it judged. Raises CatalogError for other tiles.
    """
    ordered = [table.sort_values(["task", "key"]).reset_index(drop=True) for table in tables]
    names = [list(zip(table["task"], table["key"], strict=True)) for table in ordered]
    if any(other != names[0] for other in names[1:]):
        raise CatalogError("the trainings were not judged by the same tiles. Give all the same split and tiles.")
    matrices = [np.sum(cells, axis=0) for cells in zip(*(table["matrix"] for table in ordered), strict=True)]
    pixels = sum(table["pixels"] for table in ordered)
    return ordered[0].assign(matrix=pd.Series(matrices, dtype=object), pixels=pixels)


@dataclass
class LabelFractionResults:
    """The units of all trainings, and the curve that follows."""

    config: LabelFractionsConfig
    units: dict[Part, gpd.GeoDataFrame] = field(default_factory=dict)
    used: dict[Part, gpd.GeoDataFrame] = field(default_factory=dict)

    def add(self, part: Part, units: gpd.GeoDataFrame, tiles: gpd.GeoDataFrame) -> None:
        """Take in what one training was scored by, and the tiles of its record."""
        self.units[part] = units
        self.used[part] = tiles[tiles["side"] == "training"]

    @cached_property
    def frame(self) -> pd.DataFrame:
        """A row per variant and fraction: tiles and scenes (means over seeds), the score of all seeds together with
        its interval (`low`, `high`) and the `units` that it is drawn from, and the lowest and highest of single seeds.
        """
        groups: dict[tuple[str, float], list[Part]] = {}
        for part in self.units:
            groups.setdefault((part.variant, part.fraction), []).append(part)
        return pd.DataFrame([self._row(*group, mine) for group, mine in groups.items()])

    def _row(self, variant: str, fraction: float, mine: Sequence[Part]) -> dict[str, Any]:
        single = [self._score(self.units[part])["score"] for part in mine]
        used = [self.used[part] for part in mine]
        return {
            "variant": variant, "fraction": fraction, "tiles": float(np.mean([len(tiles) for tiles in used])),
            "scenes": float(np.mean([tiles["scene"].nunique() for tiles in used])), "seeds": len(mine),
            **self._score(pooled([self.units[part] for part in mine])), "lowest": min(single), "highest": max(single),
        }  # fmt: skip

    def _score(self, units: gpd.GeoDataFrame) -> dict[str, Any]:
        training = self._training
        table = ScoreTable(training.tasks, self.config.scoring or training.validation.scoring)
        table.extend(units)
        found = table.metrics("any")
        ends = {"score": "", "score_low": "_low", "score_high": "_high"}
        drawn, unit = table.sampled()
        scored = {name: found.get(f"any/{self.config.metric}{end}", np.nan) for name, end in ends.items()}
        return scored | {"units": drawn, "unit": unit, "confidence": table.settings.confidence}

    @cached_property
    def _training(self) -> TrainingConfig:
        return self.config.training

    def metrics(self) -> Iterator[tuple[int, Mapping[str, float]]]:
        """(step, values): the fraction in percent is the step, so that the dashboard draws the curve."""
        for row in as_dicts(self.frame):
            name = f"{row['variant']}/{self.config.metric}"
            values = {f"{name}{end}": float(row[f"score{end}"]) for end in ("", "_low", "_high")}
            yield round(100 * row["fraction"]), {n: v for n, v in values.items() if np.isfinite(v)}

    def text(self) -> str:
        """For people: a line per variant and fraction."""
        width = max(map(len, self.config.variants))
        lines = [f"{'':{width}s}  labels   tiles  scenes  {self.config.metric:22s}  single seeds"]
        for row in as_dicts(self.frame):
            seeds = f"{row['lowest']:.3f} to {row['highest']:.3f} ({row['seeds']})"
            counts = f"{row['fraction']:6.1%}  {row['tiles']:6.4g}  {row['scenes']:6.4g}"
            lines.append(f"{row['variant']:{width}s}  {counts}  {interval_text(row, 'score'):22s}  {seeds}")
        return "\n".join([*lines, *interval_notes(self.frame["confidence"].iloc[0], self.frame["units"])]) + "\n"

    def _about_intervals(self) -> str:
        fewest = min(as_dicts(self.frame), key=lambda row: int(row["units"]))
        mark = interval_mark(fewest["units"])
        return f"{fewest['confidence']:.0%} bootstrap intervals over {fewest['units']} {fewest['unit']}{mark}"

    def write(self, folder: Path) -> list[Path]:
        """Write label_fractions.txt and .csv."""
        written = [folder / "label_fractions.txt", folder / "label_fractions.csv"]
        write_text(written[0], self.text())
        write_csv(written[1], self.frame)
        return written

    def picture(self) -> NDArray[np.uint8]:
        """uint8 RGB: the score over the fraction, a line with intervals per variant."""
        curves: dict[str, list[Point]] = {}
        for row in as_dicts(self.frame):
            point = Point(100 * row["fraction"], row["score"], row["score_low"], row["score_high"])
            curves.setdefault(str(row["variant"]), []).append(point)
        title = f"{self.config.name}: {self.config.side} tiles, {self._about_intervals()}"
        return curves_figure(curves, "labels, %", self.config.metric, title)
