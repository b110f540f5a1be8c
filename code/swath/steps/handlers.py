"""Handlers of a step's engine: ledger and results, failure policy, speed, progress. Imports Ignite, and so PyTorch."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Protocol, cast

from ignite.engine import Engine, Events
from ignite.handlers import ProgressBar

from swath.errors import StepError, SwathError
from swath.steps.job import Done, Job
from swath.steps.ledger import Ledger

if TYPE_CHECKING:
    from swath.steps.run import Log


class Handler(Protocol):
    """Something that follows an engine whose output is (job, finished future)."""

    def attach(self, engine: Engine) -> None: ...


class KeepResults:
    """Note what succeeded in the ledger and in `results`, at once; collect what failed, and raise it at the end.

    Only a SwathError counts as a job's failure; any other exception stops the step.
    """

    def __init__(self, ledger: Ledger, jobs: int, results: dict[str, Any]) -> None:
        """`jobs`: how many the step has in all."""
        self.ledger, self.jobs, self.results = ledger, jobs, results
        self.failures: list[SwathError] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._keep)
        engine.add_event_handler(Events.COMPLETED, self._report_failures)

    def _keep(self, engine: Engine) -> None:
        job, future = cast(tuple[Job, Future[Done]], engine.state.output)
        try:
            done = future.result()
        except SwathError as error:
            self.failures.append(error)
        else:
            self.results[job.key] = done.result
            self.ledger.add(job, done)

    def _report_failures(self) -> None:
        if not self.failures:
            return
        first = "\n  ".join(str(error) for error in self.failures[:10])
        raise StepError(
            f"{self.ledger.step}: {len(self.failures)} of {self.jobs} items failed, the others are kept:\n  {first}"
        )


class LogSpeed:
    """Log jobs per second since the start, after every job."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.started = 0.0

    def attach(self, engine: Engine) -> None:
        self.started = time.monotonic()
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._log)

    def _log(self, engine: Engine) -> None:
        seconds = max(time.monotonic() - self.started, 1e-6)
        done = engine.state.iteration
        self.log({"preparation/items_per_second": done / seconds}, done)


def step_handlers(ledger: Ledger, jobs: int, results: dict[str, Any], log: Log | None) -> Sequence[Handler]:
    """The handlers of a step of so many `jobs`, of which `results` holds those that were done before."""
    handlers: list[Handler] = [KeepResults(ledger, jobs, results)]
    if log is not None:
        handlers.append(LogSpeed(log))
    if sys.stderr.isatty():
        handlers.append(ProgressBar(desc=ledger.step, persist=True))
    return handlers
