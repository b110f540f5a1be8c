"""All benchmarks, or some: measures, keeps each result as JSON, and writes RESULTS.md and the README's figure from them.

    make bench                                    # everything
    make bench ROWS="tiles statistics"            # these; the others keep their results
    python experiments/benchmarks/run.py --report # only RESULTS.md and the figure, from the JSON there is

Peers are installed from peers/*.txt into environments of their own on the first start. A row whose peer cannot be
installed, or whose measurement fails, is listed with the reason.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from report import write_figure, write_report
from rounds import CACHE, PEERS, ROOT

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"


@dataclass(frozen=True)
class Step:
    """What one start of a script measures."""

    name: str
    script: str
    arguments: Sequence[str] = ()
    quick: Sequence[str] = ()
    """What --quick says besides: sizes for a look on a busy machine. The last of two equal options holds."""
    rounds: int | None = None
    """Rounds of its own, where one takes long; as given on the command line otherwise."""


STEPS = (
    Step("bands", "preparation.py", ["--only", "bands"], ["--shape", "2048", "2048"]),
    Step("tiles", "preparation.py", ["--only", "tiles"], ["--shape", "2048", "2048"]),
    Step("statistics", "preparation.py", ["--only", "statistics"], ["--shape", "2048", "2048"]),
    *(Step(name, "vectors.py", ["--only", name]) for name in ("rasterize", "merge", "polygonise")),
    Step("loader", "loader.py", [], ["--tiles", "16", "--samples", "400"]),
    Step(
        "inference",
        "inference.py",
        ["--size", "4096", "--tall", "16384"],
        ["--size", "1024", "--tall", "2048"],
        rounds=3,
    ),
    Step(
        "training", "training.py", ["--steps", "26", "--batch", "8", "--crop", "128"], ["--steps", "20", "--crop", "64"]
    ),
    Step("metrics", "metrics.py", [], ["--megapixels", "10"]),
    Step("indices", "indices.py", [], ["--times", "3"]),
    Step("start", "start.py"),
    Step("growth", "growth.py", [], ["--sides", "1024", "2048", "4096"], rounds=2),
    Step("table", "table.py", [], ["--tiles", "100000"], rounds=2),
    Step("channels", "channels.py", [], ["--tiles", "2"]),
    Step("grouping", "grouping.py", [], ["--scenes", "2000"], rounds=3),
)


def machine() -> dict[str, Any]:
    """What numbers depend on beside the code."""
    with Path("/proc/cpuinfo").open() as lines:
        model = next(
            (line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine()
        )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": model, "cores": len(os.sched_getaffinity(0)), "memory_gb": round(memory),
        "gdal_cachemax": os.environ.get("GDAL_CACHEMAX", "default"),
    }  # fmt: skip


def versions() -> dict[str, str]:
    """Of what both sides run on, and of the peers."""
    import numpy
    import rasterio
    import sklearn
    import torch

    tools = subprocess.run(["gdalinfo", "--version"], capture_output=True, text=True, check=False).stdout.split(",")[0]
    pins = dict(line.split("==") for path in sorted(PEERS.glob("*.txt")) for line in path.read_text().split())
    return {
        "python": platform.python_version(), "torch": torch.__version__, "numpy": numpy.__version__,
        "rasterio": f"{rasterio.__version__} (GDAL {rasterio.__gdal_version__})", "GDAL's tools": tools,
        "scikit-learn": sklearn.__version__, **pins,
    }  # fmt: skip


def commit() -> str:
    """The commit, with a plus where the working tree differs from it."""
    run = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=10", "--exclude=*", "--dirty=+"]
    return subprocess.run(run, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


def busy() -> tuple[float, float]:
    """Seconds of processor time since the start of the machine: of all programs, of this one and those it has run."""
    fields = [int(n) for n in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    everyone = sum(fields) - fields[3] - fields[4]  # less idle, iowait
    own = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return everyone / os.sysconf("SC_CLK_TCK"), sum(one.ru_utime + one.ru_stime for one in own)


def measure(step: Step, rounds: int, quick: bool) -> dict[str, Any]:
    """Run a step's script; what it found, or why it did not."""
    found, before, started = CACHE / f"{step.name}.json", busy(), time.time()
    found.unlink(missing_ok=True)
    command = [
        sys.executable,
        str(HERE / step.script),
        *step.arguments,
        *(step.quick if quick else ()),
        f"--rounds={min(rounds, step.rounds or rounds)}",
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    print(f"== {step.name}", file=sys.stderr, flush=True)
    done = subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, check=False, env=environment)
    result: dict[str, Any] = {"rows": []}
    if found.is_file():
        result = json.loads(found.read_text())
    if done.returncode or not result["rows"]:
        result["error"] = " ".join(done.stderr.strip().splitlines()[-3:])[-600:] or f"exit status {done.returncode}"
    seconds = time.time() - started
    everyone, own = (now - then for now, then in zip(busy(), before, strict=True))
    others = max(0.0, everyone - own) / (seconds * machine()["cores"])
    return result | {
        "quick": quick, "machine": machine(), "versions": versions(), "commit": commit(), "date": str(datetime.date.today()),
        "others": round(others, 3), "seconds": round(seconds),
    }  # fmt: skip


def main() -> None:
    names = [step.name for step in STEPS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(names)}; all without one")
    parser.add_argument("--rounds", type=int, default=5, help="counted rounds, after one that warms up")
    parser.add_argument("--quick", action="store_true", help="smaller sizes: a look, no result to quote")
    parser.add_argument("--report", action="store_true", help="measure nothing")
    given = parser.parse_args()
    unknown = [name for name in given.rows if name not in names]
    if unknown:
        parser.error(f"no row {', '.join(unknown)}; there are {', '.join(names)}")
    RESULTS.mkdir(exist_ok=True)
    for step in STEPS if not given.report else ():
        if step.name in (given.rows or names):
            (RESULTS / f"{step.name}.json").write_text(
                json.dumps(measure(step, given.rounds, given.quick), indent=1) + "\n"
            )
            write_report(RESULTS, names)
    write_report(RESULTS, names)
    write_figure(RESULTS, ROOT / "docs" / "benchmarks.png")


if __name__ == "__main__":
    main()
