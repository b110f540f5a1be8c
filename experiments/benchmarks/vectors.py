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
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "output" / "benchmarks" / "vectors"
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
    from swath.geo.polygons import PolygonRules, polygonize
    from swath.geo.raster import RasterReader, RasterSpec, write_raster
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
    from swath.geo.raster import RasterSpec, RasterWriter
    from swath.geo.vector import burn_strips, read_polygons

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


def child(name: str, target: Path) -> Row:
    """In a process of its own: import, work, tell."""
    started = time.perf_counter()
    import swath.geo.mosaic
    import swath.geo.polygons
    import swath.geo.vector  # noqa: F401

    imported = time.perf_counter()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    facts = OURS[name](target)
    seconds = time.perf_counter() - imported
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "seconds": seconds,
        "import_s": imported - started,
        "peak_mb": peak / 1024,
        "import_mb": before / 1024,
    } | facts


def ours(name: str, target: Path) -> Row:
    """Seconds, peak and facts of our work in a fresh process."""
    remove(target)
    return dict(apart("--child", name, "--target", str(target)))


def apart(*arguments: str) -> Any:
    """What this script prints in a process of its own: a process starts with the peak of the one that it comes from."""
    done = subprocess.run([sys.executable, __file__, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def peer(name: str, target: Path) -> Row:
    """Seconds and peak of GDAL's process."""
    remove(target)
    command = peer_command(name, target)
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    error = process.stderr.read() if process.stderr else b""
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command[0]} failed: {error.decode()}. Install gdal-bin and python3-gdal.")
    return {"seconds": seconds, "peak_mb": usage.ru_maxrss / 1024}


def remove(target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    for path in target.parent.glob(f"{target.stem}.*"):
        path.unlink()


def measure(name: str, rounds: int) -> Row:
    """A row: medians of `rounds` rounds after one that is not counted, the ratio and the spread of its rounds."""
    slug = name.replace(", ", "_").replace(" ", "_")
    targets = FOLDER / "ours" / f"{slug}{SUFFIX[name]}", FOLDER / "peer" / f"{slug}{SUFFIX[name]}"
    pairs = [(ours(name, targets[0]), peer(name, targets[1])) for _ in range(rounds + 1)][1:]
    a, b = ([run["seconds"] for run in side] for side in zip(*pairs, strict=True))
    ratios = sorted(x / y for x, y in zip(a, b, strict=True))
    return {
        "name": name, "ours": statistics.median(a), "peer": statistics.median(b),
        "ratio": statistics.median(ratios), "spread": (ratios[0], ratios[-1]),
        "import_s": pairs[-1][0]["import_s"], "import_mb": pairs[-1][0]["import_mb"],
        "ours_peak_mb": max(p[0]["peak_mb"] for p in pairs), "peer_peak_mb": max(p[1]["peak_mb"] for p in pairs),
        "equal": apart("--equal", name, "--target", str(targets[0])),
    }  # fmt: skip


def equal(name: str, mine: Path) -> bool:
    """Whether both wrote the same polygons of the classes asked for, or the same pixels."""
    theirs = FOLDER / "peer" / mine.name
    import numpy as np

    from swath.geo.raster import read_labels
    from swath.geo.vector import read_polygons

    if SUFFIX[name] == ".tif":
        return bool(np.array_equal(read_labels(mine), read_labels(theirs)))
    a, b = (read_polygons(path, "id") for path in (mine, theirs))
    b = b[b["id"].isin(a["id"].unique())]
    return sorted(zip(a["id"], a.normalize().to_wkb(), strict=True)) == sorted(
        zip(b["id"], b.normalize().to_wkb(), strict=True)
    )


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    head = "| step | ours, s | GDAL, s | ratio (lowest to highest) | memory, MB: ours (imports), GDAL | imports, s | equal |"
    lines = [
        f"| {r['name']} | {r['ours']:.2f} | {r['peer']:.2f} | {r['ratio']:.2f} ({r['spread'][0]:.2f} to "
        f"{r['spread'][1]:.2f}) | {r['ours_peak_mb']:.0f} ({r['import_mb']:.0f}), {r['peer_peak_mb']:.0f} | "
        f"{r['import_s']:.1f} | {'yes' if r['equal'] else 'NO'} |"
        for r in rows
    ]
    return "\n".join([head, "|" + "---|" * 7, *lines])


def versions() -> str:
    import rasterio
    import shapely

    tool = subprocess.run(["gdalinfo", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    return (
        f"{os.cpu_count()} cores; tools: {tool}; rasterio {rasterio.__version__} with GDAL {rasterio.__gdal_version__}, "
        f"shapely {shapely.__version__} with GEOS {shapely.geos_version_string}; GDAL_CACHEMAX at its default; warm"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Polygonise, rasterise and merge against GDAL's tools.")
    parser.add_argument("--rounds", type=int, default=5, help="counted rounds of each row")
    parser.add_argument("--only", choices=list(OURS), action="append", help="rows to run; all without it")
    parser.add_argument("--child", choices=list(OURS), help=argparse.SUPPRESS)
    parser.add_argument("--equal", choices=list(OURS), help=argparse.SUPPRESS)
    parser.add_argument("--scene", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--target", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child or options.equal:
        print(json.dumps((child if options.child else equal)(options.child or options.equal, options.target)))
        return
    if options.scene:
        print(json.dumps(make_scene()))
        return
    apart("--scene")
    rows = [measure(name, options.rounds) for name in options.only or OURS]
    (FOLDER / "rows.json").write_text(json.dumps(rows, indent=2) + "\n")
    print(f"{versions()}; {options.rounds} rounds\n\n{table(rows)}")


if __name__ == "__main__":
    main()
