"""Steps per second of swath's training against a bare PyTorch loop, against Lightning, and of two processes against one.

    python experiments/benchmarks/training.py --rounds 5

The same Unet, loss, optimiser, tiles, draws and batches for all; a step is counted from the tenth on, after which
nothing is set up any more. Swath and the bare loop keep images channels last, as swath chooses on a CPU; Lightning and
torchgeo have PyTorch's own layout, as their trainers leave it. Lightning and torchgeo live in environments of their own below output/benchmarks, made on the
first start; `--peers` without a name leaves them out. --profile shows where swath's steps spend their time.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from loader import make_tiles
from rounds import NoPeerError, elsewhere, in_turn, python_with, row, write

WARM = 10


def make_config(tiles: int, steps: int, batch: int, crop: int, encoder: str, output: str) -> Any:
    """A training of one epoch without evaluation, on tiles that the loader's benchmark uses, too."""
    import segmentation_models_pytorch as smp
    import torch

    from swath.data.samples.tile_tables import tiles_from_folders
    from swath.data.splits.split import ByArea
    from swath.data.tables import write_table
    from swath.nn.model import Classification
    from swath.nn.preprocess.channels import Bands
    from swath.nn.preprocess.normalise import ZScore
    from swath.training.config import DataConfig, TrainingConfig, ValidationConfig
    from swath.training.schedules import Constant

    root = make_tiles(tiles)
    if not (root / "tile_stats.parquet").is_file():
        table = tiles_from_folders(root / "images", root / "masks")
        write_table(
            root / "tile_stats.parquet", table.assign(area="one", skip=False, valid_ratio=1.0, target_ratio=0.3)
        )
    data = DataConfig(
        tiles_path=str(root), split=ByArea(validation_areas=()), crop=crop, batch=batch, samples_per_epoch=steps * batch,
        cache="mmap", cache_path=str(root / "cache"),
    )  # fmt: skip
    return TrainingConfig(
        data=data, tasks={"water": Classification()}, epochs=1, output_path=output, checkpoint_every=10**9,
        model=partial(smp.Unet, encoder_name=encoder, encoder_weights=None), schedule=partial(Constant),
        optimizer=partial(torch.optim.AdamW, lr=1e-3), validation=ValidationConfig(metric=None), device="cpu",
        channels=partial(Bands), normaliser=partial(ZScore, mean=0.5, std=0.3), log_every=WARM,
    )  # fmt: skip


class Clock:
    """Time between the warm-up steps and the last."""

    def __init__(self, steps: int) -> None:
        self.steps, self.started, self.ended = steps, 0.0, 0.0

    def tick(self, step: int) -> None:
        if step == WARM:
            self.started = time.perf_counter()
        if step == self.steps:
            self.ended = time.perf_counter()

    @property
    def rate(self) -> float:
        return (self.steps - WARM) / (self.ended - self.started)


def ours(config: Any, steps: int) -> float:
    """swath: engine, handlers and logging."""
    from swath.training.loop import Reports
    from swath.training.trainer import build_training

    clock = Clock(steps)
    with tempfile.TemporaryDirectory() as output:
        reports = Reports(metrics=lambda values, step: clock.tick(step), evaluation=lambda *_: None)
        build_training(replace(config, output_path=output), reports).run()
    return clock.rate


def prepared(config: Any) -> tuple[Any, Any, Any, Any]:
    """The parts of the same training without its engine: model, loss, optimiser, batches."""
    from swath.training.loop import Reports
    from swath.training.trainer import build_training

    training = build_training(config, Reports.none())
    learner = training.learner
    return learner.model, learner.losses, learner.optimizer, training.batches.training_loader(0)


def bare(config: Any, steps: int) -> float:
    """The loop that one would write by hand."""
    model, losses, optimizer, batches = prepared(config)
    clock = Clock(steps)
    model.train()
    for step, batch in enumerate(batches, start=1):
        optimizer.zero_grad(set_to_none=True)
        image = batch["image"].contiguous(memory_format=torch.channels_last)
        loss = losses(model(image), batch["target"])["loss"]
        loss.backward()
        optimizer.step()
        clock.tick(step)
    return clock.rate


def lightning(config: Any, steps: int) -> float:
    """Lightning's trainer with its own logging of the loss, every tenth step as here."""
    import lightning as L  # type: ignore[import-not-found]

    config = replace(config, channels_last=False)
    model, losses, optimizer, batches = prepared(config)
    clock = Clock(steps)

    class Module(L.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def training_step(self, batch: Any, number: int) -> Any:
            loss = losses(self.model(batch["image"]), batch["target"])["loss"]
            self.log("loss", loss)
            return loss

        def configure_optimizers(self) -> Any:
            return optimizer

        def on_train_batch_end(self, outputs: Any, batch: Any, number: int) -> None:
            clock.tick(number + 1)

    # it moves batches to devices field by field and refuses the frozen windows among them
    fit(L, Module(), Renamed(batches, lambda batch: {"image": batch["image"], "target": batch["target"]}))
    return clock.rate


def torchgeo(config: Any, steps: int) -> float:
    """torchgeo's segmentation task, which brings loss, metrics and logging, with the same network under Lightning."""
    import lightning as L  # type: ignore[import-not-found]
    from torchgeo.trainers import SemanticSegmentationTask  # type: ignore[import-not-found]

    model, _, optimizer, batches = prepared(replace(config, channels_last=False))
    clock = Clock(steps)

    class Task(SemanticSegmentationTask):  # type: ignore[misc]
        def configure_optimizers(self) -> Any:
            return optimizer

        def on_train_batch_end(self, outputs: Any, batch: Any, number: int) -> None:
            clock.tick(number + 1)

    class Network(torch.nn.Module):
        """One task's logits, as torchgeo takes a network for one target."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, image: Any) -> Any:
            return self.model(image)["water"]

    def named(batch: Any) -> Any:
        return {"image": batch["image"], "mask": batch["target"]["water"].long()}

    task = Task(model="unet", backbone="resnet18", in_channels=2, num_classes=2, loss="ce", ignore_index=255)
    task.model = Network()
    fit(L, task, Renamed(batches, named))
    return clock.rate


class Renamed:
    """A loader whose batches have other names."""

    def __init__(self, batches: Any, rename: Any) -> None:
        self.batches, self.rename = batches, rename

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Any:
        return map(self.rename, self.batches)


def fit(L: Any, module: Any, batches: Any) -> None:
    """One epoch under Lightning's trainer."""
    with tempfile.TemporaryDirectory() as output:
        trainer = L.Trainer(
            max_epochs=1, accelerator="cpu", devices=1, enable_progress_bar=False, log_every_n_steps=WARM,
            default_root_dir=output, enable_checkpointing=False, enable_model_summary=False, use_distributed_sampler=False,
        )  # fmt: skip
        trainer.fit(module, batches)


def several(config: Any, steps: int) -> float:
    """swath on the processes that torchrun started."""
    from swath.distributed import process_group
    from swath.training.loop import Reports
    from swath.training.trainer import build_training

    clock = Clock(steps)
    with process_group("auto", "cpu"):  # all in the one folder of the config
        training = build_training(
            config, Reports(metrics=lambda values, step: clock.tick(step), evaluation=lambda *_: None)
        )
        training.run()
        training.unfinished.forget()
        del training
    return clock.rate


MEASUREMENTS = {"ours": ours, "bare": bare, "lightning": lightning, "torchgeo": torchgeo, "several": several}

PEERS = ("lightning", "torchgeo")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--steps", type=int, default=60)
    options.add_argument("--tiles", type=int, default=64)
    options.add_argument("--batch", type=int, default=8)
    options.add_argument("--crop", type=int, default=256)
    options.add_argument("--encoder", default="resnet18")
    options.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS))
    options.add_argument("--profile", action="store_true")
    options.add_argument("--measure", choices=MEASUREMENTS, help=argparse.SUPPRESS)
    given = options.parse_args()
    shared = str(Path(tempfile.gettempdir()) / f"swath-benchmark-{os.getppid()}")
    config = make_config(given.tiles, given.steps, given.batch, given.crop, given.encoder, shared)
    if given.measure:
        rate = MEASUREMENTS[given.measure](config, given.steps)
        if os.environ.get("RANK", "0") == "0":
            print(rate)
        return
    if given.profile:
        profile = cProfile.Profile()
        profile.runcall(ours, config, given.steps)
        pstats.Stats(profile).sort_stats("tottime").print_stats(30)
        return
    names = ("steps", "tiles", "batch", "crop", "encoder")
    same = [f"--{name}={getattr(given, name)}" for name in names]
    here, torchrun = Path(__file__).resolve(), Path(sys.executable).parent / "torchrun"
    measurements = {"bare": partial(bare, config, given.steps), "ours": partial(ours, config, given.steps)}
    for count in (1, 2):
        ranks = ["--standalone", f"--nproc_per_node={count}", str(here), "--measure=several", *same]
        measurements[f"{count} processes"] = partial(elsewhere, Path(sys.executable), torchrun, *ranks)
    missing = []
    for peer in given.peers:
        try:
            measurements[peer] = partial(elsewhere, python_with(peer), here, f"--measure={peer}", *same)
        except NoPeerError as error:
            missing.append(str(error))
    found = in_turn(measurements, given.rounds)
    pairs = [("ours", "bare", ">= 0.98"), ("2 processes", "1 processes", ">= 1.6")]
    pairs += [("ours", peer, ">= 1.1") for peer in PEERS if peer in found]
    known = {
        "ours": "engine",
        "bare": "bare loop",
        "1 processes": "1",
        "lightning": "Lightning",
        "torchgeo": "torchgeo's task",
    }
    rows = [row(f"{known.get(a, a)} / {known[b]}", found[a], found[b], target, "steps/s") for a, b, target in pairs]
    write("training", rows, rounds=given.rounds, **{name: getattr(given, name) for name in names})
    if missing:
        raise SystemExit("; ".join(missing))


if __name__ == "__main__":
    main()
