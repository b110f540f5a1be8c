"""The config of a preparation step, which knows its jobs: one script starts any of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from swath.config.classes import configclass
from swath.config.paths import absolute
from swath.steps.job import Job, Report


@configclass
class StepConfig:
    """Where a preparation step's items are worked on; decides nothing about the result."""

    executor: str = "threads"
    """Where the work is done: threads, processes, serial, or a cluster: dask://<host>:<port> of its scheduler."""
    workers: int | None = None
    """Number of threads or processes; None takes one per core. A cluster works with all that it has."""


@configclass
class Step(StepConfig, ABC):
    """A preparation step: its jobs, and what follows from their results."""

    step_name: ClassVar[str]
    """Name of the entry point, of the ledger and of the run."""
    replaces_other_settings: ClassVar[bool] = False
    """Whether results of other settings are done again in place instead of being an error."""

    @property
    def output(self) -> Path:
        """The folder of the results and of the ledger."""
        return absolute(self.output_path)  # type: ignore[attr-defined]

    @abstractmethod
    def jobs(self) -> Sequence[Job]:
        """What there is to do. Raises SwathError when inputs are missing or do not fit together."""

    def finish(self, results: Mapping[str, Any]) -> Report:
        """Write what needs the results of all jobs (by key), such as a table; called after every start."""
        return Report()
