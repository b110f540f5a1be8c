"""Real processes with faults at their writes: started warm, in folders of their own, and compared with undisturbed ones."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.conftest import ROOT, child_environment

HERE = Path(__file__).parent
PRELOAD = (*sorted(path.stem for path in (ROOT / "code").glob("*.py")), "mlflow.store.tracking.sqlalchemy_store",
           "swath.figures.charts", "swath.steps.handlers", "swath.training.trainer", "tests.synthetic")  # fmt: skip
"""All scripts, and what they import when they have work to do."""
KILL, TERM, FULL, PAUSE = 1, 2, 3, 4
"""Actions of inject.c."""
Arguments = Mapping[str, Any]


def compiled(folder: Path) -> Path:
    """The library of inject.c. Raises FileNotFoundError where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise FileNotFoundError("no C compiler (cc or gcc)")
    library = folder / "inject.so"
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", library, HERE / "inject.c", "-ldl"], check=True)
    return library


@dataclass(frozen=True)
class Fault:
    """What happens at which write below which folder; see inject.c. Nothing at 0."""

    folder: Path | None = None
    at: int = 0
    action: int = 0


@dataclass(frozen=True)
class Ended:
    """How a process ended, what it said, and how many writes below the watched folder it did (None: it was killed)."""

    status: int
    said: str
    writes: int | None


class Warm:
    """Starts scripts as processes forked from one that has imported everything (`warm.py`)."""

    def __init__(self, library: Path | None, project: Path = ROOT, modules: Sequence[str] = PRELOAD) -> None:
        self.project = project
        environment = child_environment(project / "unused.db")
        environment["PYTHONPATH"] = f"{project / 'code'}:{project}"
        environment |= {"LD_PRELOAD": str(library)} if library else {}
        self.server = subprocess.Popen(
            [sys.executable, str(HERE / "warm.py"), *modules], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=environment, cwd=project,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )  # fmt: skip
        self._turn = threading.Lock()
        assert self._answer() == {"ready": True}

    def _answer(self) -> dict[str, Any]:
        assert self.server.stdout is not None
        return dict(json.loads(self.server.stdout.readline()))

    def ask(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Give an order to the server, and return its answer; threads take turns."""
        assert self.server.stdin is not None
        with self._turn:
            self.server.stdin.write(json.dumps(order) + "\n")
            self.server.stdin.flush()
            return self._answer()

    def start(
        self, case: Case, script: str, arguments: Sequence[str], fault: Fault = Fault(), **constants: Any
    ) -> Process:
        """Start a script in a case's folder. `constants` are values of modules, ``__`` for a dot."""
        log = case.folder / f"{script}-{time.monotonic_ns()}.log"
        order = {
            "do": "start", "script": str(self.project / "code" / f"{script}.py"), "arguments": list(arguments),
            "folder": str(self.project), "environment": case.environment(self.project), "log": str(log),
            "fault": [str(fault.folder or ""), fault.at, fault.action],
            "constants": {name.replace("__", "."): value for name, value in constants.items()},
        }  # fmt: skip
        return Process(self, int(self.ask(order)["pid"]), log)

    def close(self) -> None:
        """End the server."""
        self.server.kill()
        self.server.wait()


@dataclass
class Process:
    """A process that `Warm` has started."""

    warm: Warm
    pid: int
    log: Path

    def wait(self, seconds: float = 240.0, paused: bool = False) -> Ended | None:
        """How it ended; None once it waits for SIGCONT, if `paused`. Killed after so many seconds."""
        deadline = time.monotonic() + seconds
        while True:
            found = self.warm.ask({"do": "poll", "pid": self.pid})
            if found["ended"]:
                counted = Path(f"{self.log}.count")
                writes = int(counted.read_text()) if counted.is_file() else None
                return Ended(found["status"], self.log.read_text(errors="replace"), writes)
            if paused and found["stopped"]:
                return None
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
                raise AssertionError(f"did not end: {self.log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.02)

    def send(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)


@dataclass
class Case:
    """A folder of its own for one case: inputs in ``in``, outputs in ``out``, a store, and a temporary folder."""

    folder: Path
    uri: str = ""
    """Of its store; empty: its own SQLite file."""
    runs_before: frozenset[str] = frozenset()
    """Ids of the runs that its store began with."""
    out: Path = field(init=False)

    def __post_init__(self) -> None:
        self.out = self.folder / "out"

    @property
    def database(self) -> Path:
        return self.folder / "server.db"  # where a tracking server of the case has it, too

    def environment(self, project: Path) -> dict[str, str]:
        """What its processes see."""
        return child_environment(self.database) | {
            "MLFLOW_TRACKING_URI": self.uri or f"sqlite:///{self.database}", "MLFLOW_EXPERIMENT_NAME": "faults",
            "TMPDIR": str(self.folder / "tmp"), "PYTHONPATH": f"{project / 'code'}:{project}",
        }  # fmt: skip

    def contents(self) -> dict[str, Any]:
        """Every file below ``out`` that is a result, and the weights of the newest finished training."""
        found: dict[str, Any] = {}
        for path in sorted(self.out.rglob("*")):
            name = path.relative_to(self.out).as_posix()
            if path.is_dir() or name.endswith(".settings.json") or path.name == "lock":
                continue
            if name.endswith(".done.jsonl"):
                lines = path.read_text().splitlines()  # a job done again has two lines, of which the last one counts
                found[name] = sorted({json.loads(line)["key"]: line for line in lines}.values())
            elif name.endswith(".zip"):
                with zipfile.ZipFile(path) as packed:
                    found[name] = {inside: packed.read(inside) for inside in packed.namelist()}
            else:
                found[name] = path.read_bytes()
        return found | self._weights()

    def _weights(self) -> dict[str, bytes]:
        with closing(sqlite3.connect(self.database)) as store:
            rows = store.execute(
                "SELECT run_uuid, artifact_uri FROM runs WHERE status = 'FINISHED' ORDER BY start_time DESC"
            ).fetchall()
        for run_id, uri in rows:
            weights = Path(uri.removeprefix("file://")) / "model/weights.safetensors"
            if run_id not in self.runs_before and weights.is_file():
                return {"weights": weights.read_bytes()}
        return {}

    def statuses(self) -> list[str]:
        """Statuses of the case's own runs, the oldest first."""
        with closing(sqlite3.connect(self.database)) as store:
            rows = store.execute("SELECT run_uuid, status FROM runs ORDER BY start_time").fetchall()
        return [status for run_id, status in rows if run_id not in self.runs_before]

    def leftovers(self) -> list[str]:
        """Hidden files and folders below ``out``, and scratch folders: nothing of these may outlive the next start."""
        hidden = list(self.out.rglob(".*"))
        return [str(path) for path in (*hidden, *(self.folder / "tmp").glob("swath-*"))]


@contextmanager
def locked(database: Path, process: Process | None = None) -> Iterator[None]:
    """Another process's lock on a store, as far as SQLite is concerned.

    `process`: one that is paused; where it holds the lock itself, it may go on for a moment at a time.
    """
    with closing(sqlite3.connect(database, timeout=1, isolation_level=None)) as store:
        for attempt in range(60):
            try:
                store.execute("BEGIN EXCLUSIVE")
                break
            except sqlite3.OperationalError:
                if attempt == 59:
                    raise
            if process is not None:
                process.send(signal.SIGCONT)
                time.sleep(0.02)
                process.send(signal.SIGSTOP)
        try:
            yield
        finally:
            store.execute("ROLLBACK")
