"""A preparation step as an Ignite engine: each outcome of a job is an iteration, handlers do the rest.

A step keeps a ledger in its output folder: a finished job is not done again, a killed step goes on where it was, and
other settings into the same folder are an error unless `replace` is set.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, as_completed
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from swath.interrupt import check_stop
from swath.notices import note
from swath.steps.config import StepConfig
from swath.steps.executors import SerialExecutor, executor
from swath.steps.job import Done, Job, run_job
from swath.steps.ledger import Ledger

if TYPE_CHECKING:
    from swath.steps.handlers import Handler

Log = Callable[[Mapping[str, float], int], None]
"""Takes metrics and a step."""


def run_step(
    ledger: Ledger, jobs: Sequence[Job], config: StepConfig, provenance: Mapping[str, Any], log: Log
) -> dict[str, Any]:
    """Run the jobs of a preparation step that its ledger does not hold yet; return the result of every job by its key.

    `log` receives jobs per second on the way. Raises StepError when the folder holds results of other settings and the
    config does not say `replace`, or when jobs failed.
    """
    ledger.prepare(jobs, config.replace, provenance)
    with executor(config.executor, config.workers) as pool:
        outcome = run_jobs(jobs, ledger, pool, log)
    note(ledger.left_out(jobs))
    counts = {"items": len(jobs), "done_now": outcome.done_now, "seconds": outcome.seconds}
    log({f"preparation/{name}": value for name, value in counts.items()}, 0)
    before = len(jobs) - outcome.done_now
    print(
        f"{ledger.step}: {outcome.done_now} of {len(jobs)} items done now, {before} before; results in {ledger.folder}"
    )
    return dict(outcome.results)


def run_stages(ledger: Ledger, stages: Sequence[Sequence[Job]]) -> dict[str, Any]:
    """Run jobs of which each stage needs what the one before it left, one after the other; `ledger` is prepared.

    Returns the result of every job by its key. Raises StepError when jobs failed; then no later stage is begun.
    """
    results: dict[str, Any] = {}
    done_now = 0
    for jobs in stages:
        outcome = run_jobs(jobs, ledger, SerialExecutor())
        note(ledger.left_out(jobs))
        results |= outcome.results
        done_now += outcome.done_now
    if results:
        before = len(results) - done_now
        print(f"{ledger.step}: {done_now} of {len(results)} items done now, {before} before; in {ledger.folder}")
    return results


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a step did: results by key (done now or before), how many were done now, seconds."""

    results: Mapping[str, Any]
    done_now: int
    seconds: float


def run_jobs(jobs: Sequence[Job], ledger: Ledger, pool: Executor, log: Log | None = None) -> Outcome:
    """Do every job that the ledger does not hold yet; results are in the order of the jobs.

    A job that fails with a SwathError does not stop the others; when all are through, StepError lists the failed ones,
    and the next start does only these.
    """
    started = time.monotonic()
    results = ledger.finished(jobs)
    todo = [job for job in jobs if job.key not in results]
    if todo:
        from swath.steps.handlers import step_handlers  # Ignite brings PyTorch: only when there is something to do

        handlers = step_handlers(ledger, len(jobs), results, log)
        _run(_outcomes(todo, pool), len(todo), handlers)
        results = {job.key: results[job.key] for job in jobs}  # not in the order in which they happened to finish
    return Outcome(results=results, done_now=len(todo), seconds=time.monotonic() - started)


def _outcomes(jobs: Sequence[Job], pool: Executor) -> Iterator[tuple[Job, Future[Done]]]:
    """Each job with its finished future, as they finish. Raises Stopped between two of them when a signal asks for it."""
    if isinstance(pool, SerialExecutor):
        # it works while it is asked: each job is in the ledger before the next one starts
        for job in jobs:
            check_stop()
            yield job, pool.submit(run_job, job)
        return
    job_of = {pool.submit(run_job, job): job for job in jobs}
    for future in as_completed(job_of):
        yield job_of[future], future
        check_stop()


def _run(outcomes: Iterator[tuple[Job, Future[Done]]], count: int, handlers: Sequence[Handler]) -> None:
    from ignite.engine import Engine

    engine = Engine(lambda engine, outcome: outcome)
    for handler in handlers:
        handler.attach(engine)
    engine.run(outcomes, max_epochs=1, epoch_length=count)
