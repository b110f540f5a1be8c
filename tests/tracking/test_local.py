"""The project's own store: whichever comes first, dashboard or step, and whatever the project's folder is called."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import mlflow
import pytest
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from swath.tracking.dashboard import runs_page
from swath.tracking.local import database_of, database_uri, take_served_artifacts
from tests.conftest import ROOT, child_environment
from tests.dask_cluster import free_port
from tests.processes import wait_for
from tests.synthetic import write_scenes

pytestmark = pytest.mark.system

ODD = ("p%20q", "p?x", "São Paulo #1")
BUNDLE = {"bundle/config.json", "bundle/provenance.json"}


def clone(folder: Path) -> Path:
    """What a step needs of the project, in a folder of its own."""
    for name in ("code", "configs/demo"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("MLproject", "Makefile", "pyproject.toml", "conda.yaml"):
        shutil.copyfile(ROOT / name, folder / name)
    return folder


def environment(project: Path) -> dict[str, str]:
    """That of a user who has not chosen a store."""
    inherited = child_environment(project / "unused.db")
    del inherited["MLFLOW_TRACKING_URI"]
    return inherited | {"PYTHONPATH": str(project / "code")}


def step(project: Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Cut a small scene, in the project's own store."""
    write_scenes(project / "input" / "scenes", 1, (32, 32))
    command = [sys.executable, str(project / "code/generate_tiles.py")]
    command += ["--config_path=configs/demo/generate_test_tiles.py", "--executor=serial"]
    command += ["--input_path=input/scenes", "--output_path=output/tiles"]
    return subprocess.run(
        command, cwd=cwd or project, env=environment(project), capture_output=True, text=True, check=False, timeout=150
    )


@contextmanager
def served(project: Path, command: Sequence[str], port: int) -> Iterator[Path]:
    """A dashboard in a project for the length of a block, from when it answers; gives the file of what it prints."""
    printed = project / "printed.txt"
    with printed.open("w") as output:
        process = subprocess.Popen(
            command, cwd=project, env=environment(project), stdout=output, stderr=output, start_new_session=True
        )
        try:
            wait_for(lambda: _answers(port), seconds=120)  # type: ignore[arg-type]
            yield printed
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(30)


def _answers(port: int) -> bool:
    with suppress(OSError):
        return bool(urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).status == 200)
    return False


def require_everything(project: Path, run: mlflow.entities.Run) -> None:
    """The run is finished, and its metrics and artifacts have arrived, on this machine, in the project."""
    take_served_artifacts()
    client = mlflow.MlflowClient(database_uri(project))
    assert run.info.status == "FINISHED"
    assert run.data.metrics["preparation/items"] == 1
    assert "swath.missing" not in run.data.tags
    assert {f.path for f in client.list_artifacts(run.info.run_id, "bundle")} >= BUNDLE
    found = [path for path in project.rglob("bundle/config.json") if run.info.run_id in path.parts]
    assert len(found) == 1
    assert found[0].relative_to(project).parts[0] in ("mlruns", "mlartifacts")
    assert not (project / "output" / "undelivered").exists()


def only_run(project: Path) -> mlflow.entities.Run:
    (run,) = mlflow.MlflowClient(database_uri(project)).search_runs(["0"])
    return run


def only_run_named(project: Path, name: str) -> mlflow.entities.Run:
    """The last run of a name that has ended well."""
    client = mlflow.MlflowClient(database_uri(project))
    query = f"attributes.run_name = '{name}' and attributes.status = 'FINISHED'"
    return client.search_runs(["0"], query, order_by=["attributes.start_time DESC"], max_results=1)[0]


def dashboard(port: int) -> list[str]:
    return [sys.executable, "-m", "swath.tracking.dashboard", str(port)]


def bare_dashboard(port: int) -> list[str]:
    """As `make ui` was up to version 0.3.0: experiments that it makes have artifacts that it takes itself."""
    return [
        sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", "sqlite:///mlflow.db",
    ]  # fmt: skip


@pytest.mark.parametrize("command", [dashboard, pytest.param(bare_dashboard, marks=pytest.mark.slow)])
def test_c84_everything_arrives_while_a_dashboard_that_came_first_is_open(tmp_path: Path, command: object) -> None:
    project, port = clone(tmp_path / "clone"), free_port()
    with served(project, command(port), port) as printed:  # type: ignore[operator]
        done = step(project)
        assert done.returncode == 0, done.stderr
        assert "tracking store" not in done.stderr
        run = only_run(project)
        require_everything(project, run)
        client = mlflow.MlflowClient(f"http://127.0.0.1:{port}")
        assert [known.info.run_id for known in client.search_runs(["0"])] == [run.info.run_id]
        assert {f.path for f in client.list_artifacts(run.info.run_id, "bundle")} >= BUNDLE  # it shows them
        if command is dashboard:
            (page,) = re.findall(r"runs: (\S+)", printed.read_text())
            assert page == f"http://127.0.0.1:{port}/#/experiments/0/runs"


def test_c84_everything_arrives_in_a_store_that_a_dashboard_made(tmp_path: Path) -> None:
    project = clone(tmp_path / "clone")
    made = SqlAlchemyStore(database_uri(project), "mlflow-artifacts:/")  # as `mlflow ui` does when it starts
    assert made.get_experiment("0").artifact_location == "mlflow-artifacts:/0"
    done = step(project)
    assert done.returncode == 0, done.stderr
    assert "tracking store" not in done.stderr
    require_everything(project, only_run(project))


def test_c112_the_address_is_that_of_the_experiment_with_the_newest_run(store: str) -> None:
    client = mlflow.MlflowClient()
    experiment = client.create_experiment("of the newest run")
    client.create_run(experiment)
    assert runs_page(5001) == f"http://127.0.0.1:5001/#/experiments/{experiment}/runs"


def test_c112_make_ui_is_this_dashboard() -> None:
    shown = subprocess.run(["make", "-n", "ui", "PORT=5001"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "python -m swath.tracking.dashboard 5001" in shown.stdout


@pytest.mark.parametrize("name", ODD)
def test_c84_the_project_may_lie_in_a_folder_of_any_name(tmp_path: Path, name: str) -> None:
    project = clone(tmp_path / name)
    done = step(project, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "tracking store" not in done.stderr
    assert (project / "mlflow.db").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]  # nothing beside it
    require_everything(project, only_run(project))


@pytest.mark.parametrize("name", [*ODD, "plain", "a@b:c&d=e;f+g"])
def test_c84_the_uri_of_a_database_is_read_back_as_its_path(tmp_path: Path, name: str) -> None:
    assert database_of(database_uri(tmp_path / name)) == tmp_path / name / "mlflow.db"
    assert database_of("http://127.0.0.1:5000") is None


@pytest.mark.parametrize("utf8", ["0", "1"])
def test_c85_an_ascii_locale_is_an_error_at_once_that_says_what_to_type(tmp_path: Path, utf8: str) -> None:
    project = clone(tmp_path / "clone")
    write_scenes(project / "input" / "São Paulo", 1, (32, 32))
    command = [sys.executable, "code/generate_tiles.py", "--config_path=configs/demo/generate_test_tiles.py"]
    command += ["--executor=serial", "--input_path=input/São Paulo", "--output_path=output/Düne"]
    locale = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": utf8}
    done = subprocess.run(
        command, cwd=project, env=environment(project) | locale, capture_output=True, text=True, check=False, timeout=60
    )
    if utf8 == "1":
        assert done.returncode == 0, done.stderr
        assert (project / "output" / "Düne" / "tiles.parquet").is_file()
        return
    assert done.returncode == 1
    assert "Type `export PYTHONUTF8=1`, then start the same command again" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (project / "mlflow.db").exists()
