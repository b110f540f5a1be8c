"""From a model and a config to maps, and to their scores where there are labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import geopandas as gpd

from swath.config import absolute, decisive, inputs_of
from swath.contents import contents_below
from swath.data.pairing import labels_in_table, pair_masks
from swath.data.scene_image import SceneImage
from swath.data.tables import Row, only_areas, only_where, read_scenes, require_files
from swath.distributed import is_main
from swath.errors import ConfigError
from swath.geo.raster import describe
from swath.geo.zones import Zones, find_zones
from swath.prediction.config import InferenceConfig
from swath.prediction.rasters import scene_output
from swath.prediction.scenes import predict_scenes, prediction_jobs, scene_ledger
from swath.scoring.alignment import align
from swath.scoring.baselines import constant_guesses
from swath.scoring.config import ScoringConfig
from swath.scoring.decisions import require_not_tuned
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
    rows: gpd.GeoDataFrame | None = None
    """The scenes, on the first process."""
    decides: Any = None
    """`decides_scores`, as it was before the work, on the first process."""


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
    without labels of the scene's size, the last one is None. Raises LeakError when the scenes must not be scored,
    CatalogError for missing scenes or labels, ConfigError for labels whose scores would be lost (see `label_folders`).
    """
    folders = label_folders(config)
    scenes = _scenes_at_hand(config)
    output = absolute(config.output_path)
    if not is_main():
        return Inferred(scenes=len(scenes), done_now=predict_scenes(config, record, scenes, output))
    decides = decides_scores(config)
    labels = {prefix: pair_masks(scenes, absolute(folder)) for prefix, folder in folders.items()}
    notes: tuple[str, ...] = ()
    if labels:
        check = _check(config, scenes, record)
        checked(check)
        notes = check.notes
        _require_one_grid(config, scenes, labels[config.score_prefix])
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
    return Inferred(scenes=len(scenes), done_now=done_now, tables=tables, rows=scenes, decides=decides)


def _check(config: InferenceConfig, scenes: gpd.GeoDataFrame, record: ModelRecord) -> HeldOutCheck:
    """What the scenes are to the model and to the threshold; LeakError when they must not be scored."""
    check = require_held_out(scenes, record.tiles, config.allow_selection_set, config.allow_leaks)
    return check.joined(require_not_tuned(scenes["key"], config.tuned_on, config.allow_selection_set))


def _require_one_grid(config: InferenceConfig, scenes: gpd.GeoDataFrame, masks: Mapping[str, Path]) -> None:
    """Raise RasterError for labels that do not lie on their scene's pixels, before hours of predicting, not after."""
    for scene in scenes.itertuples():
        if scene.key in masks:
            align(Path(str(scene.image)), masks[str(scene.key)], config.scoring.grid)


def scenes_to_predict(config: InferenceConfig) -> gpd.GeoDataFrame:
    """The scenes to predict, a row each. Raises CatalogError for areas and values that none has."""
    return only_where(only_areas(read_scenes(absolute(config.input_path)), config.areas), config.only)


def _scenes_at_hand(config: InferenceConfig) -> gpd.GeoDataFrame:
    """`scenes_to_predict`. Raises CatalogError, which names the table, when rasters of them are not there."""
    scenes = scenes_to_predict(config)
    remedy = "Correct its table, or run the step that makes the scenes again."
    require_files(scenes, absolute(config.input_path), remedy, ["image"])
    return scenes


def inference_made_by(config: InferenceConfig) -> str | None:
    """The id of the run that left the maps and scores of these settings, whole and unchanged; None where there is none."""
    ledger = scene_ledger(config, absolute(config.output_path))
    return ledger.made_by(prediction_jobs(config, scenes_to_predict(config)), decides_scores(config))


def complete_inference(config: InferenceConfig, found: Inferred, run_id: str, written: Sequence[Path]) -> None:
    """Note in the ledger that `run_id` left what was `found`, with the reports `written` beside the maps."""
    if found.rows is None:
        return
    ledger = scene_ledger(config, absolute(config.output_path))
    ledger.complete(prediction_jobs(config, found.rows), run_id, written, found.decides)


def decides_scores(config: InferenceConfig) -> Any:
    """What decides scores and pictures besides the maps: settings, and the contents of all labels."""
    labels = {name: places for name, places in inputs_of(config).items() if name != "input_path"}
    files = {
        name: [*places, *(path for place in places for path in labels_in_table(place).values())]
        for name, places in labels.items()
    }
    return [decisive(config), {name: contents_below(places) for name, places in files.items()}]


def _of_its_size(classes: Path, labels: Path | None) -> Path | None:
    """The labels of a map where they are as large as it; others are finer, or an error that the scores will give."""
    if labels is None or describe(labels).grid.shape != describe(classes).grid.shape:
        return None
    return labels


TAKEN = ("classes", "probabilities", "baseline", "inference")
"""Names that `also_score` cannot give: folders of the maps, and first parts of metrics that stand for something else."""


def label_folders(config: InferenceConfig) -> dict[str, str]:
    """Prefix of scores to folder of labels: that of `labels_path`, then those of `also_score`; empty without labels.

    Raises ConfigError for `also_score` without `labels_path`, and for a name in it that stands for other scores or files.
    """
    also = config.also_score
    if not config.labels_path:
        if also:
            name, folder = next(iter(also.items()))
            raise ConfigError(
                f"also_score.{name}={folder}: nothing is scored without labels_path. "
                f"Set labels_path={folder}, or both, or leave also_score out (-P also_score={{}})."
            )
        return {}
    for name, folder in also.items():
        if name == config.score_prefix:
            raise ConfigError(
                f"also_score.{name}={folder}: {name} is the score_prefix of the labels in labels_path={config.labels_path}, "
                "whose scores these would replace. Give one of the two another name, such as score_prefix=own."
            )
        if not name or name in TAKEN or Path(name).name != name:
            raise ConfigError(
                f"also_score.{name}={folder}: no name for scores: their reports go to <output_path>/<name>, their metrics "
                f"to <name>/..., and {', '.join(TAKEN)} are used already. Take a name such as official."
            )
    return {config.score_prefix: config.labels_path, **also}


def scored_maps(
    scenes: gpd.GeoDataFrame, labels: Mapping[str, Path], output: Path, record: ModelRecord, settings: ScoringConfig,
    notes: Sequence[str] = (),
) -> ScoreTable:  # fmt: skip
    """The scores of all scenes (rows with key, area, image), beside what simple rules reach on the same pixels.

    Labels where a scene has zones without a measurement do not count, as they do not in tiles. The rules are a constant guess, and, for a single task of two classes on the grid of the scene, one threshold on one band.
    """
    constants = constant_guesses(record.tiles[record.tiles["side"] == "training"], record.tasks)
    table = ScoreTable(record.tasks, settings, list(notes), constants=constants)
    binary = settings.grid == "same" and [task.is_binary for task in record.tasks.values()] == [True]
    for about in scenes.to_dict("records"):
        classes = scene_output(output, about["area"], about["key"]).classes
        image = about if binary else None
        missing, truth = missing_zones(about, record), labels[about["key"]]
        found = score_scene(classes, truth, image, record.tasks, settings.block, settings.grid, missing)
        table.add(about["key"], about["area"], found, about)
    return table


def missing_zones(about: Row, record: ModelRecord) -> Zones | None:
    """The zones without a measurement of a scene, a row with its `image`; None where the model knows of none."""
    if record.missing_zones is None:
        return None
    with SceneImage.of(about).reader() as reader:
        order = reader.info.numbers_of(record.measured_bands, f"The model was trained on {', '.join(record.bands)}.")
        return find_zones(partial(reader.image, bands=order), reader.info.grid.shape, record.missing_zones)
