"""Rounds of two or more measurements in turn (A B A B ...), what they come to (rows), and the peers' environments."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / "output" / "benchmarks"
PEERS = Path(__file__).resolve().parent / "peers"
sys.path.insert(
    1, str(ROOT / "code")
)  # behind the scripts' own folder; they import this module first, swath in their functions


def in_turn(measurements: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Each measurement once per round, after a warm-up round that does not count."""
    found: dict[str, list[float]] = {name: [] for name in measurements}
    for number in range(rounds + 1):
        for name, measure in measurements.items():
            value = measure()
            print(f"round {number} {name}: {value:.4g}", file=sys.stderr, flush=True)
            if number:
                found[name].append(value)
    return found


def row(
    name: str, ours: Sequence[float], peer: Sequence[float], target: str, unit: str, memory: Sequence[float] = ()
) -> dict[str, Any]:
    """Medians, the median of the ratios of each round, the lowest and the highest; `memory` in MB, ours and the peer's."""
    ratios = [a / b for a, b in zip(ours, peer, strict=True)]
    return {
        "name": name, "ours": statistics.median(ours), "peer": statistics.median(peer), "unit": unit,
        "ratio": statistics.median(ratios), "low": min(ratios), "high": max(ratios), "target": target,
        "memory": list(memory),
    }  # fmt: skip


def value(name: str, found: Sequence[float], target: str, unit: str) -> dict[str, Any]:
    """A row of a number that has no peer: its target is about the number."""
    return {
        "name": name, "ours": statistics.median(found), "unit": unit, "target": target, "low": min(found),
        "high": max(found),
    }  # fmt: skip


def write(name: str, rows: Sequence[Mapping[str, Any]], **about: Any) -> None:
    """Print the rows and keep them in output/benchmarks, where run.py takes them from."""
    for line in rows:
        print("  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in line.items()))
    CACHE.mkdir(parents=True, exist_ok=True)
    (CACHE / f"{name}.json").write_text(json.dumps({"rows": list(rows), "about": about}, indent=2) + "\n")


@dataclass(frozen=True)
class Cost:
    """What one process took: seconds of work, and its maximum resident size in MB, above its start where it says that."""

    seconds: float
    megabytes: float


def environment() -> dict[str, str]:
    """For child processes: swath and these scripts can be imported, and a process computes in one thread."""
    return dict(os.environ) | {"PYTHONPATH": f"{ROOT / 'code'}:{ROOT}", "OMP_NUM_THREADS": "1"}


def cost(command: Sequence[str]) -> Cost:
    """Run a command; what `timed` prints in it overrules the time from start to end, and takes off what imports need."""
    started = time.perf_counter()
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        assert process.stdout is not None
        said = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            errors.seek(0)
            raise SystemExit(f"{shlex.join(command)}: exit status {process.returncode}\n{errors.read()[-2000:]}")
    told = [line.split()[1:] for line in said.splitlines() if line.startswith("timed ")]
    return Cost(*map(float, told[-1])) if told else Cost(time.perf_counter() - started, usage.ru_maxrss / 1024)


def timed(work: Callable[[], Any]) -> None:
    """Do the work and print its seconds and the memory that it took on top, in MB, the way `cost` reads them."""
    start, started = peak(), time.perf_counter()
    work()
    print("timed", time.perf_counter() - started, peak() - start)


def peak() -> float:
    """Largest resident size of this process so far in MB. `ru_maxrss` would count what started it, too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


class NoPeerError(RuntimeError):
    """A peer could not be installed: its rows say so."""


def python_with(peer: str) -> Path:
    """An interpreter with what peers/<peer>.txt pins, in an environment of its own, made on the first start.

    What swath's environment has is there, too, so that both sides run the same torch; where a pin differs, the peer's
    own package comes first. Raises NoPeerError with the installer's words.
    """
    pins, home = PEERS / f"{peer}.txt", CACHE / "env" / peer
    python, ready = home / "bin" / "python", home / "ready"
    if not ready.is_file() or ready.read_text() != pins.read_text():
        shutil.rmtree(home, ignore_errors=True)
        venv.create(home, with_pip=True)
        packages = next((home / "lib").glob("python*")) / "site-packages"
        (packages / "swath-packages.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
        command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(pins)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NoPeerError(f"{peer} cannot be installed: {done.stderr.strip()[-500:]}")
        ready.write_text(pins.read_text())
    return python


def elsewhere(python: Path, script: Path, *arguments: str) -> float:
    """The number that a script prints last, run by another interpreter in a process of its own."""
    paths = os.pathsep.join([str(ROOT / "code"), str(ROOT), str(script.parent)])
    done = subprocess.run(
        [str(python), str(script), *arguments], capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": paths}
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{script.name} {' '.join(arguments)} failed:\n{done.stderr[-3000:]}")
    return float(done.stdout.split()[-1])
