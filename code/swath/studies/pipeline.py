"""A chain of entry points: what each step depends on, so that a second start does only what is missing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from swath import config as configs
from swath.config import configclass
from swath.errors import ConfigError
from swath.files import files_below
from swath.studies.config_patterns import is_pattern, label_of, matching_configs

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


@dataclass(frozen=True)
class Planned:
    """A step with the digest of everything that decides its result: its own config and all steps before it."""

    step: PipelineStep
    digest: str
    output: str | None
    """Its output_path, when its config has one."""
    place: int
    """Its place in the chain; steps of one pattern share it, and do not depend on each other."""
    of_pattern: bool = False
    """Whether it is one of the steps that a pattern stands for."""

    @property
    def output_is_there(self) -> bool:
        return self.output is None or configs.absolute(self.output).exists()


def plan_steps(config: PipelineConfig) -> list[Planned]:
    """Load every step's config and chain the digests. Raises ConfigError for a wrong config before anything runs."""
    planned: list[Planned] = []
    before, names = "", set[str]()
    for place, written in enumerate(config.steps):
        _require_references(written, names)
        made = [p.output for p in planned if p.output]
        digests: list[str] = []
        for step in steps_of(written):
            parameters = {"config_path": step.config_path} | step.parameters
            own, leaves = digest_of(step.entry_point, parameters, before, made)
            planned.append(Planned(step, own, leaves.get("output_path"), place, is_pattern(written.config_path)))
            digests.append(own)
            names.add(step.label)
        before = digests[0] if len(digests) == 1 else configs.digest(digests)
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


def _require_references(step: PipelineStep, names: set[str]) -> None:
    for name, text in step.parameters.items():
        if "{" in text and not any(f"{{{label}}}" in text for label in names):
            raise ConfigError(
                f"step {step.label}: {name}={text} refers to no earlier step. Earlier steps: {', '.join(sorted(names)) or 'none'}."
            )


def digest_of(
    entry_point: str, parameters: Mapping[str, str], before: str = "", made: Sequence[str] = ()
) -> tuple[str, dict[str, Any]]:
    """(digest of all that decides a step's result, leaves of its config).

    That is its config with the parameters (references such as ``{training}`` as they stand), the steps `before` it, and
    the files in its input folders, other than those in the folders that earlier steps `made`.
    """
    settings: Any = configs.load(parameters["config_path"], object)
    for name, text in parameters.items():
        if name not in ("config_path", "script_path") and "{" not in text:
            settings = configs.override(settings, name, text)
    resolved = configs.resolve(settings)
    leaves = configs.leaves(resolved)
    outside = _outside_inputs(leaves, made)
    said = configs.without_added_fields(resolved)
    return configs.digest([before, entry_point, json.dumps(said, sort_keys=True), dict(parameters), outside]), leaves


def _outside_inputs(leaves: Mapping[str, Any], made: Sequence[str]) -> list[list[Any]]:
    """Name, size and time of all files below the step's input folders that no earlier step makes."""
    fields = [str(v) for k, v in leaves.items() if k.endswith(("_path", "_paths")) and k != "output_path" and v]
    inputs = [configs.absolute(path) for text in fields for path in text.split(";") if path]
    own = [configs.absolute(path) for path in made]
    foreign = [p for p in inputs if p.is_dir() and not any(p.is_relative_to(o) or o.is_relative_to(p) for o in own)]
    return [[str(f), s.st_size, s.st_mtime_ns] for folder in foreign for f in files_below(folder) for s in [f.stat()]]


def fill_in(parameters: Mapping[str, str], run_ids: Mapping[str, str]) -> dict[str, str]:
    """Parameters with ``{name}`` replaced by that step's run id."""
    return {name: text.format(**run_ids) if "{" in text else text for name, text in parameters.items()}
