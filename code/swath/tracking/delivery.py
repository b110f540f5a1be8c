"""A queue to the tracking store that never stops the work."""

from __future__ import annotations

import json
import logging
import queue
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from mlflow import MlflowClient
from mlflow.entities import Metric

from swath import config as configs

log = logging.getLogger("swath.tracking")


@dataclass
class Delivery:
    """A queue to the tracking store, emptied by a thread of its own; failed calls are tried again until they succeed."""

    run_id: str
    client: MlflowClient
    _queue: queue.Queue[tuple[str, Callable[[], object]] | None] = field(default_factory=queue.Queue)
    _metrics: list[Metric] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _give_up: threading.Event = field(default_factory=threading.Event)
    delayed: int = 0
    undelivered: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
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

    def _send_metrics(self) -> None:
        with self._lock:
            batch = self._metrics[:1000]
        self.client.log_batch(self.run_id, metrics=batch)
        with self._lock:
            del self._metrics[: len(batch)]
            rest = bool(self._metrics)
        if rest:
            self._send_metrics()

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            self._deliver(*item)

    def _deliver(self, what: str, call: Callable[[], object]) -> None:
        wait = 0.5
        while True:
            try:
                call()
                return
            except Exception as error:  # noqa: BLE001 - no failure of the store may reach the work
                if self._give_up.is_set() or getattr(error, "error_code", "") == "INVALID_PARAMETER_VALUE":
                    log.warning("tracking store does not take %s (%s)", what, brief(error))
                    self.undelivered.append(what)
                    return
                if wait == 0.5:
                    self.delayed += 1
                    log.warning(
                        "tracking store does not answer (%s); %s kept and sent again later",
                        brief(error),
                        what,
                    )
                self._give_up.wait(wait)
                wait = min(2 * wait, 15.0)

    def close(self, seconds: float) -> None:
        """Send what is left for at most `seconds`; then keep the rest in a local file and say so."""
        self._queue.put(None)
        self._thread.join(seconds)
        self._give_up.set()
        self._thread.join(30)
        if self.delayed:
            log.warning("tracking: %d calls had to be sent again", self.delayed)
        if self.incomplete:
            self._keep()

    @property
    def incomplete(self) -> bool:
        """Whether something did not arrive, or is still under way, after `close`."""
        return bool(self.undelivered or self._metrics or self._thread.is_alive())

    def _keep(self) -> None:
        path = configs.PROJECT_ROOT / "output" / "undelivered" / f"{self.run_id}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [{"key": m.key, "value": m.value, "step": m.step, "timestamp": m.timestamp} for m in self._metrics]
        path.write_text(
            "".join(json.dumps(row) + "\n" for row in [*rows, *({"lost": what} for what in self.undelivered)])
        )
        log.warning("tracking store did not come back: %d values of run %s are in %s", len(rows), self.run_id, path)


class Nowhere(Delivery):
    """Takes everything and sends nothing: of several processes of one run, one alone speaks to the store."""

    def __init__(self) -> None:
        self.delayed, self.undelivered = 0, []

    def put(self, what: str, call: Callable[[], object]) -> None:
        """Dropped."""

    def put_metrics(self, values: Mapping[str, float], step: int) -> None:
        """Dropped."""

    def close(self, seconds: float) -> None:
        """Nothing waits."""

    @property
    def incomplete(self) -> bool:
        return False


def safe_name(text: str) -> str:
    """A metric's or parameter's name with the characters that MLflow takes."""
    return re.sub(r"[^/\w.\- :]", "_", text)


def brief(error: Exception) -> str:
    """The first line of an error's text."""
    return str(error).splitlines()[0][:160] if str(error) else type(error).__name__
