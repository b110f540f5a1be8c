"""Preparation as an Ignite engine: one pure function per item, through an executor, each result an iteration.

A step keeps a ledger in its output folder: a finished item is not done again, a killed step goes on where it was, and
other settings into the same folder are an error.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swath.config import leaves, resolve
from swath.errors import StepError, SwathError
from swath.steps.config import StepConfig
from swath.steps.executors import SerialExecutor, executor
from swath.steps.ledger import Item, J, Ledger

if TYPE_CHECKING:
    from ignite.engine import Engine


NOT_DECISIVE = ("executor", "workers", "output_path")
"""Config fields that do not change what a step writes."""


def process(
    step: str,
    function: Callable[[J], Any],
    items: Sequence[Item[J]],
    config: StepConfig,
    output: Path,
    provenance: Mapping[str, Any],
    log: Callable[[Mapping[str, float], int], None],
    replace: bool = False,
) -> dict[str, Any]:
    """Run a preparation step into `output`; return the result of every item by its key.

    `log(metrics, step)` receives items/s on the way. Raises StepError when `output` holds other settings' results or
    when items failed.
    """
    settings = {k: v for k, v in leaves(resolve(config)).items() if k not in NOT_DECISIVE}
    ledger = Ledger(output, step, settings, replace)
    ledger.record_settings(provenance)

    def on_item(count: int, seconds: float) -> None:
        log({"preparation/items_per_second": count / max(seconds, 1e-6)}, count)

    with executor(config.executor, config.workers) as pool:
        outcome = run_items(function, items, ledger, pool, on_item)
    log(
        {
            "preparation/items": len(items),
            "preparation/done_now": outcome.done_now,
            "preparation/seconds": outcome.seconds,
        },
        0,
    )
    print(
        f"{step}: {outcome.done_now} of {len(items)} items done now, {len(items) - outcome.done_now} before; results in {output}"
    )
    return dict(outcome.results)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a step did: results by item key (done now or before), how many were done now, seconds."""

    results: Mapping[str, Any]
    done_now: int
    seconds: float


def run_items(
    function: Callable[[J], Any],
    items: Sequence[Item[J]],
    ledger: Ledger,
    pool: Executor,
    on_item: Callable[[int, float], None] | None = None,
) -> Outcome:
    """Apply `function` to every item that the ledger does not hold yet.

    An item that fails with a SwathError does not stop the others; when all are through, StepError lists the failed
    ones, and the next start does only these. `on_item(count, seconds)` is called after each item.
    """
    started = time.monotonic()
    results = ledger.finished(items)
    todo = [item for item in items if item.key not in results]
    failed: dict[str, SwathError] = {}

    futures: dict[Future[Any], Item[J]] = {}

    def submit() -> Iterator[Future[Any]]:
        for item in todo:
            future = pool.submit(function, item.job)
            futures[future] = item
            yield future

    def receive(engine: Engine, future: Future[Any]) -> None:
        item = futures[future]
        try:
            results[item.key] = future.result()
        except SwathError as error:
            failed[item.key] = error
        else:
            ledger.add(item, results[item.key])
        if on_item:
            on_item(engine.state.iteration, time.monotonic() - started)

    if todo:
        # a serial executor works while it is asked: each item is in the ledger before the next one starts
        outcomes = submit() if isinstance(pool, SerialExecutor) else as_completed(list(submit()))
        _run(receive, outcomes, len(todo), ledger.step)
    if failed:
        first = "\n  ".join(str(error) for error in list(failed.values())[:10])
        raise StepError(f"{ledger.step}: {len(failed)} of {len(items)} items failed, the others are kept:\n  {first}")
    return Outcome(results=results, done_now=len(todo), seconds=time.monotonic() - started)


def _run(receive: Callable[[Engine, Any], None], outcomes: Iterable[Any], count: int, step: str) -> None:
    """Each outcome an iteration of an engine; Ignite brings PyTorch, so it is imported when there is something to do."""
    from ignite.engine import Engine
    from ignite.handlers import ProgressBar

    engine = Engine(receive)
    if sys.stderr.isatty():
        ProgressBar(desc=step, persist=True).attach(engine)
    engine.run(outcomes, max_epochs=1, epoch_length=count)
