"""The config of a preparation step, which knows its jobs: one script starts any of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from swath.config import NotDecisive, absolute, configclass, decisive, inputs_of, relative
from swath.config.ranges import Count
from swath.steps.job import Job, Report
from swath.steps.ledger import Ledger


@configclass
class StepConfig:
    """Where a preparation step's items are worked on; decides nothing about the result."""

    executor: NotDecisive[str] = "threads"
    """Where the work is done: threads, processes, serial, or a cluster: dask://<host>:<port> of its scheduler."""
    workers: NotDecisive[Count | None] = None
    """Number of threads or processes; None takes one per core. A cluster works with all that it has."""
    replace: NotDecisive[bool] = False
    """Make everything again in place, also where output_path holds results of other settings, which is an error else."""


@configclass
class Step(StepConfig, ABC):
    """A preparation step: its jobs, and what follows from their results."""

    step_name: ClassVar[str]
    """Name of the entry point, of the ledger and of the run."""

    @property
    def output(self) -> Path:
        """The folder of the results and of the ledger."""
        return absolute(self.output_path)  # type: ignore[attr-defined]

    def ledger(self) -> Ledger:
        """What the step has finished in its folder."""
        return ledger_of(self.step_name, self, self.output)

    def made_by(self) -> str | None:
        """The id of the run that left what these settings and inputs give, whole and unchanged; None where there is none.

        Raises SwathError where the step could not run.
        """
        return self.ledger().made_by(self.jobs())

    @abstractmethod
    def jobs(self) -> Sequence[Job]:
        """What there is to do. Raises SwathError when inputs are missing or do not fit together."""

    def finish(self, results: Mapping[str, Any]) -> Report:
        """Write what needs the results of all jobs (by key), such as a table; called after every start."""
        return Report()


def ledger_of(step: str, config: Any, output: Path) -> Ledger:
    """The ledger of a step in its folder, under the settings of its config that decide."""
    sources = {name: ";".join(map(relative, places)) for name, places in inputs_of(config).items()}
    return Ledger(output, step, decisive(config), sources)
