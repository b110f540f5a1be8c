"""A run for the length of a block: its bundle, what is logged on the way, and a status that is true."""

from __future__ import annotations

import json
import logging
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import mlflow
import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Param, RunTag
from numpy.typing import NDArray

from swath import config as configs
from swath.config.command_line import with_diff
from swath.files import remove_orphans, scratch_folder
from swath.interrupt import stop_requested, uninterrupted
from swath.notices import Notices, as_csv, collected_from_all_threads
from swath.tracking.bundle import recorded_provenance, uncommitted, untracked_sources
from swath.tracking.delivery import Delivery, Nowhere, safe_name
from swath.tracking.local import make_store, remove_escaped_folder
from swath.tracking.process import tell_at_the_end
from swath.tracking.store import default_store
from swath.tracking.unreachable import require_store, unanswered, without_password

log = logging.getLogger("swath.tracking")

BUNDLE = "bundle"
LEFT_OUT = "left_out.csv"
LINES = 20
"""Of what was left out that are printed."""
FLUSH_SECONDS = 120.0
PARAM_LENGTH = 500


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
        """Log parameters; texts longer than the store takes are cut, the bundle holds them whole. Paths as `recorded`."""
        texts = {name: str(configs.recorded(str(value))) for name, value in values.items()}
        params = [Param(safe_name(name), text[:PARAM_LENGTH]) for name, text in texts.items()]
        self.delivery.put_params(params)

    def set_tags(self, values: Mapping[str, Any]) -> None:
        """Set tags; paths in them as `swath.config.recorded_text` gives them."""
        tags = [RunTag(name, configs.recorded_text(str(value))[:4000]) for name, value in values.items()]
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
def silent_run() -> Iterator[Run]:
    """What `run` gives, for a process whose run another one keeps: the store is not even opened.

    Two processes that make a new SQLite store at once would be in each other's way.
    """
    with scratch_folder() as scratch:
        yield Run("", "", cast(MlflowClient, None), Nowhere(), scratch)


@contextmanager
def run(config: Any, config_path: str, name: str | None = None, kind: str = "preparation") -> Iterator[Run]:
    """A run for the length of a block, with the bundle that reproduces it; its status says how the block ended.

    FINISHED at its end, KILLED on Ctrl-C or SIGTERM, FAILED on any other exception. Joins the run that
    ``mlflow run`` created. First goes what killed processes have left half written below the outputs of `config`.
    What the store did not take in the end is told by the script's last line and its exit status (`cli`). Raises
    TrackingError when the store does not answer at the start.
    """
    remove_orphans(configs.outputs_of(config))
    with scratch_folder() as scratch:
        yield from _kept(_started(name, scratch), config, config_path, name, kind)


def _started(name: str | None, scratch: Path) -> Run:
    """A new run of the store, or the one that ``mlflow run`` created."""
    default_store()
    require_store()
    try:
        make_store()
        name = name and configs.recorded_text(name)
        active = mlflow.start_run(run_name=name, tags=_own_tags(), log_system_metrics=False)
        remove_escaped_folder()
    except Exception as error:
        raise unanswered(error) from error
    client = MlflowClient()
    delivery = Delivery(active.info.run_id, client)
    return Run(active.info.run_id, active.info.experiment_id, client, delivery, scratch)


def _kept(handle: Run, config: Any, config_path: str, name: str | None, kind: str) -> Iterator[Run]:
    """The run for whoever works in it, and its end."""
    status, reason = "FAILED", ""
    try:
        _clean_tags(handle)
        _log_bundle(handle, config, config_path, kind)
        if name:
            handle.set_tags({"mlflow.runName": name})
        with collected_from_all_threads() as left_out:
            yield handle
        _say_what_is_left_out(handle, left_out)
        status = "FINISHED"
    except KeyboardInterrupt:
        status, reason = "KILLED", "stopped by a signal"
        raise
    except BaseException as error:
        reason = f"{type(error).__name__}: {error}"
        if stop_requested():  # such as a worker process that the same signal has ended
            status, reason = "KILLED", f"stopped by a signal ({reason})"
        raise
    finally:
        with uninterrupted():
            _finish(handle, status, reason)


def _say_what_is_left_out(handle: Run, left_out: Notices) -> None:
    """Print and record what the work did not use, and why."""
    if not left_out:
        return
    for notice in left_out[:LINES]:
        print(notice.line)
    if len(left_out) > LINES:
        print(f"left out: {len(left_out) - LINES} more of these, see {LEFT_OUT} of the run")
    handle.log_metrics({"left_out": float(sum(notice.count for notice in left_out))})
    handle.log_text(configs.recorded_text(as_csv(left_out)), LEFT_OUT)


def _finish(handle: Run, status: str, reason: str) -> None:
    if reason:
        handle.set_tags({"swath.reason": reason})
    handle.delivery.put("status", lambda: handle.client.set_terminated(handle.id, status))
    handle.delivery.close(FLUSH_SECONDS)
    with suppress(Exception):
        mlflow.end_run(status)
    if handle.delivery.incomplete:
        tell_at_the_end(
            f"not delivered to {without_password(mlflow.get_tracking_uri())}: {handle.delivery.missing()} of run "
            f"{handle.id}. {_where_kept(handle)} Start the same command again when the store answers: "
            "what is finished is not done again, and a new run gets all of it."
        )


def _where_kept(handle: Run) -> str:
    """Keep copies of a run's files, and say where they are, beside the values that did not arrive."""
    values = handle.delivery.kept_in
    files = values.with_suffix("")
    try:
        shutil.copytree(handle.scratch, files, dirs_exist_ok=True)
    except OSError as error:
        return f"They are lost: {files} cannot be written ({error})."
    return f"They are kept in {values} (values) and {files} (files)."


def _own_tags() -> dict[str, str]:
    """Tags in place of those with which MLflow records who starts a run, and where on the machine."""
    script = configs.recorded(sys.argv[0]) if sys.argv and sys.argv[0] else "unknown"
    return {"mlflow.user": "not recorded", "mlflow.source.name": str(script)}


def _clean_tags(handle: Run) -> None:
    """Take folders of this machine and credentials out of tags that `mlflow run` has set, such as the repository's URL."""
    found = handle.client.get_run(handle.id).data.tags
    changed = {name: text for name, text in found.items() if configs.recorded_text(text) != text}
    if changed:
        handle.set_tags(changed)


def _log_bundle(handle: Run, config: Any, config_path: str, kind: str) -> None:
    resolved = configs.recorded(configs.resolve(config))
    about = recorded_provenance(config_path)
    handle.log_params({f"cfg.{k}": v for k, v in configs.leaves(resolved).items()})
    handle.set_tags({"swath.kind": kind, "swath.config": about["config_path"], "swath.commit": about["commit"]})
    handle.log_text(json.dumps(resolved, indent=2) + "\n", f"{BUNDLE}/config.json")
    handle.log_text(json.dumps(about, indent=2) + "\n", f"{BUNDLE}/provenance.json")
    if with_diff(sys.argv):
        handle.log_text(uncommitted(), f"{BUNDLE}/uncommitted.diff")
        for name in untracked_sources():
            handle.log_file(configs.PROJECT_ROOT / name, f"{BUNDLE}/untracked/{Path(name).parent.as_posix()}")
    for source in configs.sources(config_path):
        if source.is_file():
            handle.log_file(source, f"{BUNDLE}/sources")
