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

from swath import tracking
from swath.config.processes import start_processes
from tests.conftest import ROOT, child_environment

pytestmark = pytest.mark.system


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


@pytest.mark.parametrize(("name", "tolerance"), [("plain", 1e-5), ("network", 5e-4)])
def test_c69_two_processes_train_as_one(found: Path, name: str, tolerance: float) -> None:
    """A network without batch normalisation, and the one of the demo, which has 20 of them."""
    (one, _, _), (two, _, _) = (history(found, name, world)["history"] for world in (1, 2))
    assert [step for step, _ in one] == [step for step, _ in two]
    for (_, a), (_, b) in zip(one, two, strict=True):
        assert a.keys() == b.keys()  # scores can jump where a pixel is on the edge, by a pixel's worth
        for metric in a:
            close = tolerance if "loss" in metric else max(2e-3, 10 * tolerance)
            assert a[metric] == pytest.approx(b[metric], abs=close, nan_ok=True), metric
    assert any("training/loss" in values for _, values in one)


@pytest.mark.parametrize("name", ["plain", "network", "norm", "resumed"])
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


# -------------------------------------------------------------------------------------------------------- -P num_gpus=2


def entry_point(tmp_path: Path, name: str, parameters: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """What ``mlflow run . -e <name> -P ...`` starts, with a store in the test's folder."""
    _, *command = tracking.command_of(name, parameters)
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=child_environment(tmp_path / "mlflow.db"), capture_output=True, text=True,
        check=False, timeout=300,
    )  # fmt: skip


def test_c01_c69_num_gpus_trains_on_so_many_processes(tiles: Path, tmp_path: Path) -> None:
    """On CPUs where there is no GPU: one run, by the processes that each left a note."""
    config = tmp_path / "two.py"
    text = CONFIG.format(tiles=str(tiles), output=str(tmp_path / "out"))
    note = f"augmentation=(partial(NotesProcess, folder={str(tmp_path / 'notes')!r}),)"
    text = text.replace("crop=32,", f"crop=32, {note},").replace("FailsOnOne", "NotesProcess")
    config.write_text(text)
    done = entry_point(tmp_path, "training", {"config_path": str(config), "num_gpus": "2"})
    assert done.returncode == 0, done.stderr[-3000:]
    assert sorted(path.name for path in (tmp_path / "notes").iterdir()) == ["0 of 2", "1 of 2"]
    (run,) = runs(tmp_path)
    assert run.info.status == "FINISHED"
    assert done.stdout.count("training run id:") == 1


@pytest.mark.parametrize(
    ("name", "number", "said"),
    [
        ("training", "none", "error: num_gpus=none: give the number of processes, 1 or more"),
        ("inference", "1.5", "error: num_gpus=1.5: give the number of processes, 1 or more"),
        (
            "main",
            "2",
            "num_gpus=2: this entry point works in one process; training, pretrain and inference take several",
        ),
    ],
)
def test_c01_a_number_of_processes_that_makes_no_sense_is_named(
    tmp_path: Path, name: str, number: str, said: str
) -> None:
    scripts = {"script_path": "code/generate_tiles.py", "config_path": "configs/demo/generate_tiles.py"}
    given = scripts if name == "main" else {"config_path": f"configs/demo/{name}.py"}
    done = entry_point(tmp_path, name, given | {"num_gpus": number})
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_c01_the_request_is_taken_out_of_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for given in (["--num_gpus", "1"], ["--num_gpus=1.0"], []):
        monkeypatch.setattr(sys, "argv", ["training.py", "--config_path", "x.py", *given, "--epochs=2"])
        start_processes("training.py")
        assert sys.argv == ["training.py", "--config_path", "x.py", "--epochs=2"]
