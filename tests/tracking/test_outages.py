"""Real trainings against real stores that are away, locked or shared, and trainings that are stopped or killed."""

from __future__ import annotations

import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import Run
from safetensors.torch import load_file

from swath.config import recorded
from swath.tracking import Delivery
from tests.processes import STEPS, Server, ended, has_state, server, start, training_file, wait_for
from tests.trainings import same

pytestmark = pytest.mark.system

SECONDS = [4, pytest.param(30, marks=pytest.mark.slow)]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for the tests of this module."""
    with server(tmp_path_factory.mktemp("server")) as running:
        yield running


def run_of(uri: str, file: Path) -> Run:
    """The one run of a training in a store."""
    client = MlflowClient(uri)
    (run,) = [r for r in client.search_runs(["0"]) if r.data.tags.get("swath.config") == recorded(str(file))]
    return run


def require_whole(uri: str, file: Path, epochs: int) -> None:
    """Every value of a finished training is there, once, and in order; so are its weights."""
    run, client = run_of(uri, file), MlflowClient(uri)
    assert run.info.status == "FINISHED"
    losses = client.get_metric_history(run.info.run_id, "training/loss")
    assert [m.step for m in losses] == list(range(1, STEPS * epochs + 1))
    scores = client.get_metric_history(run.info.run_id, "validation/iou_fg")
    assert [m.step for m in scores] == list(range(1, epochs + 1))
    assert {"model/weights.safetensors"} <= {f.path for f in client.list_artifacts(run.info.run_id, "model")}


def iteration(file: Path) -> int:
    """How far a training has come, by its state."""
    (path,) = (file.parent / "out").rglob("state.pt")
    return int(torch.load(path, weights_only=True)["iteration"])


@contextmanager
def stopped(running: Server) -> Iterator[None]:
    running.stop()
    try:
        yield
    finally:
        running.start()


@contextmanager
def locked(running: Server) -> Iterator[None]:
    """Another writer holds the database."""
    connection = sqlite3.connect(running.folder / "server.db", timeout=60, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()


@pytest.mark.parametrize("seconds", SECONDS)
@pytest.mark.parametrize(
    ("outage", "direct"), [(stopped, False), (locked, True)], ids=["server stopped", "store locked"]
)
def test_c85_training_goes_on_while_the_store_is_away_and_all_values_arrive(
    tiles: Path, tmp_path: Path, shared: Server, seconds: float, outage: Callable[..., object], direct: bool
) -> None:
    epochs = round(3 + seconds / 0.5)
    file = training_file(tmp_path, tiles, "SlowNet")
    uri = shared.store if direct else shared.uri
    process = start(file, uri, "--epochs", str(epochs))
    wait_for(lambda: has_state(file), process)
    with outage(shared):  # type: ignore[attr-defined]
        before = iteration(file)
        time.sleep(seconds)
        assert process.poll() is None
        during = iteration(file)
    assert during > before, "the training stood still while the store was away"
    printed = ended(process)
    assert process.returncode == 0, printed
    assert ("sent again" in printed) or outage is locked  # a lock of seconds is waited out within one call
    require_whole(shared.uri, file, epochs)


def test_c85_what_is_refused_and_an_outage_in_between_keep_nothing_else_from_arriving(
    shared: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # as in entry points: the queue retries for longer
    client = MlflowClient(shared.uri)
    run_id = client.create_run("0").info.run_id
    delivery = Delivery(run_id, client, patience=2.0)
    refused = "training/" + 250 * "x"

    def log(step: int) -> None:
        delivery.put_metrics({"training/loss": step, refused: step}, step)
        delivery.put(f"{step}.txt", lambda: client.log_text(run_id, str(step), f"{step}.txt"))
        delivery.put(f"0.txt/{step}", lambda: client.log_text(run_id, "below a file", f"0.txt/{step}"))

    for step in range(3):
        log(step)
    with stopped(shared):
        for step in range(3, 6):
            log(step)
        wait_for(lambda: delivery.delayed, seconds=60)
    for step in range(6, 9):
        log(step)
    delivery.close(120)
    assert sorted(m.step for m in client.get_metric_history(run_id, "training/loss")) == list(range(9))
    assert {f.path for f in client.list_artifacts(run_id)} == {f"{step}.txt" for step in range(9)}
    missing = client.get_run(run_id).data.tags["swath.missing"].split("; ")
    assert missing[0].startswith("metric training/xxx")
    assert sorted(missing[1:]) == [f"0.txt/{step}" for step in range(9)]
    assert delivery.incomplete


def test_c84_two_trainings_and_a_dashboard_share_one_sqlite_store(tiles: Path, tmp_path: Path, shared: Server) -> None:
    files = [training_file(tmp_path / name, tiles) for name in ("a", "b")]
    processes = [start(file, shared.store, "--epochs", "8", "--name", file.parent.name) for file in files]
    looked, dashboard = 0, MlflowClient(shared.uri)
    while any(process.poll() is None for process in processes):
        for run in dashboard.search_runs(["0"]):
            dashboard.get_metric_history(run.info.run_id, "training/loss")
        looked += 1
        time.sleep(0.2)
    printed = [ended(process) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], printed
    assert looked > 5
    for file in files:
        require_whole(shared.uri, file, epochs=8)


def test_c86_status_in_a_real_store_says_how_the_real_process_ended(
    tiles: Path, tmp_path: Path, shared: Server
) -> None:
    models = {
        "interrupted": "SlowNet",
        "terminated": "SlowNet",
        "failing": "SlowNet",
        "nan": "NanNet",
        "whole": "TinyNet",
    }
    files = {name: training_file(tmp_path / name, tiles, model) for name, model in models.items()}
    more = {
        "failing": ["--model.fails_at", "25"],
        "interrupted": ["--epochs", "500"],
        "terminated": ["--epochs", "500"],
    }
    processes = {name: start(file, shared.uri, *more.get(name, [])) for name, file in files.items()}
    for name, number in (("interrupted", signal.SIGINT), ("terminated", signal.SIGTERM)):
        wait_for(lambda: has_state(files[name]), processes[name])  # noqa: B023 - called at once
        processes[name].send_signal(number)
    printed = {name: ended(process) for name, process in processes.items()}
    runs = {name: run_of(shared.uri, file) for name, file in files.items()}
    assert {name: run.info.status for name, run in runs.items()} == {
        "interrupted": "KILLED", "terminated": "KILLED", "failing": "FAILED", "nan": "FAILED", "whole": "FINISHED",
    }  # fmt: skip
    codes = {name: process.returncode for name, process in processes.items()}
    assert codes == {"interrupted": 130, "terminated": 130, "failing": 1, "nan": 1, "whole": 0}, printed
    assert "the network gave up" in runs["failing"].data.tags["swath.reason"]
    assert "loss is nan" in runs["nan"].data.tags["swath.reason"]
    assert {name for name, file in files.items() if has_state(file)} == {"interrupted", "terminated", "failing"}


@pytest.mark.parametrize(
    "attempt", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)]
)
def test_c86_c88_a_training_that_a_signal_stops_has_lost_no_step_and_ends_as_if_it_had_not_been(
    tiles: Path, tmp_path: Path, shared: Server, attempt: int
) -> None:
    """It writes no state of itself before the end of an epoch: what there is was written on the way out."""
    whole, stopped = (training_file(tmp_path / name, tiles, "SlowNet") for name in ("whole", "stopped"))
    settings = ["--checkpoint_every", "1000", "--epochs", "2", "--model.seconds", "0.1"]
    straight = start(whole, shared.uri, *settings)
    process = start(stopped, shared.uri, *settings)
    client = MlflowClient(shared.uri)

    def steps() -> int:
        runs = [r for r in client.search_runs(["0"]) if r.data.tags.get("swath.config") == recorded(str(stopped))]
        return len(client.get_metric_history(runs[0].info.run_id, "training/loss")) if runs else 0

    wait_for(lambda: steps() >= 2, process)
    time.sleep(0.03 * attempt)
    process.send_signal(signal.SIGTERM)
    printed = ended(process)
    assert process.returncode == 130, printed
    assert iteration(stopped) % STEPS, "stopped at the end of an epoch, which shows nothing"
    assert run_of(shared.uri, stopped).info.status == "KILLED"
    again = start(stopped, shared.uri, *settings)
    printed = ended(again)
    assert again.returncode == 0, printed
    assert "going on at iteration" in printed
    assert straight.wait(240) == 0
    first, second = (weights(shared, file, tmp_path / file.parent.name) for file in (whole, stopped))
    assert same(first, second)


TORN = """
import os, signal, sys, torch
whole, number = torch.save, [0]
def torn(content, path, *arguments, **named):
    whole(content, path, *arguments, **named)
    number[0] += 1
    if number[0] == {moment}:
        with open(path, "r+b") as file:
            file.truncate(os.path.getsize(path) // 2)
        os.kill(os.getpid(), signal.SIGKILL)
torch.save = torn
"""


@pytest.mark.parametrize("moment", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_c88_killed_while_it_writes_a_checkpoint_ends_as_if_it_had_not(
    tiles: Path, tmp_path: Path, shared: Server, moment: int
) -> None:
    whole, torn = (training_file(tmp_path / name, tiles) for name in ("whole", "torn"))
    straight = start(whole, shared.uri)
    killed = start(torn, shared.uri, code=TORN.format(moment=moment))
    ended(killed)
    assert killed.returncode == -signal.SIGKILL
    assert list((torn.parent / "out").rglob("*.part*")), "not killed while it wrote"
    again = start(torn, shared.uri)
    printed = ended(again)
    assert again.returncode == 0, printed
    assert ("going on at iteration" in printed) == (moment > 1)
    assert straight.wait(120) == 0
    first, second = (weights(shared, file, tmp_path / file.parent.name) for file in (whole, torn))
    assert same(first, second)


def weights(running: Server, file: Path, folder: Path) -> dict[str, torch.Tensor]:
    """The weights that the last run of a training has kept."""
    client = MlflowClient(running.uri)
    runs = [
        r
        for r in client.search_runs(["0"], order_by=["start_time DESC"])
        if r.data.tags.get("swath.config") == recorded(str(file))
    ]
    return load_file(client.download_artifacts(runs[0].info.run_id, "model/weights.safetensors", str(folder)))
