"""A chain of entry points. What is done already, each step is asked itself: a second start does only what is missing."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import field
from typing import Any

from swath import config as configs
from swath.config import configclass
from swath.config.command_line import NOT_FIELDS
from swath.errors import ConfigError

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
    """Config file of the step."""
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
    name: str = "pipeline"
    """Name of the parent run."""
    preload: tuple[str, ...] = PRELOAD
    """Libraries that are imported once; the steps start from there."""
    results: dict[str, str] = field(default_factory=dict)
    """What to print at the end: meaning to path."""
    replace: bool = False
    """Start every step with replace=True: all is made again in place, also where folders hold results of other settings."""


def check_steps(config: PipelineConfig) -> None:
    """Load every step's config. Raises ConfigError for a wrong one, before anything runs."""
    names: set[str] = set()
    for step in config.steps:
        _require_references(step, names)
        fixed = {name: text for name, text in step.parameters.items() if not _references(text)}
        config_of(step.config_path, fixed)
        names.add(step.label)


def config_of(config_path: str, parameters: Mapping[str, str]) -> Any:
    """The config of a step: its file, with the parameters that are fields."""
    settings: Any = configs.load(config_path, object)
    for name, text in parameters.items():
        if name not in NOT_FIELDS:
            settings = configs.override(settings, name, text)
    return settings


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
