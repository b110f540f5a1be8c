"""Predicted maps of a folder against labels: the table of scores that inference logs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import geopandas as gpd

from swath.prediction.rasters import scene_output
from swath.scoring.baselines import constant_guesses
from swath.scoring.config import ScoringConfig
from swath.scoring.scenes import score_scene
from swath.scoring.table import ScoreTable
from swath.training.model_record import ModelRecord


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
