"""Trainings and tracking servers as processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.conftest import ROOT, child_environment
from tests.dask_cluster import free_port

CONFIG = '''"""A small training."""
from functools import partial

from swath.nn.preprocess.channels import Decibel
from swath.data.splits.split import ByArea
from swath.training.config import DataConfig, TrainingConfig, ValidationConfig
from swath.nn.model import Classification
from tests.synthetic import {model}

config = TrainingConfig(
    data=DataConfig(
        tiles_path={tiles!r}, split=ByArea(validation_areas=("south",)), crop=32, batch=4, samples_per_epoch=40,
    ),
    tasks={{"water": Classification()}},
    model=partial({model}),
    channels=partial(Decibel),
    epochs=6,
    log_every=1,
    checkpoint_every=5,
    validation=ValidationConfig(panels=1),
    output_path={output!r},
    device="cpu",
)
'''
STEPS = 10  # per epoch


def training_file(folder: Path, tiles: Path, model: str = "TinyNet") -> Path:
    """A config file of a training with ten steps per epoch."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "training.py"
    file.write_text(CONFIG.format(model=model, tiles=str(tiles), output=str(folder / "out")))
    return file


def start(file: Path, uri: str, *arguments: str, code: str = "") -> subprocess.Popen[str]:
    """Start a training as a process; `code` runs in it before the script."""
    script = str(ROOT / "code/training.py")
    command = [sys.executable, script] if not code else [sys.executable, "-c", f"{code}\n{RUN_SCRIPT}", script]
    # whoever starts the tests in the background has SIGINT ignored, and children inherit that
    restore = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(
        [*command, "--config_path", str(file), *arguments], cwd=file.parent, preexec_fn=restore,
        env=child_environment(file.parent / "unused.db") | {"MLFLOW_TRACKING_URI": uri},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


RUN_SCRIPT = "import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"


def wait_for(
    condition: Callable[[], object], process: subprocess.Popen[str] | None = None, seconds: float = 300
) -> None:
    """Wait until `condition` holds; AssertionError when it does not in time, or `process` ends before."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        if process is not None and process.poll() is not None and not condition():
            raise AssertionError(f"ended too early: {process.communicate()[0]}")
        time.sleep(0.05)


def has_state(file: Path) -> bool:
    """Whether the training of this config file has left a state to go on from."""
    return bool(list((file.parent / "out").rglob("state.pt")))


def ended(process: subprocess.Popen[str], seconds: float = 240) -> str:
    """All that a process has printed, once it has ended."""
    return process.communicate(timeout=seconds)[0]


@dataclass
class Server:
    """A tracking server on a SQLite store and files in `folder`, to be stopped and started again.

    Its store and its files can be used directly, too, as a dashboard's beside trainings on the same machine.
    """

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def store(self) -> str:
        return f"sqlite:///{self.folder / 'server.db'}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [
            sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1",
            "--backend-store-uri", self.store, "--default-artifact-root", str(self.folder / "artifacts"),
        ]  # fmt: skip
        environment: Mapping[str, str] = {k: v for k, v in child_environment(self.folder).items() if "MLFLOW_" not in k}
        self.process = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        wait_for(self.answers)

    def answers(self) -> bool:
        with suppress(OSError):
            return bool(urllib.request.urlopen(f"{self.uri}/health", timeout=2).status == 200)
        return False

    def stop(self) -> None:
        """Stop it with all of its workers, and wait until it no longer answers."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(30)
            wait_for(lambda: not self.answers())


@contextmanager
def server(folder: Path) -> Iterator[Server]:
    """A running server for the length of a block."""
    running = Server(folder, free_port())
    running.start()
    try:
        yield running
    finally:
        running.stop()
