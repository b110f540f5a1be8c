"""What a preparation step consists of: jobs, and what it reports when all are done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from swath.contents import contents_in_order
from swath.notices import LeftOut, collected


class Job(Protocol):
    """One unit of work: its name, the files that it reads, the files that it leaves, and doing it.

    A job is sent to other processes, and its result is kept as JSON: results name files relative to the step's
    folder, so that the folder may move.

    A job that is decided by more than the step's settings and the contents of its inputs, such as by a row of a
    table, has an attribute `decided_by` besides: that, of JSON's types.
    """

    @property
    def key(self) -> str:
        """Name of the job, its own within the step."""

    @property
    def inputs(self) -> Sequence[Path]:
        """Every file that decides the result."""

    @property
    def outputs(self) -> Sequence[Path]:
        """The files that it leaves."""

    def run(self) -> Any:
        """Do it; the result is of JSON's types."""


@dataclass(frozen=True)
class Done:
    """A job that was done: its result, and the contents of its files, of the inputs as they were before the work."""

    result: Any
    inputs: Sequence[str | None]
    outputs: Sequence[str | None]
    left_out: Sequence[LeftOut] = ()
    """What of its inputs it did not use."""


def run_job(job: Job) -> Done:
    """Do a job. The one function that executors hand to other processes."""
    inputs = contents_in_order(job.inputs)
    with collected() as left_out:
        result = job.run()
    return Done(result, inputs, contents_in_order(job.outputs), left_out)


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a step says when its jobs are done: numbers, files and texts for its run, and lines to print."""

    metrics: Mapping[str, float] = field(default_factory=dict)
    written: Sequence[Path] = ()
    """Files that stay beside the outputs of the jobs, such as a table; without them the step is not done."""
    files: Sequence[Path] = ()
    """Those that the run keeps a copy of."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """Name of an artifact to its text."""
    lines: Sequence[str] = ()
