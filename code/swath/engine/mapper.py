"""Preparation as an Ignite engine: one pure function per item, through an executor, each result an iteration.

A step keeps a ledger in its output folder: a finished item is not done again, a killed step goes on where it was, and
other settings into the same folder are an error.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from swath.config import StepConfig, digest, leaves, resolve
from swath.engine.executors import SerialExecutor, executor
from swath.errors import StepError, SwathError

if TYPE_CHECKING:
    from ignite.engine import Engine

J = TypeVar("J")


@dataclass(frozen=True, kw_only=True)
class Item(Generic[J]):
    """One unit of work: the job handed to the function, the files it reads and the files it leaves."""

    key: str
    job: J
    inputs: Sequence[Path]
    outputs: Sequence[Path] = ()


class Ledger:
    """What a step has finished in `folder`: a settings file and a line of JSON per finished item."""

    def __init__(self, folder: Path, step: str, settings: Mapping[str, Any], replace: bool = False) -> None:
        """With `replace`, results of other settings are done again in place instead of being an error."""
        self.folder, self.step = folder, step
        self.settings_path = folder / f"{step}.settings.json"
        self.done_path = folder / f"{step}.done.jsonl"
        self.settings = dict(settings)
        self._digest = digest(self.settings)
        if not replace:
            self._check_settings()

    @property
    def differs(self) -> str | None:
        """How the settings in the folder differ from ours, as text; None when they do not, or there are none."""
        if not self.settings_path.is_file():
            return None
        before = json.loads(self.settings_path.read_text())["settings"]
        now = json.loads(json.dumps(self.settings))
        changed = [k for k in sorted({*before, *now}) if before.get(k) != now.get(k)]
        return "; ".join(f"{k}: {before.get(k)} before, {now.get(k)} now" for k in changed) or None

    def _check_settings(self) -> None:
        if self.differs:
            raise StepError(
                f"{self.folder}: holds the result of {self.step} with other settings ({self.differs}). "
                f"Choose another output_path; or delete {self.settings_path.name} and {self.done_path.name} there "
                "to have all of it done again in place."
            )

    def record_settings(self, provenance: Mapping[str, Any]) -> None:
        """Leave the command, versions and every setting beside the outputs."""
        part = self.settings_path.with_suffix(".part")
        with self._writable():
            self.folder.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps({"settings": self.settings} | dict(provenance), indent=2, default=str) + "\n")
            os.replace(part, self.settings_path)

    @contextmanager
    def _writable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StepError(
                f"{self.folder}: {self.step} cannot write its records ({error}). "
                "Free disk space or check the folder's permissions, then start the same command again."
            ) from error

    def finished(self, items: Sequence[Item[Any]]) -> dict[str, Any]:
        """Key to result of the items that need not be done again: same inputs, same settings, outputs in place."""
        lines = self.done_path.read_text().splitlines() if self.done_path.is_file() else []
        done = {entry["key"]: entry for entry in map(_parse, lines) if entry}
        return {
            item.key: done[item.key]["result"]
            for item in items
            if item.key in done
            and done[item.key]["digest"] == self.item_digest(item)
            and all(p.is_file() for p in item.outputs)
        }

    def item_digest(self, item: Item[Any]) -> str:
        """Changes with the settings and with name, size and time of any input, also when one goes missing."""
        return digest({"settings": self._digest, "inputs": [_stamp(path) for path in item.inputs]})

    def add(self, item: Item[Any], result: Any) -> None:
        line = json.dumps({"key": item.key, "digest": self.item_digest(item), "result": result}) + "\n"
        with self._writable(), self.done_path.open("ab+") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
            torn = file.read() not in (b"", b"\n")  # a crash cut the last line short
            file.write(("\n" + line if torn else line).encode())


def _stamp(path: Path) -> list[Any]:
    stat = path.stat() if path.exists() else None
    return [str(path), stat.st_size if stat else None, stat.st_mtime_ns if stat else None]


def _parse(line: str) -> dict[str, Any] | None:
    """A ledger's line; None for one that a crash cut short."""
    try:
        return dict(json.loads(line))
    except json.JSONDecodeError:
        return None


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
