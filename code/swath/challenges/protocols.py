"""What a challenge's own steps have in common, so that one script starts those of any challenge.

The config of such a step knows its work: an entry point takes any config file that binds one of these.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from swath.config import configclass
from swath.steps.config import StepConfig


class Job(Protocol):
    """One unit of work: its name, the files that it reads, the files that it leaves, and doing it."""

    @property
    def key(self) -> str: ...
    @property
    def inputs(self) -> Sequence[Path]: ...
    @property
    def outputs(self) -> Sequence[Path]: ...
    def run(self) -> Any: ...


def run_job(job: Job) -> Any:
    """Do a job: the one function that an executor has to find in other processes."""
    return job.run()


@configclass
class SceneMaker(StepConfig, ABC):
    """Config of `generate_demo_scenes`: raw data in a challenge's layout, made up. Each challenge has a class of its own."""

    output_path: str
    """Folder of the data."""

    @abstractmethod
    def scenes_to_make(self, output: Path) -> Sequence[Job]:
        """A job per scene or area."""


@configclass
class SceneImport(StepConfig, ABC):
    """Config of `import_scenes`: a challenge's files to scenes. Each challenge has a class of its own."""

    output_path: str
    """Folder for scenes.parquet and the rasters that it lists."""

    @abstractmethod
    def scenes_to_import(self, output: Path) -> Sequence[Job]:
        """A job per scene; its result is its row of scenes.parquet."""


@dataclass(frozen=True, kw_only=True)
class Submission:
    """What was written to be handed in: the file, what its check found, lines to print, and a picture if there is one."""

    archive: Path
    metrics: Mapping[str, float]
    lines: Sequence[str]
    picture: NDArray[np.uint8] | None = None


@configclass
class SubmissionWriter(ABC):
    """Config of `to_submission`: predictions to the file that a challenge takes. Each challenge has a class of its own."""

    @abstractmethod
    def submit(self) -> Submission:
        """Write the file, reopen and check it."""
