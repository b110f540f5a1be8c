"""Preparation against GDAL's own tools: 3 bands, tiles, statistics.

    python experiments/benchmarks/preparation.py --rounds 5 --only tiles

Ours and the peer run in turn (A B A B), each in a process of its own, after a warm-up. A row holds median seconds, the
ratio and its spread, peak memory in MB and the target. Needs 7 GB of disk for a scene of the default size. Ours is timed without the imports of
Python, and its memory is counted above what they take; GDAL's tools are timed and counted whole.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rounds import CACHE, cost, in_turn, row, timed, write

SHAPE = (11264, 12032)
"""Height and width of a Sentinel-1 scene of 10 m."""


def part(name: str, *arguments: object) -> list[str]:
    """The command that runs one of this module's parts in a process of its own."""
    return [sys.executable, __file__, name, *map(str, arguments)]


def compared(name: str, ours: list[str], peer: list[str], target: str, rounds: int, clean: Callable[[], None]) -> dict:
    """A row of the table."""
    peaks: dict[str, list[float]] = {"ours": [], "peer": []}

    def seconds(who: str, command: list[str]) -> float:
        clean()
        found = cost(command)
        peaks[who].append(found.megabytes)
        return found.seconds

    found = in_turn({"ours": partial(seconds, "ours", ours), "peer": partial(seconds, "peer", peer)}, rounds)
    memory = max(peaks["ours"]), max(peaks["peer"])
    return row(name, found["ours"], found["peer"], target, "s", memory)


# ---------------------------------------------------------------------------------------------------------- the parts


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
    from swath.challenges.unosat.scenes import find_pairs, write_3b

    (pair,) = find_pairs(source, output, "3b")
    timed(lambda: write_3b(pair))


def masks(source: Path, output: Path) -> None:
    from swath.challenges.unosat.labels import RasterizeConfig, find_labels, label_job, write_mask
    from swath.challenges.unosat.scenes import find_pairs

    config = RasterizeConfig(input_path=str(source), output_path=str(output))
    ((labels, pair),) = find_labels(find_pairs(source, output, "vh"), source)
    timed(lambda: write_mask(label_job(labels, pair, config)))


def tiles(source: Path, output: Path, masks: Path | None = None) -> None:
    from swath.data.tables import TILES, read_scenes, write_table
    from swath.data.tiles.cutting import cut_jobs, cut_scene
    from swath.geo.raster import find_rasters
    from swath.geo.windows import ConstantSize

    scene = read_scenes(source)
    labels = {scene["key"].iloc[0]: find_rasters(masks)[0]} if masks else {}
    (job,) = cut_jobs(scene, labels, output, ConstantSize(size=512, min_overlap=32))
    rows: list[dict[str, Any]] = []
    timed(lambda: rows.extend(cut_scene(job)))
    write_table(output / TILES, rows)


def statistics(source: Path, fingerprints: bool = True) -> None:
    from swath.data.tiles.statistics import scene_statistics

    (job,) = _tile_jobs(source, fingerprints)
    timed(lambda: scene_statistics(job))


def reading(source: Path) -> None:
    """The peer of statistics: reading every tile once."""
    import rasterio

    (job,) = _tile_jobs(source)

    def read() -> None:
        for path in job.images:
            with rasterio.open(path) as file:
                file.read()

    timed(read)


def _tile_jobs(source: Path, fingerprints: bool = True) -> list[Any]:
    from swath.data.tables import TILE_COLUMNS, TILES, read_table
    from swath.data.tiles.statistics import scene_jobs

    return scene_jobs(read_table(source / TILES, TILE_COLUMNS, "generate_tiles"), source, 1.0, fingerprints)


# ------------------------------------------------------------------------------------------------------- the benchmark


def fresh(*folders: Path) -> None:
    """Empty folders."""
    for path in folders:
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)


def scenes(shape: tuple[int, int]) -> Path:
    """A folder with raw/ (VH, VV) and scenes/ (three bands), made once."""
    folder = CACHE / f"preparation_{shape[0]}_{shape[1]}"
    if not (folder / "ready").is_file():
        fresh(folder / "raw", folder / "scenes")
        make(folder / "raw", *shape)
        cost(part("bands", folder / "raw", folder / "scenes"))
        (folder / "ready").touch()
    return folder


def compare_bands(folder: Path, rounds: int) -> list[dict]:
    vh, vv = sorted((folder / "raw").glob("*.tif"))
    ours, peer = folder / "ours", folder / "peer"
    stack = f"gdalbuildvrt -q -separate {peer}/x.vrt {vh} {vv} {vv} && gdal_translate -q {peer}/x.vrt {peer}/x.tif"
    return [compared(
        "VH, VV to 3 bands / gdalbuildvrt + gdal_translate", part("bands", folder / "raw", ours), ["sh", "-c", stack],
        "<= 0.6", rounds, lambda: fresh(ours, peer),
    )]  # fmt: skip


def compare_tiles(folder: Path, rounds: int) -> list[dict]:
    (scene,) = (folder / "scenes").rglob("*.tif")
    cut, peer = folder / "cut", folder / "peer"
    retile = ["gdal_retile.py", "-q", "-ps", "512", "512", "-overlap", "32", "-targetDir", str(peer), str(scene)]
    return [compared(
        "tiles of 512, overlap 32 / gdal_retile", part("tiles", folder / "scenes", cut), retile, "<= 0.5", rounds,
        lambda: fresh(cut, peer),
    )]  # fmt: skip


def compare_statistics(folder: Path, rounds: int) -> list[dict]:
    cut = folder / "cut"
    fresh(cut)
    cost(part("tiles", folder / "scenes", cut))
    return [
        compared(f"{name} / reading them", part(ours, cut), part("reading", cut), target, rounds, lambda: None)
        for name, ours, target in (
            ("statistics of tiles", "bare_statistics", "<= 1.3"), ("statistics of tiles, with fingerprints", "statistics", ""),
        )
    ]  # fmt: skip


ROWS = {"bands": compare_bands, "tiles": compare_tiles, "statistics": compare_statistics}
PARTS: dict[str, Callable[..., None]] = {
    "bands": bands, "masks": masks, "tiles": tiles, "statistics": statistics, "reading": reading,
    "bare_statistics": partial(statistics, fingerprints=False),
}  # fmt: skip


def main() -> None:
    """A part, when one is named; else the benchmark."""
    if sys.argv[1:2] and sys.argv[1] in PARTS:
        from swath.steps.memory import keep_freed_memory

        if sys.argv[1] != "reading":
            keep_freed_memory()  # as the workers of a step do
        PARTS[sys.argv[1]](*map(Path, sys.argv[2:]))
        return
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--shape", type=int, nargs=2, default=SHAPE, help="height and width of the scene in pixels")
    options.add_argument("--only", choices=ROWS, action="append", help="rows to measure; all without it")
    given = options.parse_args()
    folder = scenes(tuple(given.shape))
    for name in given.only or ROWS:
        write(name, ROWS[name](folder, given.rounds), shape=given.shape, rounds=given.rounds, state="warm")
    for name in ("ours", "peer", "cut"):
        shutil.rmtree(folder / name, ignore_errors=True)


if __name__ == "__main__":
    main()
