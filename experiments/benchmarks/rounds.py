"""Rounds of two or more measurements in turn (A B A B ...), and what they come to: rows of name, ours, peer, ratio."""

from __future__ import annotations

import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
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


def row(name: str, ours: Sequence[float], peer: Sequence[float], target: str) -> dict[str, Any]:
    """Medians, the median of the ratios of each round, and how far these ratios lie apart."""
    ratios = [a / b for a, b in zip(ours, peer, strict=True)]
    return {
        "name": name, "ours": statistics.median(ours), "peer": statistics.median(peer),
        "ratio": statistics.median(ratios), "spread": max(ratios) - min(ratios), "target": target,
    }  # fmt: skip


def write(name: str, rows: Sequence[Mapping[str, Any]], **about: Any) -> None:
    """Print the rows and keep them, with versions and cores, in output/benchmarks."""
    for line in rows:
        print("  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in line.items()))
    packages = ("torch", "pytorch-ignite", "rasterio", "numpy", "lightning", "torchgeo")
    versions = {package: found for package in packages if (found := _version(package))}
    machine = {"cores": len(os.sched_getaffinity(0)), "processor": platform.processor() or platform.machine()}
    CACHE.mkdir(parents=True, exist_ok=True)
    table = {"rows": list(rows), "versions": versions, **machine, "gdal_cachemax": os.environ.get("GDAL_CACHEMAX")}
    (CACHE / f"{name}.json").write_text(json.dumps(table | about, indent=2) + "\n")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


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
