"""Names of classes and functions that have moved, and of fields that have another name: records, ledgers, resume states
and scripts of users hold them as data.

A name that moved once more gets its newest place here; the old ones stay.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import Any

log = logging.getLogger("swath.config")

MODULES = {
    "swath.challenges.ai4arctic": "swath.challenges.ai4arctic.product",
    "swath.challenges.ai4arctic_charts": "swath.challenges.ai4arctic.charts",
    "swath.challenges.ai4arctic_ice": "swath.challenges.ai4arctic.simulate_ice",
    "swath.challenges.ai4arctic_import": "swath.challenges.ai4arctic.import_scenes",
    "swath.challenges.ai4arctic_scenes": "swath.challenges.ai4arctic.simulate",
    "swath.challenges.ai4arctic_submission": "swath.challenges.ai4arctic.submission",
    "swath.challenges.ai4arctic_tasks": "swath.challenges.ai4arctic.tasks",
    "swath.challenges.demo": "swath.challenges.demo.sentinel1",
    "swath.challenges.demo_scenes": "swath.challenges.demo.simulate",
    "swath.challenges.demo_terrain": "swath.challenges.demo.terrain",
    "swath.challenges.shapefiles": "swath.challenges.unosat.submission",
    "swath.challenges.steps": "swath.challenges.protocols",
    "swath.challenges.unosat": "swath.challenges.unosat.scenes",
    "swath.challenges.unosat_channels": "swath.challenges.unosat.channels",
    "swath.data.blocks": "swath.data.splits.blocks",
    "swath.data.catalog": "swath.data.tables",
    "swath.data.channels": "swath.nn.preprocess.channels",
    "swath.data.crops": "swath.data.augment.random_crop",
    "swath.data.dataset": "swath.data.samples.dataset",
    "swath.data.duplicates": "swath.data.leakage.groups",
    "swath.data.exploration": "swath.eda.overview",
    "swath.data.fingerprints": "swath.data.leakage.fingerprints",
    "swath.data.flags": "swath.data.tiles.quality",
    "swath.data.folds": "swath.data.splits.folds",
    "swath.data.ground": "swath.data.leakage.footprints",
    "swath.data.leaks": "swath.data.leakage.leaks",
    "swath.data.loader": "swath.data.samples.loader",
    "swath.data.moments": "swath.data.running_statistics",
    "swath.data.normalisers": "swath.nn.preprocess.normalise",
    "swath.data.pixels": "swath.eda.pixel_sample",
    "swath.data.probes": "swath.data.leakage.scene_leaks",
    "swath.data.resizing": "swath.nn.resizing",
    "swath.data.samplers": "swath.data.samples.samplers",
    "swath.data.sar": "swath.nn.preprocess.sar",
    "swath.data.shift": "swath.data.splits.shift",
    "swath.data.sources": "swath.data.samples.storage",
    "swath.data.splits": "swath.data.splits.split",
    "swath.data.stats": "swath.data.tiles.statistics",
    "swath.data.subsets": "swath.data.splits.subset",
    "swath.data.tiling": "swath.data.tiles.cutting",
    "swath.data.transforms": "swath.data.augment.transforms",
    "swath.data.warping": "swath.data.augment.resampling",
    "swath.engine.averaging": "swath.training.averaging",
    "swath.engine.batches": "swath.training.batches",
    "swath.engine.checkpoint": "swath.training.checkpoint",
    "swath.engine.combined_table": "swath.scoring.composite",
    "swath.engine.comparison": "swath.scoring.comparison",
    "swath.engine.conditions": "swath.scoring.breakdown",
    "swath.engine.constants": "swath.scoring.baselines",
    "swath.engine.cross_validation": "swath.studies.cross_validation",
    "swath.engine.eda_figures": "swath.eda.figures",
    "swath.engine.eda_report": "swath.eda.report",
    "swath.engine.ensemble": "swath.prediction.ensemble",
    "swath.engine.evaluator": "swath.scoring.evaluate",
    "swath.engine.executors": "swath.steps.executors",
    "swath.engine.folds": "swath.training.sides",
    "swath.engine.inference": "swath.prediction.scenes",
    "swath.engine.label_fractions": "swath.studies.label_fractions",
    "swath.engine.learner": "swath.training.learner",
    "swath.engine.loop": "swath.training.loop",
    "swath.engine.losses_log": "swath.training.loss_log",
    "swath.engine.mapper": "swath.steps.run",
    "swath.engine.maps": "swath.prediction.rasters",
    "swath.engine.meeting": "swath.scoring.alignment",
    "swath.engine.memory": "swath.steps.memory",
    "swath.engine.origins": "swath.scoring.lineage",
    "swath.engine.panels": "swath.figures.pictures",
    "swath.engine.pipeline": "swath.studies.pipeline",
    "swath.engine.postprocess": "swath.prediction.postprocess",
    "swath.engine.pretrain_config": "swath.training.pretrain_config",
    "swath.engine.pretraining": "swath.training.pretraining",
    "swath.engine.ranks": "swath.distributed",
    "swath.engine.records": "swath.training.model_record",
    "swath.engine.score_report": "swath.scoring.report",
    "swath.engine.score_table": "swath.scoring.table",
    "swath.engine.scored_maps": "swath.prediction.scored",
    "swath.engine.scoring": "swath.scoring.scenes",
    "swath.engine.selection": "swath.training.selection",
    "swath.engine.sliding": "swath.prediction.sliding",
    "swath.engine.slurm": "swath.studies.slurm",
    "swath.engine.strips": "swath.prediction.strip_store",
    "swath.engine.thresholds": "swath.prediction.thresholds",
    "swath.engine.trainer": "swath.training.trainer",
    "swath.engine.training_config": "swath.training.config",
    "swath.engine.tta": "swath.nn.tta",
    "swath.engine.unfinished": "swath.training.resume_state",
    "swath.engine.units": "swath.scoring.counts",
    "swath.geo.filters": "swath.geo.morphology",
    "swath.geo.outlines": "swath.geo.tracing",
    "swath.geo.swaths": "swath.geo.tie_points",
    "swath.geo.threads": "swath.steps.prefetch",
    "swath.nn.decoders": "swath.nn.networks.decoders",
    "swath.nn.deeplab": "swath.nn.networks.deeplab",
    "swath.nn.heads": "swath.nn.model",
    "swath.nn.intervals": "swath.scoring.bootstrap",
    "swath.nn.losses": "swath.nn.losses.pixel",
    "swath.nn.lwrefinenet": "swath.nn.networks.lwrefinenet",
    "swath.nn.masked": "swath.nn.networks.masked",
    "swath.nn.metrics": "swath.scoring.metrics",
    "swath.nn.overlap": "swath.nn.losses.overlap",
    "swath.nn.pretrained": "swath.nn.networks.pretrained",
    "swath.nn.regression": "swath.nn.losses.regression",
    "swath.nn.schedules": "swath.training.schedules",
    "swath.nn.transfer": "swath.training.transfer",
    "swath.nn.unet": "swath.nn.networks.unet",
    "swath.nn.valid": "swath.nn.losses.labelled",
    "swath.prediction.tta": "swath.nn.tta",
}
"""Modules of earlier versions that have another name now."""

NAMES = {
    "swath.challenges.shapefiles:AggregateConfig": "swath.prediction.aggregate:AggregateConfig",
    "swath.challenges.shapefiles:MergeTilesConfig": "swath.prediction.merge_tiles:MergeTilesConfig",
    "swath.challenges.shapefiles:PolygonizeConfig": "swath.prediction.polygonize:PolygonizeConfig",
    "swath.challenges.unosat:RasterizeConfig": "swath.challenges.unosat.labels:RasterizeConfig",
    "swath.config:StepConfig": "swath.steps.config:StepConfig",
    "swath.engine.inference:InferenceConfig": "swath.prediction.config:InferenceConfig",
    "swath.engine.scoring:ScoringConfig": "swath.scoring.config:ScoringConfig",
    "swath.engine.scoring:ValidateConfig": "swath.scoring.config:ValidateConfig",
}
"""Classes that a config can hold and that did not go where their module went."""

ADDED_FIELDS: Mapping[str, Mapping[str, Any]] = {
    "swath.challenges.unosat.labels:RasterizeConfig": {"layer": None},
    "swath.data.splits.folds:GroupFolds": {"balance": "rows"},
    "swath.data.tiles.cutting:TilesConfig": {"only": None, "scene_bands": {}},
    "swath.prediction.postprocess:PostprocessConfig": {"mask_layer": None, "scenes_path": None, "impossible": {}},
    "swath.prediction.config:InferenceConfig": {"trust": []},
    "swath.training.config:DataConfig": {"echo": 1},
    "swath.training.config:LearningConfig": {"reproducible": False},
    "swath.training.config:TrainingConfig": {"reproducible": False, "resize": None},
    "swath.training.pretrain_config:PretrainConfig": {"reproducible": False},
    "swath.training.schedules:CosineRestarts": {"growth": 1},
    "swath.training.config:ValidationConfig": {"training_scores": False, "tta": "off", "merge": "mean"},
}
"""Fields that classes got after version 0.2.0, with their defaults: a digest knows them only where they differ."""

FIELDS: dict[str, dict[str, str]] = {
    "swath.eda.overview:EdaConfig": {"backscatter": "decibel"},
}
"""Fields of config classes, by today's name of the class, that have another name now."""

_OLD_MODULES = {new: old for old, new in MODULES.items()}
_OLD_NAMES = {new: old for old, new in NAMES.items()}


def new_name(name: str) -> str:
    """Today's ``module:qualified.name`` of one that a record holds; other texts as they are."""
    if name in NAMES:
        return NAMES[name]
    module, colon, qualified = name.partition(":")
    return f"{MODULES.get(module, module)}{colon}{qualified}" if colon else name


def old_name(name: str) -> str:
    """The ``module:qualified.name`` of version 0.1.0, the inverse of `new_name`; other texts as they are."""
    if name in _OLD_NAMES:
        return _OLD_NAMES[name]
    module, colon, qualified = name.partition(":")
    return f"{_OLD_MODULES.get(module, module)}{colon}{qualified}" if colon else name


def new_field(kind: Any, name: str, known: Collection[str]) -> str:
    """Today's name of a field of a class, with a warning where that is another; other names as they are.

    `known`: the names that the class takes, which stay.
    """
    for one in getattr(kind, "__mro__", (kind,)) if name not in known else ():
        where = f"{getattr(one, '__module__', '')}:{getattr(one, '__qualname__', '')}"
        new = FIELDS.get(where, {}).get(name)
        if new in known:
            log.warning("`%s` of %s is `%s` now", name, where, new)
            return str(new)
    return name


def new_fields(kind: Any, given: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    """Keywords of a class by `new_field`; an old name wins over the new one, which `dataclasses.replace` always gives."""
    new = {name: new_field(kind, name, known) for name in given}
    kept = {name: value for name, value in given.items() if new[name] == name}
    return kept | {new[name]: value for name, value in given.items() if name not in kept}


def with_new_names(value: Any) -> Any:
    """JSON data with `new_name` applied to every text in it, keys apart."""
    return _renamed(value, new_name)


def with_old_names(value: Any) -> Any:
    """JSON data with `old_name` applied to every text in it, keys apart."""
    return _renamed(value, old_name)


def _renamed(value: Any, rename: Any) -> Any:
    if isinstance(value, str):
        return rename(value)
    if isinstance(value, Mapping):
        return {key: _renamed(child, rename) for key, child in value.items()}
    if isinstance(value, (list, tuple)):
        return [_renamed(child, rename) for child in value]
    return value
