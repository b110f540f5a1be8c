"""The dashboard of the project's runs: ``python -m swath.tracking.dashboard 5000``, as ``make ui`` starts it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import mlflow
from mlflow import MlflowClient

from swath import config as configs
from swath.errors import ConfigError, TrackingError
from swath.tracking.local import SERVED_FOLDER, artifact_root, make_store
from swath.tracking.process import cli
from swath.tracking.store import default_store

HOST = "127.0.0.1"


def main() -> None:
    """Print where the newest runs are shown, and become MLflow's server, on this machine alone."""
    port = _port(sys.argv[1:])
    default_store()
    store = mlflow.get_tracking_uri()
    if store.startswith(("http:", "https:")):
        raise TrackingError(
            f"MLFLOW_TRACKING_URI={store}: this server has a dashboard of its own, open it in a browser. For the runs in the "
            "project's mlflow.db: unset MLFLOW_TRACKING_URI"
        )
    make_store()
    print(f"runs: {runs_page(port)}", flush=True)
    os.chdir(configs.PROJECT_ROOT)
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", *server_arguments(port)])


def _port(arguments: Sequence[str]) -> int:
    text = arguments[0] if arguments else "5000"
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise ConfigError(f"port {text}: must be a number from 1 to 65535. Start: make ui PORT=5000")
    return int(text)


def runs_page(port: int) -> str:
    """The page that lists the runs of the experiment with the newest run; of the default one where there is no run."""
    client = MlflowClient()
    known = [experiment.experiment_id for experiment in client.search_experiments()]
    newest = client.search_runs(known, order_by=["attributes.start_time DESC"], max_results=1)
    experiment = newest[0].info.experiment_id if newest else "0"
    return f"http://{HOST}:{port}/#/experiments/{experiment}/runs"


def server_arguments(port: int) -> list[str]:
    """Arguments of ``mlflow``: experiments that are made in the dashboard keep artifacts where steps do."""
    return [
        "ui", "--host", HOST, "--port", str(port), "--workers", "1", "--backend-store-uri", mlflow.get_tracking_uri(),
        "--default-artifact-root", artifact_root(configs.PROJECT_ROOT),
        "--artifacts-destination", str(configs.PROJECT_ROOT / SERVED_FOLDER),
    ]  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(cli(main))
