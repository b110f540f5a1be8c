"""A queue to the tracking store that never stops the work, and that one item alone never stops either."""

from __future__ import annotations

import json
import logging
import queue
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from swath import config as configs

log = logging.getLogger("swath.tracking")

Item = TypeVar("Item", Metric, Param)

FIRST_WAIT, LONGEST_WAIT = 0.5, 15.0
"""Seconds until a store that is away is asked again: at first, and at most."""
BATCH = {"metrics": 1000, "params": 100}
"""Values that the store takes at once."""
REFUSAL = "INVALID_PARAMETER_VALUE"
"""Error code with which a store says that it will never take a value; others can follow from its own troubles."""
CALLS = ("metrics", "parameters", "tags", "status")
"""Names of calls that are no files."""
MISSING, ANSWERED = "swath.missing", "swath.store_answered"
"""Tags of a run: what the store did not take, and when it was last asked whether it takes anything."""


@dataclass
class Postponed:
    """An item that fails while the store answers: tried again beside the others for a while."""

    what: str
    call: Callable[[], object]
    since: float


@dataclass
class Delivery:
    """A queue to the tracking store, emptied by a thread of its own.

    Calls that fail because the store is away are tried again, in order, until they succeed. What the store refuses is
    set aside with one message. What fails while the store answers otherwise, such as an artifact that cannot be
    written, is tried again for `patience` seconds while the rest goes on. The tag `swath.missing` lists what is lost.
    """

    run_id: str
    client: MlflowClient
    patience: float = 30.0
    _queue: queue.Queue[tuple[str, Callable[[], object]] | None] = field(default_factory=queue.Queue)
    _metrics: list[Metric] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _give_up: threading.Event = field(default_factory=threading.Event)
    _postponed: list[Postponed] = field(default_factory=list)
    _kept: list[dict[str, Any]] = field(default_factory=list)
    _under_way: str | None = None
    _away: Exception | None = None
    """What the store's client raised at the last try, where the store did not answer."""
    delayed: int = 0
    undelivered: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._tried = time.monotonic()
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
        self._thread.start()

    def put(self, what: str, call: Callable[[], object]) -> None:
        self._queue.put((what, call))

    def put_metrics(self, values: Mapping[str, float], step: int) -> None:
        now = int(time.time() * 1000)
        fresh = [Metric(safe_name(name), float(value), now, step) for name, value in values.items()]
        with self._lock:
            waiting = bool(self._metrics)
            self._metrics += fresh
        if not waiting:
            self.put("metrics", self._send_metrics)

    def put_params(self, params: Sequence[Param]) -> None:
        for start in range(0, len(params), BATCH["params"]):
            part = params[start : start + BATCH["params"]]
            self.put("parameters", lambda part=part: self._send("params", part))  # type: ignore[misc]

    # ------------------------------------------------------------------------------------------------------- sending

    def _send_metrics(self) -> None:
        while True:
            with self._lock:
                batch = self._metrics[: BATCH["metrics"]]
            self._send("metrics", batch)
            with self._lock:
                self._forget(batch)
                if not self._metrics:
                    return

    def _forget(self, sent: Sequence[Metric]) -> None:
        """Take metrics out of those that wait; the lock is held."""
        gone = {id(metric) for metric in sent}
        self._metrics = [metric for metric in self._metrics if id(metric) not in gone]

    def _send(self, kind: str, items: Sequence[Item]) -> None:
        """Send values at once; where the store takes others but not these, by halves, until the bad ones stand alone.

        Raises what the store's client raises when the store is away.
        """
        fault = self._fault(kind, items) if items else None
        if fault is None:
            return
        if len(items) == 1:
            self._set_aside(items[0], fault)
            return
        half = len(items) // 2
        self._send(kind, items[:half])
        self._send(kind, items[half:])

    def _fault(self, kind: str, items: Sequence[Metric] | Sequence[Param]) -> Exception | None:
        """Send values; what the store has against them, which it has to say twice unless it refuses them for good."""
        for last in (False, True):
            try:
                self.client.log_batch(self.run_id, **{kind: list(items)})  # type: ignore[arg-type]
                return None
            except Exception as error:
                if refuses(error):
                    return error
                if not self._answers():
                    raise
                if last:
                    return error
        return None

    def _set_aside(self, item: Metric | Param, error: Exception) -> None:
        """Keep a value that the store does not take; one message for each name."""
        row = {"key": item.key, "value": item.value}
        if isinstance(item, Metric):
            row |= {"step": item.step, "timestamp": item.timestamp}
            with self._lock:
                self._forget([item])
        self._kept.append(row | {"refused": brief(error), "final": refuses(error)})
        what = f"{type(item).__name__.lower()} {item.key}"
        if refuses(error):
            self._refuse(what, error)
        elif what not in self.undelivered:
            self._lose(what, error)

    def _refuse(self, what: str, error: Exception) -> None:
        if what not in self.refused:
            self.refused.append(what)
            log.warning("tracking store refuses %s (%s); it is left out, the rest goes on", _short(what), brief(error))

    # ------------------------------------------------------------------------------------------------------ delivery

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            self._deliver(*item)
            if self._postponed and time.monotonic() - self._tried > LONGEST_WAIT:
                self._try_postponed()
        while self._postponed:
            self._try_postponed()
            if self._postponed:
                self._give_up.wait(FIRST_WAIT)
        self._say_what_is_missing()

    def _deliver(self, what: str, call: Callable[[], object]) -> None:
        self._under_way = what
        if self._give_up.is_set() and self._away is not None:  # the next one would only wait again
            self._lose(what, self._away)
        else:
            self._try_until_taken(what, call)
        self._under_way = None

    def _try_until_taken(self, what: str, call: Callable[[], object]) -> None:
        wait, failed_alone = FIRST_WAIT, False
        while True:
            try:
                call()
                self._away = None
                return
            except Exception as error:  # noqa: BLE001 - no failure of the store may reach the work
                if refuses(error):
                    self._refuse(what, error)
                    return
                if self._give_up.is_set():
                    self._away = error
                    self._lose(what, error)
                    return
                if self._answers():
                    if failed_alone:
                        self._postpone(what, call, error)
                        return
                    failed_alone = True  # the store may have come back this moment
                    continue
                failed_alone, self._away = False, error
                if wait == FIRST_WAIT:
                    self.delayed += 1
                    log.warning("tracking store does not answer (%s); %s kept and sent again later", brief(error), what)
                self._give_up.wait(wait)
                wait = min(2 * wait, LONGEST_WAIT)

    def _answers(self) -> bool:
        """Whether the store writes to the run at this moment: then it is not away, and no other writer holds it."""
        try:
            self.client.set_tag(self.run_id, ANSWERED, str(int(time.time())))
        except Exception:  # noqa: BLE001 - away, whatever it says
            return False
        return True

    def _postpone(self, what: str, call: Callable[[], object], error: Exception) -> None:
        log.warning(
            "tracking store does not take %s (%s); tried again later, the rest goes on", _short(what), brief(error)
        )
        self._postponed.append(Postponed(what, call, time.monotonic()))

    def _try_postponed(self) -> None:
        """Each item that waits once more; one that has failed for long enough is lost."""
        self._tried = time.monotonic()
        todo, self._postponed = self._postponed, []
        for item in todo:
            try:
                item.call()
            except Exception as error:  # noqa: BLE001 - as above
                if refuses(error):
                    self._refuse(item.what, error)
                elif self._give_up.is_set() or time.monotonic() - item.since > self.patience:
                    self._lose(item.what, error)
                else:
                    self._postponed.append(item)

    def _lose(self, what: str, error: Exception) -> None:
        log.warning("tracking store did not take %s (%s)", _short(what), brief(error))
        self.undelivered.append(what)

    def _say_what_is_missing(self) -> None:
        """A tag of the run lists what the store did not take."""
        lost = [*self.refused, *self.undelivered]
        if lost:
            listed = "; ".join(_short(what) for what in lost)
            with suppress(Exception):
                self.client.set_tag(self.run_id, MISSING, listed[:4000])

    # -------------------------------------------------------------------------------------------------------- at the end

    def close(self, seconds: float) -> None:
        """Send what is left for at most `seconds`; then keep the rest in a local file and say so."""
        self._queue.put(None)
        self._thread.join(seconds)
        self._give_up.set()
        self._thread.join(30)
        if self.delayed:
            log.warning("tracking: %d calls had to be sent again", self.delayed)
        if self.incomplete or self.refused:
            self._keep()

    @property
    def incomplete(self) -> bool:
        """Whether something did not arrive, or is still under way, after `close`; what the store refuses does not count."""
        return bool(self.undelivered or self._metrics or self._postponed or self._thread.is_alive())

    @property
    def kept_in(self) -> Path:
        """The local file that lists what did not arrive."""
        return configs.PROJECT_ROOT / "output" / "undelivered" / f"{self.run_id}.jsonl"

    def missing(self) -> str:
        """What did not arrive, after `close`, as text: ``12 metric values, 2 files, parameters``."""
        lost = self._lost()
        values = len(self._metrics) + sum("step" in row for row in self._kept if not row["final"])
        files = [what for what in lost if what not in CALLS and not what.startswith(("metric ", "param "))]
        found = [f"{values} metric values"] * bool(values) + [f"{len(files)} files"] * bool(files)
        if "parameters" in lost or any(what.startswith("param ") for what in lost):
            found.append("parameters")
        return ", ".join(found) or "its last state"

    def _lost(self) -> list[str]:
        """Names of the calls that did not succeed, those that nobody came to among them."""
        waiting = [item[0] for item in list(self._queue.queue) if item]
        under_way = [self._under_way] if self._under_way else []
        return [*self.undelivered, *(item.what for item in self._postponed), *under_way, *waiting]

    def _keep(self) -> None:
        waiting = [{"key": m.key, "value": m.value, "step": m.step, "timestamp": m.timestamp} for m in self._metrics]
        lost = [{"lost": what} for what in self._lost()]
        kept = [{name: value for name, value in row.items() if name != "final"} for row in self._kept]
        rows = [*waiting, *kept, *lost]
        path = self.kept_in
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        except OSError as error:
            log.warning("tracking: %s cannot be written (%s): what did not arrive is lost", path, error)
            return
        log.warning("tracking: %d items of run %s did not arrive; they are listed in %s", len(rows), self.run_id, path)


class Nowhere(Delivery):
    """Takes everything and sends nothing: of several processes of one run, one alone speaks to the store."""

    def __init__(self) -> None:
        self.delayed, self.undelivered, self.refused = 0, [], []

    def put(self, what: str, call: Callable[[], object]) -> None:
        """Dropped."""

    def put_metrics(self, values: Mapping[str, float], step: int) -> None:
        """Dropped."""

    def put_params(self, params: Sequence[Param]) -> None:
        """Dropped."""

    def close(self, seconds: float) -> None:
        """Nothing waits."""

    @property
    def incomplete(self) -> bool:
        return False


def refuses(error: Exception) -> bool:
    """Whether a store has answered that it will never take this, which no outage does."""
    return getattr(error, "error_code", "") == REFUSAL


def safe_name(text: str) -> str:
    """A metric's or parameter's name with the characters that MLflow takes."""
    return re.sub(r"[^/\w.\- :]", "_", text)


def brief(error: Exception) -> str:
    """The first line of an error's text."""
    return str(error).splitlines()[0][:160] if str(error) else type(error).__name__


def _short(what: str) -> str:
    return what if len(what) <= 80 else f"{what[:77]}..."
