"""Evaluate one model on one and on two gloo processes; run by test_training.py as a program of its own."""

import gc
import sys
from pathlib import Path

import ignite.distributed as idist
import numpy as np

from swath.engine.evaluator import evaluate
from swath.engine.trainer import Training
from tests.trainings import quiet, small


def work(rank: int, tiles: str, folder: str) -> None:
    matrix = counted(Path(tiles), Path(folder))
    if rank == 0:
        np.save(Path(folder) / f"matrix_{idist.get_world_size()}.npy", matrix)
    gc.collect()  # a wrapped model that outlives its process group takes the process down at its exit
    idist.barrier()


def counted(tiles: Path, folder: Path) -> np.ndarray:
    training = Training(small(tiles, folder), quiet())
    assert training.validation_loader is not None
    return evaluate(training.learner.wrapped, training.validation_loader, training.config.tasks).matrices["water"]


if __name__ == "__main__":
    tiles_path, output = sys.argv[1:3]
    work(0, tiles_path, output)
    with idist.Parallel(backend="gloo", nproc_per_node=2) as parallel:
        parallel.run(work, tiles_path, output)
