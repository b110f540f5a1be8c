"""Statistics of 66 channels, 7 bands and 59 indices of them, over tiles of 350: ours, and two plain passes of NumPy.

    python experiments/benchmarks/channels.py --tiles 8 --rounds 5

Both get the same channels, made before, with a gap of missing pixels in each tile: count, mean, standard deviation, extremes
and three quantiles by channel. Ours takes one pass, and its quantiles are of all pixels; the two passes, as published
pipelines have them, take the mean of each tile's quantiles. What both compute exactly is compared first.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from rounds import in_turn, row, write

BANDS = ("SWIR", "NIR", "R", "G", "B", "QA", "DEM")
SIDE = 350
QUANTILES = (0.01, 0.5, 0.99)


def make(count: int) -> list[Any]:
    """Tiles of 66 channels, float32 (66, SIDE, SIDE) tensors, NaN where there is no measurement."""
    import torch

    from swath.challenges.kelp.indices import KELP_INDICES, KelpIndices

    channels = KelpIndices(BANDS, tuple(KELP_INDICES), quality="QA")
    generator = torch.Generator().manual_seed(0)
    tiles = []
    for number in range(count):
        image = torch.rand(1, len(BANDS), SIDE, SIDE, generator=generator) * 18_000 + 6_000
        image[:, 5] = 0
        image[:, 5, : 20 + number] = 1
        image[:, 6] = image[:, 6] / 1000 - 10
        tiles.append(channels(image)[0])
    return tiles


def two_passes(tiles: Sequence[Any]) -> dict[str, Any]:
    """Statistics by channel."""
    count, total, low, high, quantiles = 0, 0.0, np.inf, -np.inf, []
    with np.errstate(all="ignore"):
        for tile in tiles:
            flat = tile.numpy().reshape(len(tile), -1)
            count = count + np.isfinite(flat).sum(axis=1)
            total = total + np.nansum(flat, axis=1, dtype=np.float64)
            low = np.fmin(low, np.nanmin(flat, axis=1))
            high = np.fmax(high, np.nanmax(flat, axis=1))
            quantiles.append(np.nanquantile(flat, QUANTILES, axis=1))
        mean = total / count
        deviations = 0.0
        for tile in tiles:
            flat = tile.numpy().reshape(len(tile), -1)
            deviations = deviations + np.nansum((flat - mean[:, None]) ** 2, axis=1)
    found = {"mean": mean, "std": np.sqrt(deviations / count), "min": low, "max": high}
    return found | {"quantiles": np.nanmean(quantiles, axis=0)}


def compare(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Mean, deviation and extremes are equal, but for rounding to float32."""
    for name in ("mean", "std", "min", "max"):
        if not np.allclose(ours[name].numpy(), theirs[name], rtol=1e-5, atol=1e-6):
            raise SystemExit(f"our {name} is not NumPy's")


def seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--tiles", type=int, default=8)
    given = options.parse_args()
    from swath.nn.preprocess.channels import channel_statistics

    tiles = make(given.tiles)
    compare(channel_statistics(tiles), two_passes(tiles))
    works = {"ours": lambda: channel_statistics(tiles), "two passes": lambda: two_passes(tiles)}
    found = in_turn({name: lambda work=work: seconds(work) for name, work in works.items()}, given.rounds)
    rows = [row("statistics of 66 channels / two passes of NumPy", found["ours"], found["two passes"], "<= 0.5", "s")]
    write("channels", rows, channels=len(tiles[0]), size=SIDE, tiles=given.tiles, rounds=given.rounds)


if __name__ == "__main__":
    main()
