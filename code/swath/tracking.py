"""Runs, and what they record. The only module that imports mlflow.

Metrics, images and files go through a queue to the tracking store, with retries: a store that is away for a while
delays them and never stops the work. What cannot be delivered in the end is kept in a local file and reported.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

os.environ.setdefault(
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2"
)  # the queue below retries for longer, and without blocking
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")

import mlflow
import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from numpy.typing import NDArray

from swath import config as configs
from swath.errors import SwathError, TrackingError

log = logging.getLogger("swath.tracking")

BUNDLE = "bundle"
PACKAGES = (
    "torch",
    "torchvision",
    "pytorch-ignite",
    "segmentation-models-pytorch",
    "timm",
    "mlflow",
    "rasterio",
    "numpy",
)
FLUSH_SECONDS = 120.0
PARAM_LENGTH = 500


class Stopped(KeyboardInterrupt):
    """SIGTERM arrived: handled as Ctrl-C everywhere, so that files, runs and child processes are cleaned up."""


# ------------------------------------------------------------------------------------------------------------- script


def cli(main: Callable[[], None]) -> int:
    """Run a script's `main`: errors that a person can act on are printed alone, and every failure has an exit status."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    _quiet_libraries()
    signal.signal(signal.SIGTERM, _stop)
    try:
        main()
    except SwathError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped: what was finished is kept; start the same command again to go on", file=sys.stderr)
        return 130
    return 0


def _stop(number: int, frame: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second signal must not cut the clean-up short
    raise Stopped


def _quiet_libraries() -> None:
    for name in ("alembic", "mlflow.store.db.utils", "urllib3", "rasterio._env", "pyogrio._io", "ignite"):
        logging.getLogger(name).setLevel(logging.ERROR)


# -------------------------------------------------------------------------------------------------------------- queue


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
        fresh = [Metric(_name(name), float(value), now, step) for name, value in values.items()]
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
                    log.warning("tracking store does not take %s (%s)", what, _brief(error))
                    self.undelivered.append(what)
                    return
                if wait == 0.5:
                    self.delayed += 1
                    log.warning(
                        "tracking store does not answer (%s); %s kept and sent again later",
                        _brief(error),
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


def _name(text: str) -> str:
    """A metric's or parameter's name with the characters that MLflow takes."""
    return re.sub(r"[^/\w.\- :]", "_", text)


def _brief(error: Exception) -> str:
    return str(error).splitlines()[0][:160] if str(error) else type(error).__name__


# ---------------------------------------------------------------------------------------------------------------- run


@dataclass(frozen=True)
class Run:
    """One run: everything logged here arrives in the dashboard, now or as soon as the store answers."""

    id: str
    experiment_id: str
    client: MlflowClient
    delivery: Delivery
    scratch: Path

    @property
    def complete(self) -> bool:
        """After the run: whether the store has everything that was logged."""
        return not self.delivery.incomplete

    def log_metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        self.delivery.put_metrics(values, step)

    def log_params(self, values: Mapping[str, Any]) -> None:
        """Log parameters; texts longer than the store takes are cut, the bundle holds them whole."""
        params = [Param(_name(name), str(value)[:PARAM_LENGTH]) for name, value in values.items()]
        for start in range(0, len(params), 100):
            self.delivery.put("parameters", partial(self.client.log_batch, self.id, params=params[start : start + 100]))

    def set_tags(self, values: Mapping[str, Any]) -> None:
        tags = [RunTag(name, str(value)[:4000]) for name, value in values.items()]
        self.delivery.put("tags", lambda: self.client.log_batch(self.id, tags=tags))

    def log_file(self, path: Path, folder: str | None = None) -> None:
        """Log a copy of `path` as it is now, so that the caller may change or delete it at once."""
        copy = Path(tempfile.mkdtemp(dir=self.scratch)) / path.name
        shutil.copyfile(path, copy)
        self.delivery.put(path.name, lambda: self.client.log_artifact(self.id, str(copy), folder))

    def log_text(self, text: str, artifact: str) -> None:
        self.delivery.put(artifact, lambda: self.client.log_text(self.id, text, artifact))

    def log_image(self, image_HWC: NDArray[np.uint8], key: str, step: int) -> None:
        """A picture that the dashboard shows by step, beside those of other runs."""
        self.delivery.put(key, lambda: self.client.log_image(self.id, image_HWC, key=key, step=step, synchronous=True))

    def log_picture(self, image_HWC: NDArray[np.uint8], artifact: str) -> None:
        """A picture as a file among the run's artifacts."""
        self.delivery.put(artifact, lambda: self.client.log_image(self.id, image_HWC, artifact_file=artifact))


@contextmanager
def run(config: Any, config_path: str, name: str | None = None, kind: str = "preparation") -> Iterator[Run]:
    """A run for the length of a block, with the bundle that reproduces it; its status says how the block ended.

    FINISHED at its end, KILLED on Ctrl-C or SIGTERM, FAILED on any other exception. Joins the run that
    ``mlflow run`` created. Raises TrackingError when the store does not answer at the start.
    """
    _default_store()
    try:
        active = mlflow.start_run(run_name=name, log_system_metrics=False)
    except Exception as error:
        raise TrackingError(
            f"tracking store {mlflow.get_tracking_uri()} does not answer ({_brief(error)}). "
            "Start it, or unset MLFLOW_TRACKING_URI to use the project's own mlflow.db."
        ) from error
    client = MlflowClient()
    scratch = Path(tempfile.mkdtemp(prefix="swath-run-"))
    delivery = Delivery(active.info.run_id, client)
    handle = Run(active.info.run_id, active.info.experiment_id, client, delivery, scratch)
    status, reason = "FAILED", ""
    try:
        _log_bundle(handle, config, config_path, kind)
        if name:
            handle.set_tags({"mlflow.runName": name})
        yield handle
        status = "FINISHED"
    except KeyboardInterrupt:
        status, reason = "KILLED", "stopped by a signal"
        raise
    except BaseException as error:
        reason = f"{type(error).__name__}: {error}"
        raise
    finally:
        _finish(handle, status, reason)


def _finish(handle: Run, status: str, reason: str) -> None:
    if reason:
        handle.set_tags({"swath.reason": reason})
    handle.delivery.put("status", lambda: handle.client.set_terminated(handle.id, status))
    handle.delivery.close(FLUSH_SECONDS)
    with suppress(Exception):
        mlflow.end_run(status)
    if handle.delivery.incomplete:
        kept = configs.PROJECT_ROOT / "output" / "undelivered" / handle.id
        shutil.copytree(handle.scratch, kept, dirs_exist_ok=True)
        log.warning("files of the run are kept in %s", kept)
    shutil.rmtree(handle.scratch, ignore_errors=True)


def _default_store() -> None:
    """Without a store of the user's choice: mlflow.db and mlruns/ in the project root, from whatever folder we start."""
    if not mlflow.is_tracking_uri_set():
        mlflow.set_tracking_uri(f"sqlite:///{configs.PROJECT_ROOT / 'mlflow.db'}")


# ------------------------------------------------------------------------------------------------------------- bundle


def provenance(config_path: str) -> dict[str, Any]:
    """Command, commit and versions: what else than the config decides a result."""
    return {
        "command": shlex.join([Path(sys.executable).name, *sys.argv]),
        "config_path": config_path,
        "commit": _git("rev-parse", "HEAD").strip() or "unknown",
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Versions of Python, the packages that decide results, and GDAL."""
    found = {"python": sys.version.split()[0]}
    for package in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    with suppress(ImportError):
        from rasterio import __gdal_version__

        found["gdal"] = __gdal_version__
    return found


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=configs.PROJECT_ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _log_bundle(handle: Run, config: Any, config_path: str, kind: str) -> None:
    resolved = configs.resolve(config)
    about = provenance(config_path)
    handle.log_params({f"cfg.{k}": v for k, v in configs.leaves(resolved).items()})
    handle.set_tags({"swath.kind": kind, "swath.config": config_path, "swath.commit": about["commit"]})
    handle.log_text(json.dumps(resolved, indent=2) + "\n", f"{BUNDLE}/config.json")
    handle.log_text(json.dumps(about, indent=2) + "\n", f"{BUNDLE}/provenance.json")
    handle.log_text(_git("diff", "HEAD") or "no uncommitted changes\n", f"{BUNDLE}/uncommitted.diff")
    for source in configs.sources(config_path):
        if source.is_file():
            handle.log_file(source, f"{BUNDLE}/sources")


# ---------------------------------------------------------------------------------------------------------- other runs


def fetch(run_id: str, artifact: str, folder: Path) -> Path:
    """Download one artifact of a run into `folder`. Raises TrackingError when the run or the artifact is not there."""
    _default_store()
    client = MlflowClient()
    _require_run(client, run_id)
    try:
        return Path(client.download_artifacts(run_id, artifact, str(folder)))
    except (MlflowException, OSError) as error:
        have = ", ".join(f.path for f in client.list_artifacts(run_id)) or "none"
        raise TrackingError(
            f"run {run_id} has no artifact {artifact} (it has: {have}; {_brief(error)}). Pass the id of a finished training run."
        ) from error


def _require_run(client: MlflowClient, run_id: str) -> Any:
    try:
        return client.get_run(run_id)
    except MlflowException as error:
        raise TrackingError(
            f"run_id={run_id}: no such run in {mlflow.get_tracking_uri()}. Copy the id from the dashboard (`make ui`), "
            "or check MLFLOW_TRACKING_URI."
        ) from error


def metrics_of(run_id: str) -> dict[str, float]:
    """The latest value of each metric of a run."""
    _default_store()
    return dict(_require_run(MlflowClient(), run_id).data.metrics)


def history(run_id: str, metric: str) -> list[tuple[int, float]]:
    """All values of a metric as (step, value)."""
    _default_store()
    return [(m.step, m.value) for m in MlflowClient().get_metric_history(run_id, metric)]


@dataclass(frozen=True, kw_only=True)
class Step:
    """An entry point to start as a child run: its parameters, and a digest of all that decides its result."""

    entry_point: str
    parameters: Mapping[str, str]
    digest: str
    name: str


def finished_step(parent: Run, step: Step) -> str | None:
    """The id of a finished run of the same step in the parent's experiment, or None."""
    found = parent.client.search_runs(
        [parent.experiment_id],
        f"tags.`swath.step` = '{step.digest}' and attributes.status = 'FINISHED'",
        max_results=1,
    )
    return str(found[0].info.run_id) if found else None


def run_step(parent: Run, step: Step) -> str:
    """Start an entry point of the project as a child of `parent`, wait for it, and return its run id.

    Raises SwathError when it fails; its own message stands above, in its output.
    """
    try:
        done = mlflow.projects.run(
            str(configs.PROJECT_ROOT), step.entry_point, parameters=dict(step.parameters), env_manager="local",
            experiment_id=parent.experiment_id, run_name=step.name,
        )  # fmt: skip
    except mlflow.exceptions.ExecutionException as error:
        raise SwathError(
            f"step {step.name} failed ({error}); fix what it says above and start the same command again"
        ) from None
    parent.client.set_tag(done.run_id, "swath.step", step.digest)
    parent.client.set_tag(done.run_id, "mlflow.runName", step.name)
    return str(done.run_id)
