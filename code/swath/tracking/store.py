"""The tracking store, and what other runs left there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from swath import config as configs
from swath.errors import TrackingError
from swath.tracking.delivery import brief


def default_store() -> None:
    """Without a store of the user's choice: mlflow.db and mlruns/ in the project root, from whatever folder we start.

    Called before anything is asked of MLflow, whose settings that the user has not chosen are made here.
    """
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # the queue retries for longer, without blocking
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    if not mlflow.is_tracking_uri_set():
        mlflow.set_tracking_uri(f"sqlite:///{configs.PROJECT_ROOT / 'mlflow.db'}")


def fetch(run_id: str, artifact: str, folder: Path) -> Path:
    """Download one artifact of a run into `folder`. Raises TrackingError when the run or the artifact is not there."""
    default_store()
    client = MlflowClient()
    _require_run(client, run_id)
    try:
        return Path(client.download_artifacts(run_id, artifact, str(folder)))
    except (MlflowException, OSError) as error:
        have = ", ".join(f.path for f in client.list_artifacts(run_id)) or "none"
        raise TrackingError(
            f"run {run_id} has no artifact {artifact} (it has: {have}; {brief(error)}). Pass the id of a finished training run."
        ) from error


def located(path: str, artifact: str, folder: Path) -> Path:
    """The file at `path`; where that is runs:/<id>, the run's `artifact`, downloaded into `folder`."""
    if path.startswith("runs:/"):
        return fetch(path.removeprefix("runs:/"), artifact, folder)
    return configs.absolute(path)


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
    default_store()
    return dict(_require_run(MlflowClient(), run_id).data.metrics)


def history(run_id: str, metric: str) -> list[tuple[int, float]]:
    """All values of a metric as (step, value)."""
    default_store()
    return [(m.step, m.value) for m in MlflowClient().get_metric_history(run_id, metric)]
