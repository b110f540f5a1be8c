"""Fit a preprocessing on two and on four gloo processes; run by test_channels.py as a program of its own."""

import sys
from pathlib import Path

import ignite.distributed as idist
import numpy as np
import torch

from swath.nn.preprocess.channels import Bands, Fill, Preprocess
from swath.nn.preprocess.normalise import ZScore
from tests.dask_cluster import free_port


def tiles(count: int, seed: int = 0) -> list[torch.Tensor]:
    """Images of several sizes and levels with gaps, one of them all gap."""
    rng = np.random.default_rng(seed)
    images = []
    for i in range(count):
        values = rng.normal(i % 7, 0.1 + i % 3, (2, *rng.integers(20, 60, 2))) ** 2
        values[rng.random(values.shape) < (1.0 if i == 1 else 0.2)] = np.nan
        images.append(torch.from_numpy(values.astype(np.float32)))
    return images


def work(rank: int, folder: str) -> None:
    world = idist.get_world_size()
    model = Preprocess(Bands(("a", "b")), Fill(2, "min"), ZScore(2))
    model.fit(image for i, image in enumerate(tiles(9)) if i % world == rank)
    torch.save(model.state_dict(), Path(folder) / f"{world}_{rank}.pt")


if __name__ == "__main__":
    for processes in (2, 4):
        # forked: libraries are imported once
        with idist.Parallel(
            backend="gloo", nproc_per_node=processes, start_method="fork", master_port=free_port()
        ) as parallel:
            parallel.run(work, sys.argv[1])
