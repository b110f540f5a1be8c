"""What it takes to start: `mlflow run . -e X` that has nothing to do against an empty MLflow project, and --help.

    python experiments/benchmarks/start.py --rounds 5

X is generate_tiles in a folder where it has done its work before. The empty project is one entry point that runs
`python -c pass`. Both use the active environment and write to stores of their own.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from rounds import ROOT, in_turn, row, value, write

EMPTY = "name: empty\nentry_points:\n  main:\n    command: python -c pass\n"


def scene(path: Path) -> None:
    """A small raster to cut; the round that warms up does it."""
    import numpy as np
    from affine import Affine

    from swath.geo.grid import Grid
    from swath.geo.layout import RasterSpec
    from swath.geo.raster_writer import write_raster

    place = Grid(None, Affine(1, 0, 0, 0, -1, 0), (512, 512))
    write_raster(path, np.ones((1, 512, 512), np.float32), RasterSpec(grid=place, bands=("vh",), dtype="float32"))


def seconds(command: list[str], folder: Path) -> float:
    """Wall time of a command whose MLflow store lies in `folder`."""
    store = {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db", "MLFLOW_ARTIFACT_ROOT": str(folder)}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    started = time.perf_counter()
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ | store | {"PATH": path}
    )
    if done.returncode:
        raise SystemExit(f"{command} failed:\n{done.stderr[-2000:]}")
    return time.perf_counter() - started


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "empty").mkdir()
        (folder / "empty" / "MLproject").write_text(EMPTY)
        scene(folder / "scenes" / "one.tif")
        mlflow = [str(Path(sys.executable).parent / "mlflow"), "run", "--env-manager=local"]
        paths = ["-P", f"input_path={folder}/scenes", "-P", f"output_path={folder}/tiles"]
        config = ["-P", "config_path=configs/demo/generate_test_tiles.py"]
        found = in_turn(
            {
                "ours": partial(seconds, [*mlflow, ".", "-e", "generate_tiles", *config, *paths], folder),
                "empty": partial(seconds, [*mlflow, str(folder / "empty")], folder / "empty"),
                "help": partial(seconds, [sys.executable, "code/training.py", "--help"], folder),
            },
            given.rounds,
        )
    rows = [
        row(
            "`mlflow run` of a step with nothing to do / an empty project", found["ours"], found["empty"], "<= 1.2", "s"
        ),
        value("`--help` of an entry point", found["help"], "<= 0.5", "s"),
    ]
    write("start", rows, rounds=given.rounds)


if __name__ == "__main__":
    main()
