"""Time and memory of the steps over squares of 2k, 4k, 8k, 16k pixels: linear and flat?

    python experiments/benchmarks/growth.py --sides 2048 4096 8192 16384

One float32 band of speckle, a network of one 3 x 3 convolution, a mask of the same density of outlines at each size
(one pattern, repeated). Each step is a process of its own; seconds are of its work alone, memory is its peak above what
its imports take. The slope is that of log time over log pixels.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rounds import CACHE, cost, timed, value, write

HOME = CACHE / "growth"
BLOCK = 1024


def place(side: int) -> Any:
    from affine import Affine
    from rasterio.crs import CRS

    from swath.geo.grid import Grid

    return Grid(CRS.from_epsg(32638), Affine(10, 0, 400_000, 0, -10, 3_700_000), (side, side))


def make(side: int) -> None:
    """scene.tif and mask.tif of a square, once."""
    import cv2

    from swath.geo.layout import RasterSpec
    from swath.geo.raster_writer import RasterWriter
    from swath.geo.windows import strips

    folder, rng = HOME / str(side), np.random.default_rng(0)
    if (folder / "ready").is_file():
        return
    speckle = rng.gamma(4.4, 0.02, (1, BLOCK, side)).astype(np.float32)
    coarse = cv2.resize(rng.standard_normal((12, 12)).astype(np.float32), (BLOCK, BLOCK), interpolation=cv2.INTER_CUBIC)
    mask = np.tile((coarse > 0.8).astype(np.uint8), (1, side // BLOCK))[None]
    image_spec = RasterSpec(grid=place(side), bands=("vh",), dtype="float32", nodata=-99999.0)
    mask_spec = RasterSpec(grid=place(side), bands=("water",), dtype="uint8", nodata=255, compress=True)
    with (
        RasterWriter(folder / "scenes" / "scene.tif", image_spec) as image,
        RasterWriter(folder / "mask.tif", mask_spec) as out,
    ):
        for strip in strips((side, side), BLOCK * side):
            image.write(speckle, strip)
            out.write(mask, strip)
    (folder / "ready").touch()


def tiles(folder: Path) -> None:
    from swath.data.tables import TILES, read_scenes, write_table
    from swath.data.tiles.cutting import cut_jobs, cut_scene
    from swath.geo.windows import ConstantSize

    shutil.rmtree(folder / "cut", ignore_errors=True)
    (job,) = cut_jobs(read_scenes(folder / "scenes"), {}, folder / "cut", ConstantSize(size=512, min_overlap=0))
    rows: list[Any] = []
    timed(lambda: rows.extend(cut_scene(job)))
    write_table(folder / "cut" / TILES, rows)


def statistics(folder: Path) -> None:
    from swath.data.tables import TILE_COLUMNS, TILES, read_table
    from swath.data.tiles.statistics import scene_jobs, scene_statistics

    (job,) = scene_jobs(read_table(folder / "cut" / TILES, TILE_COLUMNS, "generate_tiles"), folder / "cut", 1.0)
    timed(lambda: scene_statistics(job))


def merge(folder: Path) -> None:
    from swath.data.tables import TILE_COLUMNS, TILES, read_table
    from swath.geo.grid import Window
    from swath.geo.mosaic import merge_tiles

    table = read_table(folder / "cut" / TILES, TILE_COLUMNS, "generate_tiles")
    paths = [folder / "cut" / image for image in table["image"]]
    places = [Window(*map(int, at)) for at in table[["row", "col", "height", "width"]].to_numpy()]
    timed(lambda: merge_tiles(paths, place(int(folder.name)), folder / "merged.tif", "last", places))
    (folder / "merged.tif").unlink()


def polygons(folder: Path) -> None:
    from swath.geo.polygons import PolygonRules, polygonize_raster

    timed(lambda: polygonize_raster(folder / "mask.tif", PolygonRules(classes=(1,)), 1))


def inference(folder: Path) -> None:
    import torch

    from swath.nn.model import Classification, SegmentationModel
    from swath.nn.preprocess.channels import Bands, Fill, Preprocess
    from swath.nn.preprocess.normalise import ZScore
    from swath.nn.tta import predictor
    from swath.prediction.rasters import scene_output
    from swath.prediction.scenes import ScenePredictor
    from swath.prediction.sliding import SlidingConfig
    from swath.steps.memory import keep_freed_memory

    keep_freed_memory()
    tasks = {"water": Classification()}
    net = torch.nn.Conv2d(1, 2, 3, padding=1)
    model = SegmentationModel(Preprocess(Bands(("vh",)), Fill(1), ZScore(1, mean=0.0, std=1.0)), net, tasks).eval()
    sliding = SlidingConfig(window=512, overlap=32, blend="uniform", batch=4)
    predict = predictor(model, sliding.tta, torch.device("cpu"))
    predict(torch.randn(4, 1, 512, 512))
    work = ScenePredictor(bands=("vh",), predict=predict, tasks=tasks, sliding=sliding)
    shutil.rmtree(folder / "out", ignore_errors=True)
    timed(lambda: work(folder / "scenes" / "scene.tif", scene_output(folder / "out", "area", "scene")))
    shutil.rmtree(folder / "out")


STEPS = {"tiles": tiles, "statistics": statistics, "merge": merge, "polygons": polygons, "inference": inference}


def slope(sides: list[int], seconds: list[float]) -> float:
    """Least squares through log seconds over log pixels."""
    return float(np.polyfit(2 * np.log(sides), np.log(seconds), 1)[0])


def measure(sides: list[int], rounds: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """(rows, the curves for the figure). Sizes in turn; of each step and size the fastest round counts."""
    curves: dict[str, Any] = {name: {"seconds": [], "memory": []} for name in STEPS}
    for side in sides:
        command = partial(
            lambda name, side: [sys.executable, __file__, "--part", name, "--sides", str(side)], side=side
        )
        cost(command("make"))
        for name in STEPS:
            found = [cost(command(name)) for _ in range(rounds)]
            curves[name]["seconds"].append(min(one.seconds for one in found))
            curves[name]["memory"].append(min(one.megabytes for one in found))
            print(side, name, curves[name]["seconds"][-1], curves[name]["memory"][-1], file=sys.stderr, flush=True)
        shutil.rmtree(HOME / str(side))
    rows = []
    for name, curve in curves.items():
        rows.append(value(f"{name}: slope of time over pixels", [slope(sides, curve["seconds"])], "1 +- 0.05", ""))
        more = curve["memory"][-1] - curve["memory"][0]
        rows.append(value(f"{name}: memory of {sides[-1]} px less that of {sides[0]} px", [more], "<= 50", "MB"))
    return rows, {"sides": sides, "curves": curves}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=2)
    options.add_argument("--sides", type=int, nargs="+", default=[2048, 4096, 8192, 16384])
    options.add_argument("--part", choices=["make", *STEPS], help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.part == "make":
        make(given.sides[0])
    elif given.part:
        STEPS[given.part](HOME / str(given.sides[0]))
    else:
        rows, curves = measure(given.sides, given.rounds)
        write("growth", rows, rounds=given.rounds, **curves)


if __name__ == "__main__":
    main()
