"""Preparation against GDAL's own tools: 3 bands, tiles, statistics.

    python -m experiments.benchmarks.preparation [rounds] [height width]

Ours and the peer run in turn (A B A B), each in a process of its own, after a warm-up. A row holds median seconds, their
ratio, the spread of the ratio (interquartile), peak memory in MB and the target. Ours is timed without the imports of
Python, its memory is counted above an idle process that has made them; peers are timed and counted whole.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
SHAPE = (11264, 12032)
"""Height and width of the scene of shared/spec/performance.md."""


@dataclass(frozen=True)
class Cost:
    """What one process took: seconds of work, and its maximum resident size in MB."""

    seconds: float
    megabytes: float


def cost(command: list[str]) -> Cost:
    """Run a command; a last line ``seconds <number>`` on its output overrules the time from start to end."""
    started = time.perf_counter()
    with subprocess.Popen(command, cwd=ROOT, env=_environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{shlex.join(command)}: exit status {process.returncode}")
    lines = [line for line in said.splitlines() if line.startswith("seconds ")]
    seconds = float(lines[-1].split()[1]) if lines else time.perf_counter() - started
    return Cost(seconds, usage.ru_maxrss / 1024)


def _environment() -> dict[str, str]:
    return dict(os.environ) | {"PYTHONPATH": f"{ROOT / 'code'}:{ROOT}", "OMP_NUM_THREADS": "1"}


def part(name: str, *arguments: object) -> list[str]:
    """The command that runs one of this module's parts in a process of its own."""
    return [sys.executable, "-m", "experiments.benchmarks.preparation", name, *map(str, arguments)]


def compared(name: str, ours: list[str], peer: list[str], target: str, rounds: int, clean: Callable[[], None]) -> dict:
    """A B A B; a row of the table."""
    idle = cost(part("idle")).megabytes
    pairs = []
    for _ in range(rounds + 1):
        clean()
        a = cost(ours)
        clean()
        pairs.append((a, cost(peer)))
    pairs = pairs[1:]
    ratios = [a.seconds / b.seconds for a, b in pairs]
    return {
        "name": name,
        "ours": round(float(np.median([a.seconds for a, _ in pairs])), 3),
        "peer": round(float(np.median([b.seconds for _, b in pairs])), 3),
        "ratio": round(float(np.median(ratios)), 3),
        "spread": round(float(np.subtract(*np.percentile(ratios, [75, 25]))), 3),
        "memory": round(max(a.megabytes for a, _ in pairs) - idle),
        "memory_peer": round(max(b.megabytes for _, b in pairs)),
        "target": target,
    }


# ---------------------------------------------------------------------------------------------------------- the parts


def idle() -> None:
    """A process that has imported what the steps need, and does nothing."""
    import swath.challenges.unosat
    import swath.data.stats
    import swath.data.tiling  # noqa: F401


def make(folder: Path, height: int, width: int) -> None:
    """VH and VV of speckle with a strip of nodata, as GDAL writes them by default."""
    import rasterio
    from rasterio.windows import Window

    rng = np.random.default_rng(0)
    profile: dict[str, Any] = {
        "driver": "GTiff", "dtype": "float32", "count": 1, "height": height, "width": width, "nodata": -99999.0,
        "crs": "EPSG:32638", "transform": rasterio.Affine(10, 0, 400_000, 0, -10, 3_700_000),
    }  # fmt: skip
    for band in ("vh", "vv"):
        with rasterio.open(folder / f"s1a_a_{band}_ASC_20150102t145957.tif", "w", **profile) as file:
            for row in range(0, height, 512):
                block = rng.gamma(4.4, 0.02, (min(512, height - row), width)).astype(np.float32)
                block[:, :50] = -99999
                file.write(block[None], window=Window(0, row, width, len(block)))


def bands(source: Path, output: Path) -> None:
    from swath.challenges.unosat import find_pairs, write_3b

    (pair,) = find_pairs(source, output, "3b")
    _timed(lambda: write_3b(pair))


def masks(source: Path, output: Path) -> None:
    from swath.challenges.unosat import RasterizeConfig, find_labels, find_pairs, label_job, write_mask

    config = RasterizeConfig(input_path=str(source), output_path=str(output))
    ((labels, pair),) = find_labels(find_pairs(source, output, "vh"), source)
    _timed(lambda: write_mask(label_job(labels, pair, config)))


def tiles(source: Path, output: Path) -> None:
    from swath.data.catalog import TILES, read_scenes, write_table
    from swath.data.tiling import cut_jobs, cut_scene
    from swath.geo.windows import ConstantSize

    (job,) = cut_jobs(read_scenes(source), {}, output, ConstantSize(size=512, min_overlap=32))
    rows: list[dict[str, Any]] = []
    _timed(lambda: rows.extend(cut_scene(job)))
    write_table(output / TILES, rows)


def statistics(source: Path) -> None:
    from swath.data.stats import scene_statistics

    (job,) = _tile_jobs(source)
    _timed(lambda: scene_statistics(job))


def reading(source: Path) -> None:
    """The peer of statistics: reading every tile once."""
    import rasterio

    (job,) = _tile_jobs(source)

    def read() -> None:
        for path in job.images:
            with rasterio.open(path) as file:
                file.read()

    _timed(read)


def _tile_jobs(source: Path) -> list[Any]:
    from swath.data.catalog import TILE_COLUMNS, TILES, read_table
    from swath.data.stats import scene_jobs

    return scene_jobs(read_table(source / TILES, TILE_COLUMNS, "generate_tiles"), source, 1.0)


def _timed(work: Callable[[], Any]) -> None:
    started = time.perf_counter()
    work()
    print("seconds", time.perf_counter() - started)


# ------------------------------------------------------------------------------------------------------- the benchmark


def run(rounds: int = 5, shape: tuple[int, int] = SHAPE) -> list[dict]:
    """Rows of the table; needs 7 GB of disk in the temporary folder for a scene of the default size."""
    with tempfile.TemporaryDirectory(prefix="swath-bench-") as name:
        folder = Path(name)
        raw, scenes, cut = folder / "raw", folder / "scenes", folder / "cut"
        raw.mkdir()
        make(raw, *shape)
        vh, vv = sorted(raw.glob("*.tif"))

        def fresh(*folders: Path) -> None:
            for path in folders:
                shutil.rmtree(path, ignore_errors=True)
                path.mkdir()

        other = folder / "peer"
        stack = (
            f"gdalbuildvrt -q -separate {other}/x.vrt {vh} {vv} {vv} && gdal_translate -q {other}/x.vrt {other}/x.tif"
        )
        rows = [
            compared(
                "VH, VV to 3 bands / gdal_translate", part("bands", raw, scenes), ["sh", "-c", stack],
                "<= 0.6, < 300 MB", rounds, lambda: fresh(scenes, other),
            )
        ]  # fmt: skip
        cost(part("bands", raw, scenes))
        (scene,) = scenes.rglob("*.tif")
        retile = ["gdal_retile.py", "-q", "-ps", "512", "512", "-overlap", "32", "-targetDir", str(other), str(scene)]
        rows.append(
            compared(
                "tiles of 512 / gdal_retile", part("tiles", scenes, cut), retile, "<= 0.5", rounds,
                lambda: fresh(cut, other),
            )
        )  # fmt: skip
        cost(part("tiles", scenes, cut))
        rows.append(
            compared(
                "statistics of tiles / reading them", part("statistics", cut), part("reading", cut), "<= 1.3", rounds,
                lambda: None,
            )
        )  # fmt: skip
    return rows


PARTS: dict[str, Callable[..., None]] = {
    "bands": bands, "masks": masks, "tiles": tiles, "statistics": statistics, "reading": reading,
}  # fmt: skip


def main(arguments: list[str]) -> None:
    """A part, when one is named; else the benchmark."""
    if arguments and arguments[0] in PARTS:
        PARTS[arguments[0]](*map(Path, arguments[1:]))
    elif arguments == ["idle"]:
        idle()
    else:
        numbers = [int(text) for text in arguments]
        for row in run(numbers[0] if numbers else 5, (numbers[1], numbers[2]) if len(numbers) == 3 else SHAPE):
            print(row)


if __name__ == "__main__":
    main(sys.argv[1:])
