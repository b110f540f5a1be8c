"""What a preparation step consists of: jobs, and what it reports when all are done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


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
    """Do a job; its result has to be of JSON's types. The one function that executors hand to other processes."""
    return job.run()


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a step says when its jobs are done: numbers, files and texts for its run, and lines to print."""

    metrics: Mapping[str, float] = field(default_factory=dict)
    files: Sequence[Path] = ()
    texts: Mapping[str, str] = field(default_factory=dict)
    """Name of an artifact to its text."""
    lines: Sequence[str] = ()
