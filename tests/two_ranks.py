"""Train and evaluate on one and on two gloo processes; run by test_ranks.py as a program of its own."""

import gc
import json
import sys
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import ignite.distributed as idist
import numpy as np
import torch

from swath.config import load
from swath.distributed import all_gather
from swath.scoring.evaluate import evaluate
from swath.training.config import TrainingConfig, ValidationConfig
from swath.training.trainer import build_training
from tests.dask_cluster import free_port
from tests.synthetic import PixelNet, TinyNet
from tests.trainings import AllLabelled, killed_at, quiet, small


def work(rank: int, tiles: str, folder: str) -> None:
    world, output = idist.get_world_size(), Path(folder)
    for name, config in configs(Path(tiles), output / str(world)).items():
        found = {"history": trained(config)} if name != "resumed" else resumed(config)
        (output / f"{name}_{world}_{rank}.json").write_text(json.dumps(found))
    counted(Path(tiles), output)
    gc.collect()  # a wrapped model that outlives its process group takes the process down at its exit
    idist.barrier()


def configs(tiles: Path, output: Path) -> dict[str, TrainingConfig]:
    """Without augmentation and dropout, all ranks together do what one does; with them, they do not."""
    plain = small(tiles, output / "plain", model=partial(PixelNet), log_every=3, epochs=2)
    plain = replace(plain, data=replace(plain.data, augmentation=(partial(AllLabelled),), batch=2), accumulation=2)
    demo = load("configs/demo/training.py", TrainingConfig)
    network = replace(plain, output_path=str(output / "network"), model=demo.model)  # SGD: Adam makes steps of noise
    network = replace(network, optimizer=partial(torch.optim.SGD, lr=0.01, momentum=0.9))
    network = replace(network, data=replace(network.data, crop=48, batch=4))
    norm = small(tiles, output / "norm", model=partial(TinyNet), swa_from=0.4, ema_decay=0.9, epochs=2)
    kept = ValidationConfig(panels=2, keep_last=True)
    return {
        "plain": plain,
        "network": network,
        "norm": norm,
        "resumed": replace(norm, validation=kept, checkpoint_every=2),
    }


def trained(config: TrainingConfig) -> object:
    training = build_training(config, quiet())
    training.run()
    states = all_gather({name: tensor.numpy() for name, tensor in training.judged.state_dict().items()})
    assert all((state[name] == states[0][name]).all() for state in states for name in state), "ranks differ"
    averaged = training.kept_weights().get("swa")
    return [training.history, None if averaged is None else averaged[1], asdict(training.config)["log_every"]]


def resumed(config: TrainingConfig) -> dict[str, object]:
    whole = trained(replace(config, output_path=config.output_path + "_whole"))
    killed_at(config, 5)
    return {"whole": whole, "history": trained(config)}


def counted(tiles: Path, folder: Path) -> None:
    """Evaluations of one network, with panels of tiles that lie on different ranks."""
    torch.manual_seed(0)
    training = build_training(small(tiles, folder), quiet())
    assert training.validation_loader is not None
    shown = list(training.folds.validation["key"])[:3]
    found = evaluate(training.judged, training.validation_loader, training.config.tasks, training.learner.losses, shown)
    if idist.get_rank() == 0:
        np.savez(
            folder / f"found_{idist.get_world_size()}.npz",
            matrix=found.matrices["water"], loss=found.losses["loss"], panels=sorted(found.panels),
        )  # fmt: skip


if __name__ == "__main__":
    tiles_path, output_path = sys.argv[1:3]
    torch.set_num_threads(1)
    work(0, tiles_path, output_path)
    with idist.Parallel(
        backend="gloo", nproc_per_node=2, start_method="fork", master_port=free_port()
    ) as parallel:  # imports happen once
        parallel.run(work, tiles_path, output_path)
