"""Removes the files and records of deleted runs for good.

Built from the parts of ``mlflow gc``, not on the command: with ``--run-ids``, it removes every deleted experiment of the
store too, with all its runs, and it takes a run's folder from the store as it stands there, wherever it leads.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.tracking import _get_store
from mlflow.utils.file_utils import local_file_uri_to_path

from swath.errors import TrackingError
from swath.tracking.delivery import brief
from swath.tracking.retention import RunInfo


def why_not_purged(run: RunInfo, root: str, needed: Iterable[str] = ()) -> str:
    """Why a deleted run is not to be purged; empty when it may be.

    Its files must be where MLflow puts them, ``<root>/<run id>/artifacts`` with `root` the experiment's own, and no
    link may lead from there to elsewhere. `needed` are runs that active ones build on.
    """
    if run.running:
        return "its status says that it is running"
    if run.id in needed:
        return "a run that is not deleted builds on it"
    if not re.fullmatch(r"[0-9a-f]{32}", run.id) or run.artifacts != f"{root.rstrip('/')}/{run.id}/artifacts":
        return f"its files are not in the experiment's folder: {run.artifacts}"
    folder, home = local_folder(run.artifacts), local_folder(root)
    if folder and home and folder.resolve() != home.resolve() / run.id / "artifacts":
        return f"a link leads out of the experiment's folder: {folder.resolve()}"
    return ""


def local_folder(uri: str) -> Path | None:
    """The folder of this machine that MLflow would delete for an artifact URI; None when it is stored elsewhere."""
    if urlsplit(uri).scheme not in ("", "file"):
        return None
    return Path(local_file_uri_to_path(local_file_uri_to_path(uri)))  # MLflow decodes twice on the way to its rmtree


def size(run: RunInfo) -> int | None:
    """Bytes of a run's files, links not followed; None when they are not on this machine."""
    folder = local_folder(run.artifacts)
    return None if folder is None else sum(p.lstat().st_size for p in folder.rglob("*") if not p.is_dir())


def purge(client: MlflowClient, runs: Iterable[RunInfo], root: str) -> Iterator[RunInfo]:
    """Remove files, then records, of runs that are marked as deleted; yield each that is gone.

    Interrupted at any moment, the next call ends it: the record goes last. Raises TrackingError when the store is not
    a database, for a run that is not deleted, and, after all others are done, for those whose files cannot be removed.
    """
    store, failed = _get_store(), []
    if not hasattr(store, "_hard_delete_run"):
        raise TrackingError("purge needs the tracking database itself. On a server's machine, start `mlflow gc` there.")
    for run in runs:
        if client.get_run(run.id).info.lifecycle_stage != "deleted" or why_not_purged(run, root):
            raise TrackingError(
                f"run {run.id} is not marked as deleted, or its files are elsewhere; nothing of it is gone"
            )
        try:
            get_artifact_repository(run.artifacts).delete_artifacts()
        except (OSError, MlflowException) as error:
            failed.append(f"{run.id}: {brief(error)}")
            continue
        store._hard_delete_run(run.id)
        _drop_empty_folder(run)
        yield run
    if failed:
        raise TrackingError(
            "files of these runs cannot be removed; free them and start the same command again:\n  "
            + "\n  ".join(failed)
        )


def _drop_empty_folder(run: RunInfo) -> None:
    folder = local_folder(run.artifacts)
    with suppress(OSError):
        if folder:
            folder.parent.rmdir()
