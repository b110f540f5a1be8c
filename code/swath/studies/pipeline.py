"""A chain of entry points. What is done already, each step is asked itself: a second start does only what is missing."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from swath import config as configs
from swath.config import configclass
from swath.config.command_line import NOT_FIELDS
from swath.config.paths import is_pattern
from swath.errors import ConfigError
from swath.studies.config_patterns import label_of, matching_configs

REFERENCE = re.compile(r"\{([^{}\"':]+)\}")
"""``{name}`` of an earlier step in a parameter."""

PRELOAD = (
    "mlflow.projects.utils",
    "ignite.handlers",
    "geopandas",
    "rasterio.features",
    "cv2",
    "segmentation_models_pytorch",
    "ttach",
    "matplotlib.figure",
)
"""Libraries that most steps import, and that leave the GPU alone when they are imported."""


@configclass
class PipelineStep:
    """One entry point of the chain."""

    entry_point: str
    """Name in MLproject."""
    config_path: str
    """Config file of the step. A pattern, configs/ai4arctic/training_*.py, is a step with each file that it matches: they do
    not depend on each other."""
    parameters: dict[str, str] = field(default_factory=dict)
    """Overrides of config fields; ``{name}`` stands for the run id of the earlier step of that name."""
    name: str | None = None
    """Name of the step; None takes the entry point's."""

    @property
    def label(self) -> str:
        return self.name or self.entry_point


@configclass
class PipelineConfig:
    """Entry points in order, as child runs of one parent run."""

    steps: tuple[PipelineStep, ...]
    """The chain."""
    configs: str | None = None
    """Pattern of config files, such as configs/ai4arctic/training_*.py: a training with each of them instead of `steps`."""
    name: str = "pipeline"
    """Name of the parent run."""
    preload: tuple[str, ...] = PRELOAD
    """Libraries that are imported once; the steps start from there."""
    results: dict[str, str] = field(default_factory=dict)
    """What to print at the end: meaning to path."""
    replace: bool = False
    """Start every step with replace=True: all is made again in place, also where folders hold results of other settings."""


@dataclass(frozen=True)
class Planned:
    """A step of the chain, as it is started."""

    step: PipelineStep
    of_pattern: bool = False
    """Whether it is one of the steps that a pattern stands for."""


def plan_steps(config: PipelineConfig) -> list[Planned]:
    """The steps in order, each pattern as the steps that it stands for, with every config loaded.

    Raises ConfigError for a wrong one, before anything runs.
    """
    planned: list[Planned] = []
    names: set[str] = set()
    for written in config.steps:
        _require_references(written, names)
        for step in steps_of(written):
            fixed = {name: text for name, text in step.parameters.items() if not _references(text)}
            config_of(step.config_path, fixed)
            planned.append(Planned(step, is_pattern(written.config_path)))
            names.add(step.label)
    return planned


def chain_of(config: PipelineConfig) -> PipelineConfig:
    """The chain that is meant: of a config with `configs`, one step that trains with each of these files."""
    if config.configs is None:
        return config
    matching_configs(config.configs)  # an error names the field that was given
    step = PipelineStep(entry_point="training", config_path=config.configs)
    return replace(config, steps=(step,), name=f"pipeline {config.configs}", results={})


def steps_of(step: PipelineStep) -> list[PipelineStep]:
    """A step with each of the files that its config_path matches, named after them. Raises ConfigError for none."""
    if not is_pattern(step.config_path):
        return [step]
    steps = []
    for path in matching_configs(step.config_path, field=f"step {step.label}: config_path"):
        steps.append(replace(step, config_path=path, name=label_of(path)))
    return steps


def config_of(config_path: str, parameters: Mapping[str, str]) -> Any:
    """The config of a step: its file, with the parameters that are fields."""
    settings: Any = configs.load(config_path, object)
    return configs.override_all(settings, [pair for pair in parameters.items() if pair[0] not in NOT_FIELDS])


def _references(text: str) -> list[str]:
    """The names in ``{...}`` of a parameter; a JSON object has quotes there, and names nothing."""
    return REFERENCE.findall(text)


def _require_references(step: PipelineStep, names: Collection[str]) -> None:
    for name, text in step.parameters.items():
        unknown = [label for label in _references(text) if label not in names]
        if unknown:
            raise ConfigError(
                f"step {step.label}: {name}={text} refers to no earlier step {unknown[0]}. "
                f"Earlier steps: {', '.join(sorted(names)) or 'none'}."
            )


def fill_in(parameters: Mapping[str, str], run_ids: Mapping[str, str]) -> dict[str, str]:
    """Parameters with ``{name}`` replaced by that step's run id."""
    return {name: REFERENCE.sub(lambda found: run_ids[found[1]], text) for name, text in parameters.items()}
