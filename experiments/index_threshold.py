"""What a threshold on one index reaches on coasts that it was not chosen on: what a network has to beat.

    PYTHONPATH=code python experiments/index_threshold.py output/kelp/folds

For each split of assign_folds in turn, index and threshold are those with the highest Dice on the other splits' tiles;
Dice is over all pixels of the split's tiles together. Indices are the 59 of `swath.challenges.kelp.indices` and the raw
bands, without a value on land, cloud, and where something is missing; pixels without a value count as background.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import geopandas as gpd
import numpy as np
import torch
from numpy.typing import NDArray

from swath.challenges.kelp.indices import KELP_INDICES, KelpIndices
from swath.challenges.kelp.product import BANDS, MISSING
from swath.data.splits.assign import JUDGED_IN
from swath.data.tables import read_scenes
from swath.geo.raster import RasterReader, read_labels
from swath.scoring.metrics import THRESHOLD_BINS, best_threshold, threshold_histogram

CHANNELS = KelpIndices(BANDS, tuple(KELP_INDICES), quality="QA", elevation="DEM", missing=(MISSING,))


def tiles_of(scenes: gpd.GeoDataFrame, split: str) -> Iterator[tuple[NDArray[np.float32], NDArray[np.uint8]]]:
    """Channels (C, H, W) and labels (H, W) of each tile that is judged in a split."""
    for row in scenes[scenes[JUDGED_IN] == split].itertuples():
        with RasterReader(Path(row.image), (MISSING,), BANDS) as reader:
            image_CHW = torch.from_numpy(reader.image())
        yield CHANNELS(image_CHW[None])[0].numpy(), read_labels(Path(row.labels))[0]


def counts_of(scenes: gpd.GeoDataFrame, split: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(int64 (C, 2, bins), `threshold_histogram` of each channel; int64 (C,), pixels of the target without a value)."""
    known = np.zeros((len(CHANNELS.names), 2, THRESHOLD_BINS), np.int64)
    lost = np.zeros(len(CHANNELS.names), np.int64)
    for channels_CHW, labels_HW in tiles_of(scenes, split):
        known += np.stack([threshold_histogram(channel, labels_HW) for channel in channels_CHW])
        lost += (~np.isfinite(channels_CHW) & (labels_HW == 1)).sum((1, 2))
    return known, lost


def judged(scenes: gpd.GeoDataFrame, split: str, channel: int, threshold: float, below: bool) -> NDArray[np.int64]:
    """Hits, false alarms and misses of a rule on the tiles of a split."""
    total = np.zeros(3, np.int64)
    for channels_CHW, labels_HW in tiles_of(scenes, split):
        values_HW = channels_CHW[channel]
        found = values_HW < threshold if below else values_HW >= threshold
        truth = labels_HW == 1
        total += [(found & truth).sum(), (found & ~truth).sum(), (~found & truth).sum()]
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="output_path of assign_folds")
    parser.add_argument("--splits", nargs="*", help="splits to judge; all without")
    given = parser.parse_args()
    scenes = read_scenes(Path(given.folder).resolve())
    splits = sorted(set(scenes[JUDGED_IN].dropna()))
    counted = {split: counts_of(scenes, split) for split in splits}
    total = np.zeros(3, np.int64)
    for split in given.splits or splits:
        others = [other for other in splits if other != split]
        rules = []
        for channel, name in enumerate(CHANNELS.names):
            histogram = np.sum([counted[other][0][channel] for other in others], axis=0)
            iou, threshold, below = best_threshold(histogram)
            seen, hidden = histogram[1].sum(), sum(counted[other][1][channel] for other in others)
            share = seen / max(seen + hidden, 1)
            rules.append((iou * share, name, channel, threshold, below))  # a bound: hidden pixels are missed
        _, name, channel, threshold, below = max(rules)
        hits, false, missed = counts = judged(scenes, split, channel, threshold, below)
        total += counts
        sign = "<" if below else ">="
        print(f"split {split}: {name} {sign} {threshold:.4g}  Dice {2 * hits / (2 * hits + false + missed):.4f}")
    hits, false, missed = total
    print(f"all: Dice {2 * hits / (2 * hits + false + missed):.4f}")


if __name__ == "__main__":
    main()
