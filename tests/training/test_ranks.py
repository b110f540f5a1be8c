"""Several processes train as one: the same samples, losses and scores; one run; one end, with its true reason."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest

from tests.conftest import ROOT, child_environment


@pytest.fixture(scope="module")
def found(tiles: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `tests.two_ranks` finds on one and on two processes."""
    folder = tmp_path_factory.mktemp("ranks")
    done = subprocess.run(
        [sys.executable, "-m", "tests.two_ranks", str(tiles), str(folder)],
        cwd=ROOT, env=child_environment(folder / "mlflow.db"), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def history(folder: Path, name: str, world: int, rank: int = 0) -> dict[str, Any]:
    return json.loads((folder / f"{name}_{world}_{rank}.json").read_text())


def test_c69_c79_two_processes_evaluate_to_the_same_numbers_and_panels(found: Path) -> None:
    one, two = (np.load(found / f"found_{world}.npz") for world in (1, 2))
    assert (one["matrix"] == two["matrix"]).all()
    assert one["matrix"].sum() > 0
    assert one["loss"] == pytest.approx(two["loss"], rel=1e-6)
    assert list(one["panels"]) == list(two["panels"])
    assert len(two["panels"]) == 3


def test_c69_two_processes_train_as_one_where_samples_do_not_meet(found: Path) -> None:
    (one, _, _), (two, _, _) = (history(found, "plain", world)["history"] for world in (1, 2))
    assert [step for step, _ in one] == [step for step, _ in two]
    for (_, a), (_, b) in zip(one, two, strict=True):
        assert a.keys() == b.keys()  # scores can jump where a pixel is on the edge, by a pixel's worth
        for name in a:
            assert a[name] == pytest.approx(b[name], abs=1e-5 if "loss" in name else 2e-3, nan_ok=True), name
    assert any("training/loss" in values for _, values in one)


@pytest.mark.parametrize("name", ["plain", "norm", "resumed"])
def test_c69_all_processes_know_the_same_numbers(found: Path, name: str) -> None:
    assert history(found, name, 2, rank=0) == history(found, name, 2, rank=1)


@pytest.mark.parametrize("world", [1, 2])
def test_c88_killed_and_resumed_equals_uninterrupted_on_any_number_of_processes(found: Path, world: int) -> None:
    for rank in range(world):
        result = history(found, "resumed", world, rank)
        assert result["history"] == result["whole"]


# ------------------------------------------------------------------------------------------------- torchrun, the script


CONFIG = '''"""A training for two processes."""
from functools import partial
from swath.nn.preprocess.channels import Decibel
from swath.data.splits.split import ByArea
from swath.training.config import DataConfig, TrainingConfig
from swath.nn.model import Classification
from tests.synthetic import TinyNet
from tests.trainings import FailsOnOne
config = TrainingConfig(
    data=DataConfig(tiles_path={tiles!r}, split=ByArea(validation_areas=("south",)), crop=32, batch=4, samples_per_epoch=16),
    tasks={{"water": Classification()}}, model=partial(TinyNet), channels=partial(Decibel), epochs=2, checkpoint_every=3,
    output_path={output!r}, device="cpu",
)
'''


@pytest.fixture
def torchrun(tiles: Path, tmp_path: Path) -> Any:
    """Start code/training.py on two processes; the store is in the test's folder."""
    config = tmp_path / "two.py"
    config.write_text(CONFIG.format(tiles=str(tiles), output=str(tmp_path / "out")))

    def start(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
        command += [str(ROOT / "code/training.py"), "--config_path", str(config), *arguments]
        return subprocess.Popen(
            command, cwd=tmp_path, env=child_environment(tmp_path / "mlflow.db"), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    return start


def runs(folder: Path) -> list[mlflow.entities.Run]:
    return list(mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}").search_runs(["0"]))


def test_c69_torchrun_keeps_one_run(torchrun: Any, tmp_path: Path) -> None:
    process = torchrun()
    printed, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-3000:]
    (run,) = runs(tmp_path)
    assert run.info.status == "FINISHED"
    assert printed.count("training run id:") == printed.count("epochs 2:") == 1
    assert re.search(r"best validation/iou_fg \d", printed)
    assert run.data.metrics["best/validation/iou_fg"] > 0
    assert not list((tmp_path / "out").rglob("state.pt"))


@pytest.mark.slow
def test_c69_c86_what_fails_on_one_process_ends_all_and_is_the_reason_of_the_run(torchrun: Any, tmp_path: Path) -> None:
    config = tmp_path / "two.py"
    config.write_text(config.read_text().replace("crop=32,", "crop=32, augmentation=(partial(FailsOnOne),),"))
    process = torchrun()
    _, errors = process.communicate(timeout=300)
    assert process.returncode not in (0, None)
    (run,) = runs(tmp_path)
    assert run.info.status == "FAILED", errors[-3000:]
    assert "process 1 failed: ValueError: the second process met something odd" in run.data.tags["swath.reason"]


@pytest.mark.slow
def test_c69_c86_c88_a_signal_ends_all_processes_and_the_same_command_goes_on(torchrun: Any, tmp_path: Path) -> None:
    process = torchrun("--epochs=500")
    deadline = time.monotonic() + 240
    while not list((tmp_path / "out").rglob("state.pt")) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=240)
    assert process.returncode not in (0, None)
    (run,) = runs(tmp_path)
    assert run.info.status == "KILLED", errors[-3000:]
    assert list((tmp_path / "out").rglob("state.pt"))
    process = torchrun("--epochs=500")
    lines = []
    for line in process.stderr:
        lines.append(line)
        if "going on at iteration" in line:
            break
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=240)
    assert sum("going on at iteration" in line for line in lines) == 1, lines[-20:]
