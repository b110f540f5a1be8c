"""Steps of test_memory.py that the benchmarks have in another form: each a process of its own, on files of any size."""

from __future__ import annotations

import sys
from pathlib import Path

from experiments.benchmarks.rounds import timed


def merge(tiles: Path, like: Path, merged: Path) -> None:
    """Label tiles of a folder to one raster."""
    from swath.data.samples.dataset import corner_of
    from swath.data.tables import TILE_COLUMNS, TILES, read_table
    from swath.geo.mosaic import merge_tiles
    from swath.geo.raster import describe

    table = read_table(tiles / TILES, TILE_COLUMNS, "generate_tiles")
    paths, places = [tiles / mask for mask in table["mask"]], [corner_of(r) for r in table.to_dict("records")]
    timed(lambda: merge_tiles(paths, describe(like).grid, merged, "last", places))


def polygons(mask: Path) -> None:
    """A raster of classes to outlines."""
    from swath.geo.polygons import PolygonRules, polygonize_raster

    timed(lambda: polygonize_raster(mask, PolygonRules(), 2))


def inference(scene: Path, output: Path) -> None:
    """A scene to a map of classes."""
    from swath.prediction.rasters import scene_output
    from tests.scene_programs import tiny, work

    step = work(tiny(), 512, 32, probabilities=False)
    step(scene.parent / "small.tif", scene_output(output, "area", "small"))  # what a first pass keeps
    timed(lambda: step(scene, scene_output(output, "area", "scene")))


if __name__ == "__main__":
    {"merge": merge, "polygons": polygons, "inference": inference}[sys.argv[1]](*map(Path, sys.argv[2:]))
