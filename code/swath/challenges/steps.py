"""What a challenge's own steps have in common, so that one script starts those of any challenge.

The config of such a step knows its work: an entry point takes any config file that binds one of these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


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


class Work(Protocol):
    """Where results go and who does the work."""

    @property
    def output_path(self) -> str: ...
    @property
    def executor(self) -> str: ...
    @property
    def workers(self) -> int | None: ...


@runtime_checkable
class SceneMaker(Work, Protocol):
    """Config of `generate_demo_scenes`: raw data in a challenge's layout, made up."""

    def scenes_to_make(self, output: Path) -> Sequence[Job]: ...


@runtime_checkable
class SceneImport(Work, Protocol):
    """Config of `import_scenes`: a challenge's files to scenes. The result of a job is its row of scenes.parquet."""

    def scenes_to_import(self, output: Path) -> Sequence[Job]: ...


@dataclass(frozen=True, kw_only=True)
class Submission:
    """What was written to be handed in: the file, what its check found, lines to print, and a picture if there is one."""

    archive: Path
    metrics: Mapping[str, float]
    lines: Sequence[str]
    picture: NDArray[np.uint8] | None = None


@runtime_checkable
class SubmissionWriter(Protocol):
    """Config of `to_submission`: predictions to the file that a challenge takes, reopened and checked."""

    def submit(self) -> Submission: ...
