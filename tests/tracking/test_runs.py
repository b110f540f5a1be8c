"""The tracking store may be away, locked or wrong: the work goes on, and what was logged arrives."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pytest

from swath import config as configs
from swath import tracking
from swath.data.tiles.statistics import StatsConfig
from swath.errors import SwathError, TrackingError
from swath.tracking import runs, unreachable
from tests.conftest import ROOT, child_environment
from tests.synthetic import grid, write_area

CONFIG = StatsConfig(input_path="somewhere")


@pytest.mark.system
def test_c85_unreachable_server_is_named_at_the_start(tmp_path: Path) -> None:
    write_area(tmp_path / "raw", "north", grid())
    environment = child_environment(tmp_path / "unused.db") | {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
    command = [
        sys.executable,
        str(ROOT / "code/generate_3b_images.py"),
        "--config_path",
        "configs/demo/generate_3b_images.py",
    ]
    command += ["--input_path", str(tmp_path / "raw"), "--output_path", str(tmp_path / "scenes")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=180)
    assert done.returncode == 1
    assert "tracking store http://127.0.0.1:9 does not answer" in done.stderr
    assert "curl http://127.0.0.1:9/health" in done.stderr
    assert "unset MLFLOW_TRACKING_URI" in done.stderr
    assert "Traceback" not in done.stderr


def test_c85_a_store_locked_at_the_start_is_named_with_its_holder_and_waited_for(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = store.removeprefix("sqlite:///")
    lock = sqlite3.connect(database, timeout=60, isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")
    monkeypatch.setattr(unreachable, "TURNS", 2)
    began = time.monotonic()
    try:
        with pytest.raises(TrackingError) as raised, tracking.run(CONFIG, "configs/demo/generate_tiles_stats.py"):
            pass
    finally:
        lock.execute("ROLLBACK")
        lock.close()
    said = str(raised.value)
    assert time.monotonic() - began < 10.0
    assert said.startswith(f"tracking store {database}: is locked, by process {os.getpid()} (")
    assert f"`fuser -v {database}`" in said
    assert "MLFLOW_TRACKING_URI" not in said

    monkeypatch.setattr(unreachable, "TURNS", 20)
    lock = sqlite3.connect(database, timeout=60, isolation_level=None, check_same_thread=False)
    lock.execute("BEGIN EXCLUSIVE")
    threading.Timer(2.5, lambda: (lock.execute("ROLLBACK"), lock.close())).start()
    with tracking.run(CONFIG, "configs/demo/generate_tiles_stats.py", "waited") as run:
        pass
    assert mlflow.MlflowClient().get_run(run.id).info.status == "FINISHED"


@pytest.mark.parametrize(
    ("uri", "error", "said"),
    [
        ("sqlite:////a/b.db", "unable to open database file", "/a/b.db: cannot be written .* permissions"),
        ("sqlite:////a/b.db", "file is not a database", "/a/b.db: is damaged .* Restore it"),
        ("http://host:5000", "refused", r"http://host:5000 does not answer \(refused\)\. Start the server there"),
        ("postgresql://me:secret@host/db", "refused", r"postgresql://me:\*\*\*@host/db does not answer .* password"),
    ],
)
def test_c85_the_remedy_fits_the_store_and_shows_no_password(
    store: str, monkeypatch: pytest.MonkeyPatch, uri: str, error: str, said: str
) -> None:
    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: uri)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    found = str(unreachable.unanswered(OSError(error)))
    assert re.search(said, found)
    assert "secret" not in found
    assert "unset" not in found  # nothing is set


def test_c128_a_disk_that_is_full_or_must_not_be_written_is_an_error_for_people(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fill() -> None:
        with Path("/dev/full").open("w") as file:
            file.write("x" * 100_000)

    assert tracking.cli(fill) == 1
    assert capsys.readouterr().err == (
        "error: a file: cannot be written (No space left on device). Free disk space or check the folder's permissions, then "
        "start the same command again.\n"
    )
    with pytest.raises(FileNotFoundError):  # a fault of the program
        tracking.cli(lambda: (tmp_path / "none/deeper").mkdir())


@pytest.mark.system
def test_c85_what_is_not_delivered_is_the_last_line_and_has_an_exit_status(
    store: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runs, "FLUSH_SECONDS", 1.0)
    monkeypatch.setattr(configs, "PROJECT_ROOT", tmp_path)
    database = store.removeprefix("sqlite:///")
    seen = []

    def main() -> None:
        with tracking.run(CONFIG, "configs/demo/generate_tiles_stats.py", "undelivered") as run:
            _drained(run)
            lock.execute("BEGIN EXCLUSIVE")
            seen.append(run)
            run.log_metrics({"training/loss": 0.5, "training/rate": 0.1}, 3)
            run.log_text("one", "one.txt")
            run.log_text("two", "two.txt")
        print("all is done")

    lock = sqlite3.connect(database, timeout=60, isolation_level=None)
    try:
        assert tracking.cli(main) == 75
    finally:
        lock.execute("ROLLBACK")
        lock.close()
    printed = capsys.readouterr()
    assert printed.out.endswith("all is done\n")
    values = tmp_path / "output/undelivered" / f"{seen[0].id}.jsonl"
    line = printed.err.splitlines()[-1]
    assert line.startswith(
        f"not delivered to {store}: 2 metric values, 2 files of run {seen[0].id}. They are kept in {values}"
    )
    assert "Start the same command again when the store answers" in line
    rows = [json.loads(row) for row in values.read_text().splitlines()]
    assert {(row["key"], row["value"], row["step"]) for row in rows if "key" in row} == {
        ("training/loss", 0.5, 3), ("training/rate", 0.1, 3),
    }  # fmt: skip
    assert {"one.txt", "two.txt"} <= {row.get("lost") for row in rows}
    assert tracking.cli(lambda: None) == 0, "the next script of this process is not to blame"


def test_c85_metrics_logged_while_the_store_is_locked_arrive_later(
    store: str, caplog: pytest.LogCaptureFixture
) -> None:
    database = store.removeprefix("sqlite:///")
    with tracking.run(CONFIG, "configs/demo/generate_tiles_stats.py", "locked") as run:
        _drained(run)
        lock = sqlite3.connect(database, timeout=60, isolation_level=None)
        lock.execute("BEGIN EXCLUSIVE")
        for step in range(50):
            run.log_metrics({"training/loss": 1.0 / (step + 1)}, step)
        time.sleep(1.0)
        lock.execute("ROLLBACK")
        lock.close()
    values = tracking.history(run.id, "training/loss")
    assert sorted(values) == [(step, pytest.approx(1.0 / (step + 1))) for step in range(50)]
    assert mlflow.MlflowClient().get_run(run.id).info.status == "FINISHED"


def _drained(run: tracking.Run) -> None:
    done = threading.Event()
    run.delivery.put("mark", done.set)
    assert done.wait(60)


def test_c85_failing_calls_are_tried_again_in_order_and_counted(store: str) -> None:
    delivery = tracking.Delivery("run", mlflow.MlflowClient())
    attempts: list[str] = []

    def flaky() -> None:
        attempts.append("flaky")
        if len(attempts) < 3:
            raise OSError("store is away")

    delivery.put("flaky", flaky)
    delivery.put("after", lambda: attempts.append("after"))
    delivery.close(30)
    assert attempts == ["flaky", "flaky", "flaky", "after"]
    assert delivery.delayed == 1
    assert not delivery.undelivered


def test_c85_what_cannot_be_delivered_is_kept_in_a_file(
    store: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(configs, "PROJECT_ROOT", tmp_path)
    delivery = tracking.Delivery("no-such-run", mlflow.MlflowClient())
    delivery.put_metrics({"training/loss": 0.5}, 3)
    delivery.close(0.2)
    kept = (tmp_path / "output/undelivered/no-such-run.jsonl").read_text()
    assert '"key": "training/loss", "value": 0.5, "step": 3' in kept


LONG = "training/" + 250 * "x"  # a name of more than 250 characters is never taken


def test_c85_a_refused_metric_is_set_aside_with_one_message_and_the_rest_arrives(
    store: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with tracking.run(CONFIG, "configs/demo/generate_tiles_stats.py", "refused") as run:
        monkeypatch.setattr(configs, "PROJECT_ROOT", tmp_path)
        for step in range(20):
            run.log_metrics({"training/loss": step, LONG: step, "training/rate": -step}, step)
            if step % 5 == 0:
                _drained(run)
        run.log_params({"p" * 300: "never taken", "fine": "taken"})
    found = mlflow.MlflowClient().get_run(run.id)
    for name, sign in (("training/loss", 1), ("training/rate", -1)):
        assert sorted(tracking.history(run.id, name)) == [(step, sign * step) for step in range(20)]
    assert found.data.params["fine"] == "taken"
    assert found.info.status == "FINISHED"
    assert found.data.tags["swath.missing"].startswith("metric training/xxxx")
    assert "; param pppp" in found.data.tags["swath.missing"]
    assert sum("refuses metric" in record.message for record in caplog.records) == 1
    assert run.complete  # a second start would be refused, too
    kept = [json.loads(line) for line in (tmp_path / f"output/undelivered/{run.id}.jsonl").read_text().splitlines()]
    assert [row["step"] for row in kept if row["key"] == LONG] == list(range(20))
    assert all("250" in row["refused"] for row in kept)


def test_c85_an_artifact_that_cannot_be_written_holds_nothing_up(
    store: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with tracking.run(CONFIG, "configs/demo/generate_tiles_stats.py", "unwritable") as run:
        monkeypatch.setattr(configs, "PROJECT_ROOT", tmp_path)
        run.delivery.patience = 1.0
        run.log_text("a file", "notes")
        run.log_text("below a file", "notes/deeper.txt")
        run.log_metrics({"training/loss": 0.5}, 7)
        run.log_text("another", "other.txt")
        _drained(run)
        assert tracking.history(run.id, "training/loss") == [(7, 0.5)]
    assert tracking.fetch(run.id, "other.txt", tmp_path).read_text() == "another"
    found = mlflow.MlflowClient().get_run(run.id)
    assert found.info.status == "FINISHED"
    assert found.data.tags["swath.missing"] == "notes/deeper.txt"
    assert sum("does not take notes/deeper.txt" in record.message for record in caplog.records) == 1
    assert not run.complete


def test_c85_an_artifact_that_can_be_written_later_arrives(store: str, tmp_path: Path) -> None:
    with tracking.run(CONFIG, "configs/demo/generate_tiles_stats.py", "later") as run:
        _drained(run)
        home = Path(mlflow.MlflowClient().get_run(run.id).info.artifact_uri.removeprefix("file://"))
        home.mkdir(parents=True, exist_ok=True)
        (home / "notes").write_text("in the way")
        run.log_text("below", "notes/deeper.txt")
        run.log_metrics({"training/loss": 0.5}, 7)
        _drained(run)
        (home / "notes").unlink()
    assert tracking.fetch(run.id, "notes/deeper.txt", tmp_path).read_text() == "below"
    assert "swath.missing" not in mlflow.MlflowClient().get_run(run.id).data.tags
    assert run.complete


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (SwathError("no"), "FAILED"),
        (ValueError("no"), "FAILED"),
        (KeyboardInterrupt(), "KILLED"),
        (tracking.Stopped(), "KILLED"),
    ],
)
def test_c86_status_says_how_the_run_ended(store: str, error: BaseException, status: str) -> None:
    with pytest.raises(type(error)), tracking.run(CONFIG, "configs/demo/generate_tiles_stats.py", "ends") as run:
        raise error
    assert mlflow.MlflowClient().get_run(run.id).info.status == status


def test_c84_long_parameters_are_cut_and_whole_in_the_bundle(store: str, tmp_path: Path) -> None:
    config = replace(CONFIG, executor="x" * 9000)
    with tracking.run(config, "configs/demo/generate_tiles_stats.py", "long") as run:
        pass
    assert len(mlflow.MlflowClient().get_run(run.id).data.params["cfg.executor"]) == tracking.PARAM_LENGTH
    assert "x" * 9000 in tracking.fetch(run.id, "bundle/config.json", tmp_path).read_text()


def test_c84_pictures_and_files_arrive_as_they_were_when_logged(store: str, tmp_path: Path) -> None:
    file = tmp_path / "note.txt"
    with tracking.run(CONFIG, "configs/demo/generate_tiles_stats.py", "files") as run:
        file.write_text("first")
        run.log_file(file)
        file.write_text("second")
        run.log_picture(np.zeros((8, 8, 3), np.uint8), "pictures/black.png")
    assert tracking.fetch(run.id, "note.txt", tmp_path / "back").read_text() == "first"
    assert tracking.fetch(run.id, "pictures/black.png", tmp_path / "back").is_file()
    with pytest.raises(TrackingError, match=r"has no artifact model .*it has:"):
        tracking.fetch(run.id, "model", tmp_path / "back")


def test_c84_c85_system_metrics_neither_wait_for_a_locked_store_nor_get_lost(store: str) -> None:
    with tracking.run(CONFIG, "configs/demo/generate_tiles_stats.py", "sampled") as run:
        _drained(run)
        lock = sqlite3.connect(store.removeprefix("sqlite:///"), timeout=60, isolation_level=None)
        lock.execute("BEGIN EXCLUSIVE")
        began = time.monotonic()
        with tracking.system_metrics(run, seconds=0.05):
            time.sleep(0.5)
        took = time.monotonic() - began
        assert not [thread for thread in threading.enumerate() if thread.name == "system metrics"]
        lock.execute("ROLLBACK")
        lock.close()
    assert took < 2.0
    values = tracking.history(run.id, "system/process_threads")
    assert [step for step, _ in sorted(values)] == list(range(len(values)))
    assert len(values) >= 3
    assert min(value for _, value in values) >= 2


def test_c84_an_error_inside_ends_the_sampling_and_passes(store: str) -> None:
    with (
        pytest.raises(ValueError, match="out of memory"),
        tracking.run(CONFIG, "configs/demo/generate_tiles_stats.py", "failed") as run,
        tracking.system_metrics(run, seconds=60.0),
    ):
        raise ValueError("out of memory")
    assert not [thread for thread in threading.enumerate() if thread.name == "system metrics"]
    assert len(tracking.history(run.id, "system/cpu_utilization_percentage")) == 1  # the sample at the end
    assert mlflow.MlflowClient().get_run(run.id).info.status == "FAILED"


def test_c84_a_process_without_a_run_samples_nothing() -> None:
    before = threading.active_count()
    with tracking.silent_run() as run, tracking.system_metrics(run, seconds=0.01):
        assert threading.active_count() == before
