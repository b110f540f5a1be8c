"""From a model and a config to maps, and to their scores where there are labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import geopandas as gpd

from swath.config import absolute, decisive, inputs_of
from swath.contents import contents_below
from swath.data.pairing import pair_masks
from swath.data.tables import only_areas, only_where, read_scenes
from swath.distributed import is_main
from swath.errors import SwathError
from swath.geo.raster import describe
from swath.prediction.config import InferenceConfig
from swath.prediction.rasters import scene_output
from swath.prediction.scenes import predict_scenes, prediction_jobs, scene_ledger
from swath.scoring.baselines import constant_guesses
from swath.scoring.config import ScoringConfig
from swath.scoring.held_out import HeldOutCheck, require_held_out
from swath.scoring.scenes import score_scene
from swath.scoring.table import ScoreTable
from swath.training.model_record import ModelRecord


@dataclass(frozen=True, kw_only=True)
class Inferred:
    """What an inference did: how many scenes it has in all and predicted now, and the scores by their prefix."""

    scenes: int
    done_now: int
    tables: Mapping[str, ScoreTable] = field(default_factory=dict)


def infer(
    config: InferenceConfig,
    record: ModelRecord,
    provenance: Mapping[str, Any],
    checked: Callable[[HeldOutCheck], None],
    ready: Callable[[int, Any, Path, Path | None], None],
) -> Inferred:
    """Predict the scenes of a config that are not there yet; with labels, score all of them.

    Every process calls it; only the first scores and calls back: `checked` before anything is predicted, when there are
    labels, and ``ready(number, row, class raster, label raster)`` for every scene, in the order in which they become ready;
    without labels of the scene's size, the last one is None. Raises
    LeakError when the scenes must not be scored, CatalogError for missing scenes or labels.
    """
    scenes = scenes_to_predict(config)
    output = absolute(config.output_path)
    if not is_main():
        return Inferred(scenes=len(scenes), done_now=predict_scenes(config, record, scenes, output))
    labels = _labels(config, scenes)
    notes: tuple[str, ...] = ()
    if labels:
        check = require_held_out(scenes, record.tiles, config.allow_selection_set, config.allow_leaks)
        checked(check)
        notes = check.notes
    numbers = {key: number for number, key in enumerate(scenes["key"])}

    def one(row: Any) -> None:
        classes = scene_output(output, row.area, row.key).classes
        ready(numbers[row.key], row, classes, _of_its_size(classes, labels.get(config.score_prefix, {}).get(row.key)))

    done_now = predict_scenes(config, record, scenes, output, provenance, one)
    tables = {}
    for prefix, masks in labels.items():
        grid = config.scoring.grid if prefix == config.score_prefix else "labels"
        settings = replace(config.scoring, grid=grid)
        tables[prefix] = scored_maps(scenes, masks, output, record, settings, notes)
    return Inferred(scenes=len(scenes), done_now=done_now, tables=tables)


def scenes_to_predict(config: InferenceConfig) -> gpd.GeoDataFrame:
    """The scenes to predict, a row each. Raises CatalogError for areas and values that none has."""
    return only_where(only_areas(read_scenes(absolute(config.input_path)), config.areas), config.only)


def inference_made_by(config: InferenceConfig) -> str | None:
    """The id of the run that left the maps and scores of these settings, whole and unchanged; None where there is none."""
    try:
        ledger = scene_ledger(config, absolute(config.output_path))
        return ledger.made_by(prediction_jobs(config, scenes_to_predict(config)), decides_scores(config))
    except SwathError:
        return None  # the inference itself says what is wrong, when it runs


def complete_inference(config: InferenceConfig, decides: Any, run_id: str, written: Sequence[Path]) -> None:
    """Note in the ledger that `run_id` made all maps that are here now, with the reports `written` beside them.

    `decides`: `decides_scores` as it was before the work.
    """
    ledger = scene_ledger(config, absolute(config.output_path))
    ledger.complete(prediction_jobs(config, scenes_to_predict(config)), run_id, written, decides)


def decides_scores(config: InferenceConfig) -> Any:
    """What decides scores and pictures besides the maps: settings, and the contents of all labels."""
    labels = {name: places for name, places in inputs_of(config).items() if name != "input_path"}
    return [decisive(config), {name: contents_below(places) for name, places in labels.items()}]


def _of_its_size(classes: Path, labels: Path | None) -> Path | None:
    """The labels of a map where they are as large as it; others are finer, or an error that the scores will give."""
    if labels is None or describe(labels).grid.shape != describe(classes).grid.shape:
        return None
    return labels


def _labels(config: InferenceConfig, scenes: gpd.GeoDataFrame) -> dict[str, dict[str, Path]]:
    """Prefix of scores to label raster by scene: those of `labels_path`, then those of `also_score`."""
    if not config.labels_path:
        return {}
    folders = {config.score_prefix: config.labels_path} | config.also_score
    return {prefix: pair_masks(scenes, absolute(folder)) for prefix, folder in folders.items()}


def scored_maps(
    scenes: gpd.GeoDataFrame, labels: Mapping[str, Path], output: Path, record: ModelRecord, settings: ScoringConfig,
    notes: Sequence[str] = (),
) -> ScoreTable:  # fmt: skip
    """The scores of all scenes (rows with key, area, image), beside what simple rules reach on the same pixels.

    These are a constant guess, and, for a single task of two classes on the grid of the scene, one threshold on one band.
    """
    constants = constant_guesses(record.tiles[record.tiles["side"] == "training"], record.tasks)
    table = ScoreTable(record.tasks, settings, list(notes), constants=constants)
    binary = settings.grid == "same" and [task.is_binary for task in record.tasks.values()] == [True]
    for about in scenes.to_dict("records"):
        classes = scene_output(output, about["area"], about["key"]).classes
        image = Path(about["image"]) if binary else None
        found = score_scene(classes, labels[about["key"]], image, record.tasks, settings.block, settings.grid)
        table.add(about["key"], about["area"], found, about)
    return table
