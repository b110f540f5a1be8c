"""The tracking store, and what other runs left there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.utils.models import get_model_name_and_version

from swath import config as configs
from swath.errors import TrackingError
from swath.tracking.delivery import brief
from swath.tracking.local import database_uri, take_served_artifacts
from swath.tracking.references import (
    FORMS,
    MODELS,
    RECORD,
    RUNS,
    digest_of_record,
    parse_reference,
    unknown_model,
)


def default_store() -> None:
    """Without a store of the user's choice: mlflow.db and mlruns/ in the project root, from whatever folder we start.

    Called before anything is asked of MLflow, whose settings that the user has not chosen are made here.
    """
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # the queue retries for longer, without blocking
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    if not mlflow.is_tracking_uri_set():
        mlflow.set_tracking_uri(database_uri(configs.PROJECT_ROOT))
    take_served_artifacts()


def resolved_reference(text: str) -> str:
    """A reference whose meaning stays: an alias becomes a version, and a folder gets a digest of what lies in it.

    Raises TrackingError for an empty reference, an unknown registered model or version, and an empty folder.
    """
    default_store()
    found = parse_reference(text)
    if found.kind == "model":
        return _pinned(found.name)
    if found.kind == "folder":
        named = f"{found.name}/{found.weights}" if found.weights else found.name
        return f"{named}#{digest_of_record(Path(found.name), text)}"
    if found.path == RECORD and found.weights is None:
        return found.name
    return f"{RUNS}{found.name}/{found.path}" + (f"/{found.weights}" if found.weights else "")


def run_of_reference(text: str) -> str:
    """The id of the training run behind a reference, where MLflow knows it; else the reference itself."""
    default_store()
    found = parse_reference(text)
    if found.kind == "run":
        return found.name
    if found.kind == "model":
        return _run_of_model(found.name) or text
    return text


def _pinned(uri: str) -> str:
    try:
        parts = get_model_name_and_version(MlflowClient(), uri)
    except MlflowException as error:
        raise unknown_model(uri, error) from error
    return MODELS + "/".join(map(str, parts))  # a version may be a number


def _run_of_model(uri: str) -> str | None:
    client = MlflowClient()
    try:
        parts = get_model_name_and_version(client, uri)
        if len(parts) == 1:
            return client.get_logged_model(parts[0]).source_run_id
        return client.get_model_version(*parts).run_id
    except MlflowException as error:
        raise unknown_model(uri, error) from error


def fetch(run_id: str, artifact: str, folder: Path) -> Path:
    """Download one artifact of a run into `folder`; of a local folder with a model record, the file that lies there.

    `run_id` is a run's id or another reference to a model (`parse_reference`); `artifact` is then ``model``, the whole
    record, or a file in it. Raises TrackingError when the run, the model or the artifact is not there.
    """
    default_store()
    found = parse_reference(run_id)
    inner = artifact.removeprefix(RECORD).lstrip("/")
    if found.kind == "folder":
        return _below(Path(found.name), inner, run_id)
    if found.kind == "model":
        return _below(_download_model(found.name, folder), inner, run_id)
    whole = artifact if found.path == RECORD else f"{found.path}/{inner}".rstrip("/")
    return _download(found.name, whole, folder)


def _download(run_id: str, artifact: str, folder: Path) -> Path:
    client = MlflowClient()
    _require_run(client, run_id)
    try:
        return Path(client.download_artifacts(run_id, artifact, str(folder)))
    except (MlflowException, OSError) as error:
        have = ", ".join(f.path for f in client.list_artifacts(run_id)) or "none"
        raise TrackingError(
            f"run {run_id} has no artifact {artifact} (it has: {have}; {brief(error)}). Pass the id of a finished training run."
        ) from error


def _download_model(uri: str, folder: Path) -> Path:
    """All files of a registered or logged model."""
    try:
        return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(folder)))
    except (MlflowException, OSError) as error:
        raise unknown_model(uri, error) from error


def _below(folder: Path, inner: str, reference: str) -> Path:
    """A file of a record that lies in `folder` or deeper; the folder itself for no file."""
    if not inner:
        return folder
    found = sorted(folder.rglob(inner))
    if not found:
        raise TrackingError(f"run_id={reference}: holds no {inner}, so it is no model record of a training. {FORMS}.")
    return found[0]


def located(path: str, artifact: str, folder: Path) -> Path:
    """The file at `path`; where that is runs:/<id> or models:/<name>, its `artifact`, downloaded into `folder`.

    ``runs:/<id>/<path of a file of weights>`` is that file.
    """
    if not path.startswith((RUNS, MODELS)):
        return configs.absolute(path)
    found = parse_reference(path)
    if found.weights is not None:
        default_store()
        return _download(found.name, f"{found.path}/{found.weights}", folder)
    return fetch(path, artifact, folder)


def _require_run(client: MlflowClient, run_id: str) -> Any:
    try:
        return client.get_run(run_id)
    except MlflowException as error:
        raise TrackingError(
            f"run_id={run_id}: no such run in {mlflow.get_tracking_uri()}, and no folder of that name. Copy the id from the "
            f"dashboard (`make ui`), or check MLFLOW_TRACKING_URI. {FORMS}."
        ) from error


def metrics_of(run_id: str) -> dict[str, float]:
    """The latest value of each metric of a run."""
    default_store()
    return dict(_require_run(MlflowClient(), run_of_reference(run_id)).data.metrics)


def history(run_id: str, metric: str) -> list[tuple[int, float]]:
    """All values of a metric as (step, value)."""
    default_store()
    return [(m.step, m.value) for m in MlflowClient().get_metric_history(run_id, metric)]
