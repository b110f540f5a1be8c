"""Configuration of scores and of `validate`."""

from __future__ import annotations

from dataclasses import field

from swath.config import InputPath, configclass
from swath.config.ranges import Count, PositiveCount, Share
from swath.nn.model import Task
from swath.scoring.alignment import Where


@configclass
class ScoringConfig:
    """How scores are broken down, and how their intervals are found."""

    block: PositiveCount = 512
    """Side of the blocks of a scene in pixels, each a unit of its own. Larger than what varies in a scene: blocks that
    are alike make intervals too narrow, and few blocks make them uncertain."""
    confidence: Share = 0.95
    """Share of the resamples that a bootstrap interval holds. The chance that it holds the truth is smaller with few units:
    in simulation 86 % of 95 % intervals over 6 units do, 91 % over 16, 93 % over 40; reports mark those over fewer than 20."""
    resamples: Count = 2000
    """Number of resamples of the bootstrap."""
    seed: Count = 0
    """Seed of the bootstrap."""
    scenes_needed: Count = 10
    """Resample scenes when there are at least so many; with fewer, resample blocks or tiles."""
    conditions: tuple[str, ...] = ("area", "date", "target_share")
    """Columns to break the scores down by: any of `swath.scoring.counts.COLUMNS` or of the table of scenes or tiles."""
    bins: PositiveCount = 4
    """Numeric columns are cut into so many quantiles."""
    grid: Where = "same"
    """Where maps and labels meet: "same", on the one grid that both have to have, or "labels", on that of the labels,
    whose pixels each take the map's value at their middle: a coarse map is then scored at full resolution."""
    combined: dict[str, float] = field(default_factory=dict)
    """Scores and their weights in one mean, logged as <prefix>/combined: {"SIC/r2": 2, "SOD/f1_weighted": 2}. With one
    task without its name: {"iou_fg": 1, "f1_fg": 1}."""


@configclass
class ValidateConfig:
    """Score a folder of predictions against ground truth."""

    preds_path: InputPath
    """Folder of predicted class rasters, of scenes or tiles."""
    gt_path: InputPath
    """Folder of label rasters."""
    name_parts: tuple[str, ...] = ()
    """Parts of file names between underscores that do not matter when the two are paired, such as vh and 3b."""
    tasks: dict[str, Task]
    """Tasks (bands of the rasters) and their classes."""
    run_id: str | None = None
    """Training run of the predictions: scenes that trained it, or selected its weights, are refused. None takes the runs
    that `inference` and the steps after it noted beside the predictions; without any the run is marked as unchecked."""
    allow_selection_set: bool = False
    """Score scenes that the training selected its weights on; the run is then marked as such."""
    scenes_path: InputPath | None = None
    """Folder with a scenes.parquet whose columns become conditions to break the scores down by."""
    compare_with: str | None = None
    """Run id of an inference or validate run on the same labels: differences to its scores are logged with intervals."""
    scoring: ScoringConfig = ScoringConfig()
    """Blocks, intervals, conditions."""
