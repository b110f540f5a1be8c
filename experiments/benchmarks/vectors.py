"""Polygonise, rasterise and merge a scene against GDAL's command-line tools.

PYTHONPATH=code:. python experiments/benchmarks/vectors.py --rounds 5

The scene: 12032 x 11264 px, a mask of about 2,650 water bodies in 624 tiles of 512 px that overlap by 32, and its
polygons with simplified outlines as labels; all seeded, under output/benchmarks/vectors/. Each round starts a fresh
process of ours and then one of GDAL's tool (A B A B); one round before the counted ones warms the page cache. The time of
ours is that of the work in its process, without the imports, which stand in a column of their own; the time of a tool
is that of its whole process. Memory is the largest resident size of the process; of ours, what the imports take is
stated, too. Needs gdal-bin and python3-gdal.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rounds import CACHE, cost, in_turn, row, timed, write

FOLDER = CACHE / "vectors"
SHAPE = (11264, 12032)
SEED = 0
Row = dict[str, Any]


# ------------------------------------------------------------------------------------------------------------- the scene


def make_scene() -> None:
    """Write mask.tif, labels.shp and tiles/*.tif, once."""
    if (FOLDER / "labels.shp").is_file():
        return
    import numpy as np

    from swath.geo.grid import Grid
    from swath.geo.layout import RasterSpec
    from swath.geo.polygons import PolygonRules, polygonize
    from swath.geo.raster import RasterReader
    from swath.geo.raster_writer import write_raster
    from swath.geo.vector import write_vectors

    mask, place = water(), scene_grid()
    spec = RasterSpec(grid=place, bands=("water",), dtype="uint8", nodata=255, compress=True)
    write_raster(FOLDER / "mask.tif", mask[None], spec)
    with RasterReader(FOLDER / "mask.tif") as reader:
        for window in tile_windows():
            tile = RasterSpec(grid=place.at(window), bands=("water",), dtype="uint8", nodata=255, compress=True)
            write_raster(tile_path(window), reader.labels(window), tile)
    labels = polygonize(mask, Grid(place.crs, place.transform, SHAPE), PolygonRules(simplify=40.0))
    write_vectors(FOLDER / "labels.shp", labels.rename(columns={"id": "DN"}).assign(DN=np.uint8(1)))


def scene_grid() -> Any:
    """A grid in UTM 38N with pixels of 10 m."""
    from affine import Affine
    from rasterio.crs import CRS

    from swath.geo.grid import Grid

    return Grid(CRS.from_epsg(32638), Affine(10, 0, 400_000, 0, -10, 3_700_000), SHAPE)


def tile_windows() -> list[Any]:
    """624 windows of 512 px that overlap by about 32, row by row."""
    from swath.geo.windows import ConstantSize, windows

    return [window for window, _ in windows(SHAPE, ConstantSize(size=512, min_overlap=32))]


def tile_path(window: Any) -> Path:
    return FOLDER / "tiles" / f"tile_{window.col}_{window.row}.tif"


def water() -> Any:
    """uint8 mask: smooth noise with a rough edge, above a threshold."""
    import cv2
    import numpy as np

    rng = np.random.default_rng(SEED)
    field = np.zeros(SHAPE, np.float32)
    for size, weight in ((97, 1.0), (4, 0.02)):
        coarse = rng.standard_normal((SHAPE[0] // size + 2, SHAPE[1] // size + 2)).astype(np.float32) * weight
        field += cv2.resize(coarse, SHAPE[::-1], interpolation=cv2.INTER_CUBIC)
    return (field > 1.0).astype(np.uint8)


# ------------------------------------------------------------------------------------------------------------ what is run


def polygonise(classes: Sequence[int], target: Path) -> dict[str, float]:
    """Ours: mask.tif to a shapefile."""
    from swath.geo.polygons import PolygonRules, polygonize_raster
    from swath.geo.vector import write_vectors

    frame = polygonize_raster(FOLDER / "mask.tif", PolygonRules(classes=classes), os.cpu_count() or 1)
    write_vectors(target, frame)
    return {"polygons": len(frame), "area": float(frame.area.sum())}


def rasterise(target: Path) -> dict[str, float]:
    """Ours: labels.shp to a mask on the scene's grid."""
    from swath.geo.layout import RasterSpec
    from swath.geo.raster_writer import RasterWriter
    from swath.geo.rasterize import burn_strips
    from swath.geo.vector import read_polygons

    labels = read_polygons(FOLDER / "labels.shp", "DN")
    with RasterWriter(target, RasterSpec(grid=scene_grid(), bands=("water",), dtype="uint8")) as writer:
        for strip, mask in burn_strips(list(labels.geometry), list(labels["DN"]), scene_grid()):
            writer.write(mask[None], strip)
    return {"polygons": len(labels)}


def merge(target: Path) -> dict[str, float]:
    """Ours: the tiles to one mask."""
    from swath.geo.mosaic import merge_tiles

    places = tile_windows()
    tiles = [tile_path(window) for window in places]
    merge_tiles(tiles, scene_grid(), target, "last", places)  # the entry point knows them from tiles.parquet
    return {"tiles": len(tiles)}


OURS: dict[str, Callable[[Path], dict[str, float]]] = {
    "polygonise": lambda target: polygonise((1,), target),
    "polygonise, background too": lambda target: polygonise((0, 1), target),
    "rasterize": rasterise,
    "merge": merge,
}
TARGETS = {"polygonise": "<= 0.35", "polygonise, background too": "<= 0.35", "rasterize": "<= 1.0", "merge": "<= 1.0"}
SUFFIX = {"polygonise": ".shp", "polygonise, background too": ".shp", "rasterize": ".tif", "merge": ".tif"}


def peer_command(name: str, target: Path) -> list[str]:
    """GDAL's tool for the same work."""
    if name.startswith("polygonise"):
        mask = str(FOLDER / "mask.tif")
        return ["gdal_polygonize.py", "-q", mask, "-f", "ESRI Shapefile", str(target), target.stem, "id"]
    if name == "rasterize":
        x_min, y_min, x_max, y_max = scene_grid().bounds
        size = ["-te", x_min, y_min, x_max, y_max, "-ts", SHAPE[1], SHAPE[0], "-ot", "Byte"]
        layout = ["-co", "TILED=YES", "-co", "BLOCKXSIZE=512", "-co", "BLOCKYSIZE=512"]
        return [
            "gdal_rasterize",
            "-q",
            "-at",
            "-a",
            "DN",
            *map(str, size),
            *layout,
            str(FOLDER / "labels.shp"),
            str(target),
        ]
    tiles = [str(tile_path(window)) for window in tile_windows()]
    return ["gdal_merge.py", "-q", "-n", "255", "-a_nodata", "255", "-o", str(target), *tiles]


# ---------------------------------------------------------------------------------------------------------- measurements


def part(what: str, name: str, target: Path) -> list[str]:
    """The command that does one thing of this script in a process of its own."""
    return [sys.executable, __file__, what, name, "--target", str(target)]


def child(name: str, target: Path) -> None:
    """Our work, in a process of its own."""
    import swath.geo.mosaic
    import swath.geo.polygons
    import swath.geo.vector  # noqa: F401

    timed(lambda: OURS[name](target))


def remove(target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    for path in target.parent.glob(f"{target.stem}.*"):
        path.unlink()


def measure(name: str, rounds: int) -> Row:
    """A row of the table: ours and GDAL's tool in turn."""
    slug = name.replace(", ", "_").replace(" ", "_")
    targets = FOLDER / "ours" / f"{slug}{SUFFIX[name]}", FOLDER / "peer" / f"{slug}{SUFFIX[name]}"
    peaks: dict[int, list[float]] = {0: [], 1: []}

    def seconds(side: int, command: list[str]) -> float:
        remove(targets[side])
        found = cost(command)
        peaks[side].append(found.megabytes)
        return found.seconds

    commands = part("--child", name, targets[0]), peer_command(name, targets[1])
    found = in_turn({side: partial(seconds, i, commands[i]) for i, side in enumerate(("ours", "peer"))}, rounds)
    cost(part("--equal", name, targets[0]))  # fails when they differ
    memory = [max(peaks[side]) for side in (0, 1)]
    return row(f"{name} / {Path(commands[1][0]).stem}", found["ours"], found["peer"], TARGETS[name], "s", memory)


def equal(name: str, mine: Path) -> bool:
    """Whether both wrote the same polygons of the classes asked for, or the same pixels but for one in a million.

    gdal_rasterize burns large rasters in parts, and where a border only touches a pixel's corner, pixels at the start of
    a part differ from those of one pass.
    """
    theirs = FOLDER / "peer" / mine.name

    from swath.geo.raster import read_labels
    from swath.geo.vector import read_polygons

    if SUFFIX[name] == ".tif":
        return bool((read_labels(mine) != read_labels(theirs)).mean() < 1e-6)
    a, b = (read_polygons(path, "id") for path in (mine, theirs))
    b = b[b["id"].isin(a["id"].unique())]
    return sorted(zip(a["id"], a.normalize().to_wkb(), strict=True)) == sorted(
        zip(b["id"], b.normalize().to_wkb(), strict=True)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Polygonise, rasterise and merge against GDAL's tools.")
    parser.add_argument("--rounds", type=int, default=5, help="counted rounds of each row")
    parser.add_argument("--only", choices=list(OURS), action="append", help="rows to run; all without it")
    parser.add_argument("--child", choices=list(OURS), help=argparse.SUPPRESS)
    parser.add_argument("--equal", choices=list(OURS), help=argparse.SUPPRESS)
    parser.add_argument("--scene", help=argparse.SUPPRESS)
    parser.add_argument("--target", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(given.child, given.target)
    elif given.equal:
        raise SystemExit(0 if equal(given.equal, given.target) else f"{given.equal}: ours is not what GDAL wrote")
    elif given.scene:
        make_scene()
    else:
        cost(part("--scene", "make", FOLDER))
        for name in given.only or OURS:
            write(name, [measure(name, given.rounds)], shape=SHAPE, rounds=given.rounds, state="warm")


if __name__ == "__main__":
    main()
