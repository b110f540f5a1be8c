"""Samples per second of random windows of warm tiles: swath's modes against a crop of a memory map and against peers.

    python experiments/benchmarks/loader.py --rounds 5

Tiles of 512 px with 2 float32 bands and a uint8 label, windows of 256 px with their labels. The limit copies a window
out of a memory map and drops it: no batch, no random draw that a restart can repeat. torchgeo and Raster Vision live in
environments of their own below output/benchmarks, made on the first start; `--peers` without a name leaves them out.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rounds import CACHE, NoPeerError, elsewhere, in_turn, python_with, row, write

SIDE, BANDS = 512, ("vh", "vv")


def make_tiles(count: int) -> Path:
    """Tiles side by side as generate_tiles writes them: images, masks, and the same pixels in memory maps."""
    from affine import Affine
    from rasterio.crs import CRS

    from swath.geo.grid import Grid
    from swath.geo.layout import RasterSpec
    from swath.geo.raster_writer import write_raster

    root, rng = CACHE / f"loader_{count}", np.random.default_rng(0)
    if (root / "ready").is_file():
        return root
    for i in range(count):
        place = Grid(CRS.from_epsg(32633), Affine(10, 0, 4e5 + 10 * SIDE * i, 0, -10, 4e6), (SIDE, SIDE))
        image = rng.random((len(BANDS), SIDE, SIDE)).astype(np.float32)
        spec = RasterSpec(grid=place, bands=BANDS, dtype="float32", nodata=-99999.0, block=None)
        write_raster(root / "images" / f"tile_{i:04}.tif", image, spec)
        mask = (image[:1] > 0.7).astype(np.uint8)
        spec = RasterSpec(grid=place, bands=("water",), dtype="uint8", nodata=255, block=None, compress=True)
        write_raster(root / "masks" / f"tile_{i:04}.tif", mask, spec)
        for name, array in (("images", image), ("masks", mask)):
            with (root / f"{name}.raw").open("ab" if i else "wb") as file:
                array.tofile(file)
    (root / "ready").touch()
    return root


def limit(root: Path, count: int, samples: int, crop: int) -> float:
    """Copies of windows of a memory map."""
    images = np.memmap(root / "images.raw", np.float32, "r", shape=(count, len(BANDS), SIDE, SIDE))
    masks = np.memmap(root / "masks.raw", np.uint8, "r", shape=(count, 1, SIDE, SIDE))
    draws = np.random.default_rng(0).integers([count, SIDE - crop + 1, SIDE - crop + 1], size=(samples, 3)).tolist()
    started = time.perf_counter()
    for i, r, c in draws:
        images[i, :, r : r + crop, c : c + crop].copy()
        masks[i, :, r : r + crop, c : c + crop].copy()
    return samples / (time.perf_counter() - started)


def open_handles(root: Path, count: int, samples: int, crop: int) -> float:
    """Windows read by rasterio from files that stay open."""
    import rasterio
    from rasterio.windows import Window

    files = [[rasterio.open(root / k / f"tile_{i:04}.tif") for k in ("images", "masks")] for i in range(count)]
    draws = np.random.default_rng(0).integers([count, SIDE - crop + 1, SIDE - crop + 1], size=(samples, 3)).tolist()
    started = time.perf_counter()
    for i, r, c in draws:
        for file in files[i]:
            file.read(window=Window(c, r, crop, crop))
    seconds = time.perf_counter() - started
    for pair in files:
        for file in pair:
            file.close()
    return samples / seconds


def swath(root: Path, cache: str, workers: int) -> Callable[[int, int], float]:
    """swath's data set and loader, in batches of 8; caches are warm after the first call."""
    from swath.data.samples.dataset import Crops, TileDataset
    from swath.data.samples.loader import Loader
    from swath.data.samples.samplers import Draw
    from swath.data.samples.tile_tables import tiles_from_folders

    tiles = tiles_from_folders(root / "images", root / "masks")
    loaders: dict[tuple[int, int], Any] = {}

    def measure(samples: int, crop: int) -> float:
        if (samples, crop) not in loaders:
            data = TileDataset(tiles, root, ["water"], Crops(size=crop), cache, root / "cache", max(1, workers))  # type: ignore[arg-type]
            loaders[samples, crop] = Loader(data, 8, [Draw(n % len(data), (0, n)) for n in range(samples)], workers)
        started = time.perf_counter()
        for _ in loaders[samples, crop]:
            pass
        return samples / (time.perf_counter() - started)

    return measure


def swath_samples(root: Path, cache: str, samples: int, crop: int) -> float:
    """swath's data set sample by sample, without a loader."""
    from swath.data.samples.dataset import Crops, TileDataset
    from swath.data.samples.samplers import Draw
    from swath.data.samples.tile_tables import tiles_from_folders

    tiles = tiles_from_folders(root / "images", root / "masks")
    data = TileDataset(tiles, root, ["water"], Crops(size=crop), cache, root / "cache")  # type: ignore[arg-type]
    for i in range(len(data)):
        data[Draw(i, (1, i))]
    started = time.perf_counter()
    for n in range(samples):
        data[Draw(n % len(data), (0, n))]
    return samples / (time.perf_counter() - started)


def torchgeo(root: Path, samples: int, crop: int) -> float:
    """torchgeo's raster data sets, image & mask, by random windows; one warm-up epoch."""
    from torchgeo.datasets import RasterDataset  # type: ignore[import-not-found]
    from torchgeo.samplers import RandomGeoSampler  # type: ignore[import-not-found]

    class Images(RasterDataset):  # type: ignore[misc]
        filename_glob = "*.tif"

    class Masks(RasterDataset):  # type: ignore[misc]
        filename_glob, is_image = "*.tif", False

    data = Images(str(root / "images")) & Masks(str(root / "masks"))
    for _ in range(2):
        sampler = RandomGeoSampler(data, size=crop, length=samples)
        started = time.perf_counter()
        for query in sampler:
            data[query]
    return samples / (time.perf_counter() - started)


def rastervision(root: Path, samples: int, crop: int) -> float:
    """Raster Vision's data sets of random windows, one per scene, here per tile; one warm-up epoch."""
    from rastervision.core.data import (  # type: ignore[import-not-found]
        ClassConfig,
        RasterioSource,
        Scene,
        SemanticSegmentationLabelSource,
    )
    from rastervision.pytorch_learner import (  # type: ignore[import-not-found]
        SemanticSegmentationRandomWindowGeoDataset,
    )

    classes = ClassConfig(names=["land", "water"], null_class="land")

    def scene(path: Path) -> Any:
        labels = RasterioSource(str(root / "masks" / path.name))
        return Scene(path.stem, RasterioSource(str(path)), SemanticSegmentationLabelSource(labels, classes))

    data = [
        SemanticSegmentationRandomWindowGeoDataset(
            scene(path), size_lims=(crop, crop + 1), out_size=crop, max_windows=samples
        )
        for path in sorted((root / "images").glob("*.tif"))
    ]
    for _ in range(2):
        started = time.perf_counter()
        for n in range(samples):
            data[n % len(data)][n]
    return samples / (time.perf_counter() - started)


PEERS = {"torchgeo": torchgeo, "rastervision": rastervision}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--tiles", type=int, default=64)
    options.add_argument("--samples", type=int, default=2000)
    options.add_argument("--crop", type=int, default=256)
    options.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS))
    options.add_argument("--measure", choices=PEERS, help=argparse.SUPPRESS)
    given = options.parse_args()
    samples, crop = given.samples, given.crop
    root = make_tiles(given.tiles)
    if given.measure:
        print(PEERS[given.measure](root, samples // 20, crop))
        return
    from swath.steps.memory import keep_freed_memory

    keep_freed_memory()  # as a training does
    measurements: dict[str, Callable[[], float]] = {
        "limit": partial(limit, root, given.tiles, samples, crop),
        "rasterio": partial(open_handles, root, given.tiles, samples // 4, crop),
        "samples off": partial(swath_samples, root, "off", samples // 4, crop),
        "samples ram": partial(swath_samples, root, "ram", samples, crop),
        "samples mmap": partial(swath_samples, root, "mmap", samples, crop),
    }
    for workers in (0, 2):
        for cache in ("off", "ram", "mmap"):
            measurements[f"loader {cache} {workers}"] = partial(swath(root, cache, workers), samples, crop)
    same = [f"--tiles={given.tiles}", f"--samples={samples}", f"--crop={crop}"]
    missing = []
    for peer in given.peers:
        try:
            measurements[peer] = partial(elsewhere, python_with(peer), Path(__file__), f"--measure={peer}", *same)
        except NoPeerError as error:
            missing.append(str(error))
    found = in_turn(measurements, given.rounds)
    pairs = [(f"samples {c}", "limit", ">= 0.8" if c != "off" else "") for c in ("off", "ram", "mmap")]
    pairs += [(f"loader {c} {w}", "limit", "") for w in (0, 2) for c in ("off", "ram", "mmap")]
    pairs += [("samples off", "rasterio", ">= 0.9")]
    goals = {"torchgeo": ">= 10", "rastervision": ""}
    pairs += [(f"loader {c} 0", peer, goals[peer]) for peer in PEERS if peer in found for c in ("off", "mmap")]
    named = {"limit": "memmap crop", "rasterio": "rasterio, open handles"}
    rows = [row(f"{a} / {named.get(b, b)}", found[a], found[b], target, "samples/s") for a, b, target in pairs]
    rows += [
        row(f"loader {c}: 2 workers / 0", found[f"loader {c} 2"], found[f"loader {c} 0"], ">= 1", "samples/s")
        for c in ("off", "ram", "mmap")
    ]
    write("loader", rows, tiles=given.tiles, samples=samples, crop=crop, rounds=given.rounds, state="warm")
    if missing:
        raise SystemExit("; ".join(missing))


if __name__ == "__main__":
    main()
