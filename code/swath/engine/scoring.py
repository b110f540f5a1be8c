"""Scenes against their labels: which may be compared, and what is counted. Tables of it are in `score_table`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import geopandas as gpd
import numpy as np
import torch
from numpy.typing import NDArray

from swath.config import configclass
from swath.data.catalog import by_key, place
from swath.data.leaks import Leak, LeakKind, kinds_of
from swath.data.probes import scene_leaks
from swath.engine.meeting import Where, meeting, predicted_at
from swath.errors import CatalogError, ConfigError, LeakError, RasterError
from swath.geo.grid import Grid, Window
from swath.geo.raster import RasterReader, describe
from swath.geo.windows import strips
from swath.labels import IGNORE
from swath.nn.heads import Task
from swath.nn.metrics import THRESHOLD_BINS, best_threshold, confusion_matrices, threshold_histogram

STRIP_PIXELS = 4_000_000


@configclass
class ScoringConfig:
    """How scores are broken down, and how their intervals are found."""

    block: int = 512
    """Side of the blocks of a scene in pixels, each a unit of its own. Larger than what varies in a scene: blocks that
    are alike make intervals too narrow, and few blocks make them uncertain."""
    confidence: float = 0.95
    """Share of the resamples that an interval holds."""
    resamples: int = 2000
    """Number of resamples of the bootstrap."""
    seed: int = 0
    """Seed of the bootstrap."""
    scenes_needed: int = 10
    """Resample scenes when there are at least so many; with fewer, resample blocks or tiles."""
    conditions: tuple[str, ...] = ("area", "date", "target_share")
    """Columns to break the scores down by: any of `swath.engine.units.COLUMNS` or of the table of scenes or tiles."""
    bins: int = 4
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

    preds_path: str
    """Folder of predicted class rasters, of scenes or tiles."""
    gt_path: str
    """Folder of label rasters; _vh_, _vv_ and _3b_ in names do not matter when the two are paired."""
    tasks: dict[str, Task]
    """Tasks (bands of the rasters) and their classes."""
    run_id: str | None = None
    """Training run of the predictions: scenes that trained it, or selected its weights, are refused. None takes the runs
    that `inference` and the steps after it noted beside the predictions; without any the run is marked as unchecked."""
    allow_selection_set: bool = False
    """Score scenes that the training selected its weights on; the run is then marked as such."""
    scenes_path: str | None = None
    """Folder with a scenes.parquet whose columns become conditions to break the scores down by."""
    compare_with: str | None = None
    """Run id of an inference or validate run on the same labels: differences to its scores are logged with intervals."""
    scoring: ScoringConfig = ScoringConfig()
    """Blocks, intervals, conditions."""


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


@dataclass(frozen=True)
class SceneScore:
    """Confusion matrices of a scene by block, and histograms for the best single-band threshold of the first task."""

    blocks: dict[str, NDArray[np.int64]]
    """By task: (block rows, block columns, K, K)."""
    grid: Grid
    block: int
    """Side of the blocks in pixels; those at the right and lower edge are smaller."""
    histograms: dict[str, NDArray[np.int64]]

    @property
    def matrices(self) -> dict[str, NDArray[np.int64]]:
        """The whole scene's confusion matrix by task."""
        return {task: blocks.sum((0, 1)) for task, blocks in self.blocks.items()}

    @property
    def is_one_block(self) -> bool:
        return max(self.grid.shape) <= self.block

    def windows(self) -> Iterator[tuple[tuple[int, int], Window]]:
        """Each block's position among the blocks and its window in the scene."""
        for i, row in enumerate(range(0, self.grid.shape[0], self.block)):
            for j, col in enumerate(range(0, self.grid.shape[1], self.block)):
                yield (i, j), Window(row, col, self.block, self.block).intersect(self.grid.window)


EDGES = np.linspace(-50.0, 20.0, THRESHOLD_BINS + 1)
"""Edges of the threshold histograms: dB, for bands of linear backscatter."""


def score_scene(
    classes: Path, labels: Path, image: Path | None, tasks: Mapping[str, Task], block: int = 512,
    on: Where = "same",
) -> SceneScore:  # fmt: skip
    """Compare a predicted scene with its labels, strip by strip, and count by blocks of `block` pixels.

    Raises RasterError when the two are not on one grid (or, `on` "labels", do not cover the same ground), ConfigError
    for blocks without pixels. Pixels predicted as nodata count as class 0: a map that leaves out labelled ground is not
    forgiven.
    """
    if block < 1:
        raise ConfigError(f"scoring.block={block}: blocks need at least one pixel, such as 512")
    grid = describe(labels).grid
    at = meeting(classes, labels, on)
    rows, cols = (-(-length // block) for length in grid.shape)
    blocks = {name: np.zeros((rows, cols, len(t.classes), len(t.classes)), np.int64) for name, t in tasks.items()}
    column = torch.arange(grid.shape[1])[None] // block
    histograms: dict[str, NDArray[np.int64]] = {}
    with ExitStack() as stack:
        predicted, truth = (stack.enter_context(RasterReader(path)) for path in (classes, labels))
        source = stack.enter_context(RasterReader(image)) if image else None
        for strip in _strips_of_blocks(grid.shape, block):
            p, t = predicted_at(predicted, strip, at), truth.labels(strip)
            for name, task in tasks.items():
                band, guess = _band_of(truth, name), p[_band_of(predicted, name)]
                pair = torch.from_numpy(np.where(guess == IGNORE, 0, guess)), torch.from_numpy(t[band])
                counts = confusion_matrices(*pair, len(task.classes), column, cols)
                blocks[name][strip.row // block] += counts.numpy()
            if source is not None:
                _add_histograms(histograms, source, strip, t[0])
    return SceneScore(blocks, grid, block, histograms)


def _strips_of_blocks(shape: tuple[int, int], block: int) -> Iterator[Window]:
    """Strips of bounded size, none of which reaches over two rows of blocks."""
    for row in range(0, shape[0], block):
        for strip in strips((min(block, shape[0] - row), shape[1]), STRIP_PIXELS):
            yield Window(row + strip.row, 0, strip.height, strip.width)


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


SCORED_ON = "swath.scored_on"
"""Tag of a run: ``held-out``, ``selection set`` or ``unchecked``; the last two stand in the run's name, too."""


class Fairness(NamedTuple):
    """What scored scenes are to a model: whether they selected its weights, and which leaks were let pass."""

    selection_set: bool
    leaks: tuple[LeakKind, ...] = ()


def fairness_tags(name: str, selection_set: bool | None, leaks: Sequence[LeakKind] = ()) -> dict[str, str]:
    """Tags that say what a run was scored on; `selection_set` None means that nobody could tell."""
    if leaks:
        kinds = ", ".join(leaks)
        return {SCORED_ON: "leaking scenes", "swath.leaks": kinds, "mlflow.runName": f"{name} (leaks allowed)"}
    what = {True: "selection set", False: "held-out", None: "unchecked"}[selection_set]
    marked = {True: f"{name} (scored on the selection set)", False: name, None: f"{name} (ground unchecked)"}
    return {SCORED_ON: what, "mlflow.runName": marked[selection_set]}


def fairness_notes(selection_set: bool | None, reason: str = "", leaks: Sequence[LeakKind] = ()) -> list[str]:
    """The same as sentences for the report; `reason` says why nobody could tell."""
    if leaks:
        return [f"These scenes leak from the training of the model ({', '.join(leaks)}): the scores are flattered."]
    if selection_set is None:
        return [f"Whether these scenes trained the model was not checked: {reason}"]
    return ["These scenes selected the weights of the model: the scores are flattered."] if selection_set else []


def footprints_of(pairs: Pairs) -> gpd.GeoDataFrame:
    """Key, scene and ground of the paired rasters, for `require_fair`."""
    rows = [
        {"key": key, "scene": key.partition("/")[0], **place(describe(labels))}
        for key, (_, labels) in pairs.found.items()
    ]
    systems = {row.pop("geometry_crs") for row in rows}
    return gpd.GeoDataFrame(rows, geometry="geometry", crs=systems.pop() if len(systems) == 1 else None)


def require_fair(
    scenes: gpd.GeoDataFrame,
    used: gpd.GeoDataFrame,
    allow_selection_set: bool,
    allow_leaks: bool | Collection[LeakKind] = False,
) -> Fairness:
    """Check that scored scenes have nothing in common with the training: name, ground, area, and pixels where both
    tables know them (see `swath.data.probes.scene_leaks`).

    Raises LeakError when a scene trained the model, in ways that `allow_leaks` does not let pass, or selected its
    weights without `allow_selection_set`.
    """
    leaks = {side: scene_leaks(scenes, used[used["side"] == side]) for side in ("training", "validation")}
    refused = [leak for leak in leaks["training"] if allow_leaks is not True and leak.kind not in (allow_leaks or ())]
    if refused:
        raise LeakError(
            f"{_named(refused)}: trained this model, so a score on it says nothing. Score other scenes, or leave labels_path "
            "out; with allow_leaks inference goes on and marks its run."
        )
    if leaks["validation"] and not allow_selection_set:
        raise LeakError(
            f"{_named(leaks['validation'])}: selected the weights of this model, so a score on it is flattered. "
            "Score other scenes, or set allow_selection_set=True: the run is then marked."
        )
    return Fairness(bool(leaks["validation"]), kinds_of(leaks["training"]))


def _named(leaks: Sequence[Leak]) -> str:
    """Scenes with the ways in which they leak: ``scene_a (same scene, shared ground), ...``, at most five."""
    ways: dict[str, list[str]] = {}
    for leak in leaks:
        if leak.kind not in ways.setdefault(leak.b, []):
            ways[leak.b].append(leak.kind)
    return ", ".join(f"{key} ({', '.join(kinds)})" for key, kinds in list(ways.items())[:5])
