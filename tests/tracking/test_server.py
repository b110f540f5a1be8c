"""A preparation step logs through an MLflow server on PostgreSQL with object storage, as docs/clusters.md sets it up."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import mlflow
import pytest

from swath.config import recorded
from tests.conftest import child_environment
from tests.dask_cluster import HOST, free_port
from tests.synthetic import write_scenes

ROOT = Path(__file__).resolve().parents[2]
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


@contextmanager
def service(command: list[str], port: int, **options: object) -> Iterator[None]:
    """A process that listens on a port, until the end of the block."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options) as process:  # type: ignore[call-overload]
        try:
            for _ in range(1200):
                assert process.poll() is None, f"{command[0]} ended"
                with socket.socket() as probe:
                    if probe.connect_ex((HOST, port)) == 0:
                        break
                time.sleep(0.1)
            yield
        finally:
            process.terminate()


@contextmanager
def postgres() -> Iterator[str]:
    """URI of a PostgreSQL server of the test's own; it refuses to run as root."""
    account = "postgres" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
    options = {"user": account} if os.getuid() == 0 else {}
    with tempfile.TemporaryDirectory() as folder:
        data, port = Path(folder) / "data", free_port()
        data.mkdir()
        shutil.chown(folder, account)
        shutil.chown(data, account)
        initdb = ["initdb", "-D", str(data), "-A", "trust", "-U", "mlflow"]
        subprocess.run(initdb, check=True, capture_output=True, cwd=folder, **options)  # type: ignore[call-overload]
        server = ["postgres", "-D", str(data), "-h", HOST, "-p", str(port), "-k", folder]
        with service(server, port, cwd=folder, **options):
            yield f"postgresql+psycopg2://mlflow@{HOST}:{port}/postgres"


@pytest.mark.slow
def test_a_step_logs_to_postgresql_and_object_storage(tmp_path: Path) -> None:
    boto3 = pytest.importorskip("boto3")
    pytest.importorskip("moto.server")
    pytest.importorskip("psycopg2")
    if not (shutil.which("initdb") and shutil.which("postgres")):
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    storage, server = free_port(), free_port()
    environment = child_environment(tmp_path / "none.db") | KEYS
    environment["MLFLOW_S3_ENDPOINT_URL"] = f"http://{HOST}:{storage}"
    with ExitStack() as stack:
        database = stack.enter_context(postgres())
        moto = [sys.executable, "-m", "moto.server", "-H", HOST, "-p", str(storage)]
        stack.enter_context(service(moto, storage, env=environment))
        bucket = boto3.client(
            "s3", endpoint_url=f"http://{HOST}:{storage}", region_name="us-east-1",
            aws_access_key_id="test", aws_secret_access_key="test",
        )  # fmt: skip
        bucket.create_bucket(Bucket="mlflow")
        mlflow_server = [
            sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(server), "--workers", "1",
            "--backend-store-uri", database, "--artifacts-destination", "s3://mlflow",
        ]  # fmt: skip
        stack.enter_context(service(mlflow_server, server, env=environment, cwd=tmp_path))
        write_scenes(tmp_path / "scenes", 2, (96, 96))
        uri = f"http://{HOST}:{server}"
        step = [sys.executable, "code/generate_tiles.py", "--config_path=configs/demo/generate_test_tiles.py"]
        step += [f"--input_path={tmp_path / 'scenes'}", f"--output_path={tmp_path / 'tiles'}"]
        given = child_environment(tmp_path / "none.db") | {"MLFLOW_TRACKING_URI": uri}
        done = subprocess.run(step, cwd=ROOT, env=given, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        client = mlflow.MlflowClient(uri)
        (run,) = client.search_runs(["0"])
        assert run.info.status == "FINISHED"
        assert run.data.metrics["preparation/items"] == 2
        bundle = Path(client.download_artifacts(run.info.run_id, "bundle/config.json", str(tmp_path)))
        assert json.loads(bundle.read_text())["output_path"] == recorded(str(tmp_path / "tiles"))
        stored = [entry["Key"] for entry in bucket.list_objects_v2(Bucket="mlflow")["Contents"]]
        assert any(key.endswith(f"{run.info.run_id}/artifacts/bundle/config.json") for key in stored)
