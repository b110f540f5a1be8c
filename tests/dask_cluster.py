"""A Dask scheduler and workers as processes of their own, on this machine only."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

HOST = "127.0.0.1"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return int(listener.getsockname()[1])


@dataclass(frozen=True)
class Cluster:
    """Where the scheduler listens, and the processes."""

    port: int
    scheduler: subprocess.Popen[bytes]
    workers: list[subprocess.Popen[bytes]]

    @property
    def kind(self) -> str:
        return f"dask://{HOST}:{self.port}"

    def wait(self) -> None:
        """Until the scheduler listens."""
        while self.scheduler.poll() is None:
            with suppress(OSError), socket.create_connection((HOST, self.port), 1):
                return
            time.sleep(0.05)


def _environment() -> Mapping[str, str]:
    """Nothing that would lead workers to swath: the client has to."""
    return {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}


def _start(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "distributed.cli." + arguments[0], *arguments[1:]]
    with (folder / "dask.log").open("ab") as log:
        return subprocess.Popen(command, cwd=folder, env=_environment(), stdout=log, stderr=log)


@contextmanager
def cluster(folder: Path, workers: int = 2) -> Iterator[Cluster]:
    """A scheduler with `workers` processes of one thread each; all of them end with the block."""
    port = free_port()
    address = f"tcp://{HOST}:{port}"
    quiet = ("--no-dashboard",)
    started = [_start(folder, "dask_scheduler", "--host", HOST, "--port", str(port), *quiet)]
    try:
        options = ("--no-nanny", "--nthreads", "1", "--host", HOST, "--local-directory", str(folder), *quiet)
        started += [_start(folder, "dask_worker", address, *options) for _ in range(workers)]
        yield Cluster(port, started[0], started[1:])
    finally:
        for process in started:
            process.kill()
        for process in started:
            process.wait()
