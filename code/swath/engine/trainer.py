"""Training as an Ignite engine that can be killed at any moment and goes on to the same weights."""

from __future__ import annotations

import fcntl
import logging
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import geopandas as gpd
import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from ignite.handlers import EMAHandler, ProgressBar
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from swath.config import Factory, absolute, configclass, digest
from swath.data.channels import Bands, Fill, ZScore
from swath.data.dataset import TileDataset, collate, read_tiles
from swath.data.samplers import TargetPresence, TrainingDraws, Uniform
from swath.data.splits import require_disjoint, split_by_area
from swath.engine.checkpoint import load_state, load_weights, save_state, save_weights
from swath.engine.evaluator import Evaluation, evaluate
from swath.errors import ConfigError, TrainingError
from swath.nn.heads import Classification, SegmentationModel, build_model
from swath.nn.losses import TaskLosses
from swath.nn.schedules import Poly

log = logging.getLogger("swath.training")

STATISTICS_TILES = 64


@configclass
class DataConfig:
    """Where tiles are, who judges, and how samples are drawn."""

    tiles_path: str
    """Folder with tile_stats.parquet."""
    validation_areas: tuple[str, ...] = ()
    """Areas held out to judge; empty trains on all and keeps the last weights."""
    training_areas: tuple[str, ...] | None = None
    """Areas to train on; None takes all that are not held out."""
    crop: int | None = 256
    """Side of the random crops in pixels; None trains on whole tiles."""
    batch: int = 8
    """Samples per optimiser step and accumulation part, over all ranks."""
    validation_batch: int = 4
    """Whole tiles per validation batch."""
    samples_per_epoch: int | None = None
    """Samples drawn per epoch; None takes as many as there are training tiles."""
    seek_target: float = 0.0
    """Share of the crops that are drawn anew until they hold some of the target."""
    sampler: Uniform | TargetPresence = Uniform()
    """Which tiles are drawn: Uniform() or TargetPresence(without=..., with_target=...)."""
    augmentation: tuple[Factory, ...] = ()
    """Transforms of training batches, in order: partial(D4), partial(RandomAffine, degrees=10), ..."""
    workers: int = 0
    """Loader processes; samples are the same for any number."""
    limit: int | None = None
    """Take only so many training and validation tiles, drawn by the seed: a quick trial of the whole chain."""


@configclass
class ValidationConfig:
    """When to evaluate, what decides, and what to show."""

    every: int = 1
    """Evaluate every so many epochs or iterations (`unit`); the end of the training is always evaluated."""
    unit: Literal["epochs", "iterations"] = "epochs"
    """Unit of `every`."""
    at_start: bool = False
    """Evaluate before the first step, too."""
    metric: str | None = "validation/iou_fg"
    """Logged metric whose highest value marks the best weights; None keeps the last ones."""
    panels: int = 4
    """Validation tiles drawn at every evaluation: those with most labelled foreground."""


@configclass
class TrainingConfig:
    """Train a segmentation model on tiles."""

    data: DataConfig
    """Tiles, held-out areas, crops and batches."""
    tasks: dict[str, Classification]
    """Task name (a band of the masks) to its classes and loss."""
    model: Factory
    """Network: called with in_channels and classes, e.g. partial(smp.Unet, encoder_name="resnet18", encoder_weights=None)."""
    channels: Factory = partial(Bands)
    """Derived channels: partial(Bands, bands=...), partial(Decibel, bands=..., clip=...)."""
    fill: Factory = partial(Fill)
    """What takes the place of missing pixels."""
    normaliser: Factory = partial(ZScore)
    """Scaling of channels; constants left open are fitted on training tiles."""
    optimizer: Factory = partial(torch.optim.AdamW, lr=1e-3, weight_decay=1e-4)
    """Optimiser: called with the parameters."""
    no_decay: bool = False
    """Exempt biases and normalisation weights from weight decay."""
    schedule: Factory = partial(Poly)
    """Learning-rate factor by iteration, e.g. partial(OneCycle, warm_up=0.1)."""
    epochs: int = 20
    """Number of epochs."""
    accumulation: int = 1
    """Parts of `data.batch` samples whose gradients make one optimiser step."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Arithmetic of the forward pass; fp16 scales its losses."""
    ema_decay: float | None = None
    """Evaluate and keep an exponential moving average of the weights with this decay per step."""
    clip_norm: float | None = None
    """Largest gradient norm."""
    validation: ValidationConfig = ValidationConfig()
    """When to evaluate, what decides, what to show."""
    checkpoint_every: int = 200
    """Iterations between states from which a killed training goes on; the end of an epoch always leaves one."""
    output_path: str = "output/training"
    """Folder for the state of unfinished trainings."""
    seed: int = 0
    """Seed of weights, draws and augmentation."""
    device: str | None = None
    """Device such as cpu or cuda; None takes the GPU when there is one."""
    name: str | None = None
    """Name of the run in the dashboard."""


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - libraries below still draw from the global generator
    torch.manual_seed(seed)


def _seed_worker(worker: int) -> None:
    seed = torch.initial_seed() % 2**32
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - see seed_everything


# --------------------------------------------------------------------------------------------------------------- data


@dataclass(frozen=True)
class Folds:
    """The tiles that train and those that judge, and the folder that their paths start from."""

    root: Path
    train: gpd.GeoDataFrame
    validation: gpd.GeoDataFrame


def read_folds(config: DataConfig, seed: int) -> Folds:
    """Split the table of tiles by area; LeakError when the two sides share ground."""
    root = absolute(config.tiles_path)
    train, validation = split_by_area(read_tiles(root), config.validation_areas, config.training_areas)
    require_disjoint(train, validation)
    return Folds(root, limited(train, config.limit, seed), limited(validation, config.limit, seed))


def limited(tiles: gpd.GeoDataFrame, limit: int | None, seed: int) -> gpd.GeoDataFrame:
    """At most `limit` rows, drawn by `seed`, in the table's order."""
    if limit is None or len(tiles) <= limit:
        return tiles
    kept = np.sort(np.random.default_rng(seed).choice(len(tiles), size=limit, replace=False))
    return tiles.iloc[kept]


def fit_preprocessing(model: SegmentationModel, folds: Folds, tasks: Sequence[str], seed: int) -> None:
    """Set the constants that the config left open from at most `STATISTICS_TILES` training tiles."""
    tiles = limited(folds.train, STATISTICS_TILES, seed)
    dataset = TileDataset(tiles, folds.root, tasks)
    model.preprocess.fit([dataset[i]["image"] for i in range(len(dataset))])


# ------------------------------------------------------------------------------------------------------------ learner


@dataclass
class Learner:
    """Everything that changes while a model learns, and the one step that changes it."""

    config: TrainingConfig
    model: SegmentationModel
    device: torch.device
    total_steps: int

    def __post_init__(self) -> None:
        config = self.config
        model = self.model.to(self.device)
        self.wrapped: nn.Module = idist.auto_model(model) if idist.get_world_size() > 1 else model
        losses = {name: task.loss() for name, task in config.tasks.items()}
        self.losses = TaskLosses(losses, {name: task.weight for name, task in config.tasks.items()}).to(self.device)
        self.optimizer = config.optimizer(parameter_groups(self.model, config))
        schedule = config.schedule()
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda i: schedule(i, self.total_steps))
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=config.precision == "fp16")
        self.augmentation = [factory() for factory in config.data.augmentation]

    def step(self, batch: Mapping[str, Any], iteration: int) -> dict[str, float]:
        """One optimiser step on `accumulation` parts of a batch; mean losses and the rate that was used.

        Raises TrainingError that names the samples when the loss is not finite; the weights stay as they were.
        """
        self.wrapped.train()
        self.optimizer.zero_grad(set_to_none=True)
        rate = self.optimizer.param_groups[0]["lr"]
        parts = _parts(batch, self.config.accumulation)
        sums: dict[str, float] = {}
        for number, part in enumerate(parts):
            terms = self._forward(part, iteration, number)
            if not torch.isfinite(terms["loss"]):
                raise TrainingError(
                    f"loss is {float(terms['loss'].detach())} at iteration {iteration} on the samples {', '.join(part['key'])}. "
                    "Look at these tiles, lower the learning rate, or set clip_norm. The best weights so far are kept."
                )
            self.scaler.scale(terms["loss"] / len(parts)).backward()
            for name, value in terms.items():
                sums[name] = sums.get(name, 0.0) + float(value.detach()) / len(parts)
        self._apply()
        return {f"training/{name}": value for name, value in sums.items()} | {"training/lr": float(rate)}

    def _forward(self, part: Mapping[str, Any], iteration: int, number: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(_mix(self.config.seed, iteration, number, idist.get_rank()))
        image = part["image"].to(self.device, non_blocking=True)
        targets = {task: target.to(self.device, non_blocking=True) for task, target in part["target"].items()}
        for transform in self.augmentation:
            image, targets = transform(image, targets, generator)
        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.config.precision)
        with torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None):
            logits = self.wrapped(image)
        terms: dict[str, Tensor] = self.losses(logits, targets)
        return terms

    def _apply(self) -> None:
        if self.config.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.scheduler.step()

    def state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(), "scaler": self.scaler.state_dict(),
            "rng": torch.get_rng_state(), "cuda_rng": torch.cuda.get_rng_state_all(),
        }  # fmt: skip

    def load(self, state: Mapping[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["rng"])
        if len(state["cuda_rng"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(state["cuda_rng"])


def _mix(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _parts(batch: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    images = batch["image"].chunk(count)
    targets = {task: target.chunk(count) for task, target in batch["target"].items()}
    size = len(images[0])
    return [
        {
            "image": image,
            "target": {t: c[i] for t, c in targets.items()},
            "key": batch["key"][i * size : (i + 1) * size],
        }
        for i, image in enumerate(images)
    ]


def parameter_groups(model: nn.Module, config: TrainingConfig) -> list[dict[str, Any]]:
    """All trainable parameters with the optimiser's own decay; with `no_decay`, vectors (biases, norms) without any."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    if not config.no_decay:
        return [{"params": [p for _, p in named]}]
    flat = [p for _, p in named if p.ndim <= 1]
    return [{"params": [p for _, p in named if p.ndim > 1]}, {"params": flat, "weight_decay": 0.0}]


# ------------------------------------------------------------------------------------------------------------ training


@dataclass
class Reports:
    """Where a training's numbers and pictures go; the script connects it to a run."""

    metrics: Callable[[Mapping[str, float], int], None]
    evaluation: Callable[[Evaluation, Mapping[str, float], int], None]


@dataclass
class Training:
    """A training: its data, its learner, what it has logged, and the folder of its state.

    `history` holds every logged value, so that a resumed training's run is as complete as an uninterrupted one's.
    """

    config: TrainingConfig
    reports: Reports
    history: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    best: float | None = None
    best_iteration: int = -1
    evaluated: int = -1

    def __post_init__(self) -> None:
        config = self.config
        seed_everything(config.seed)
        self.device = torch.device(config.device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.folds = read_folds(config.data, config.seed)
        tasks = list(config.tasks)
        self.train_set = TileDataset(
            self.folds.train, self.folds.root, tasks, config.data.crop, config.data.seek_target
        )
        self._require_labels()
        model = build_model(
            self.train_set.bands, config.channels, config.fill, config.normaliser, config.model, config.tasks
        )
        fit_preprocessing(model, self.folds, tasks, config.seed)
        self.learner = Learner(config, model, self.device, self.steps * config.epochs)
        self.ema = (
            EMAHandler(model, momentum=1 - config.ema_decay, handle_buffers="update") if config.ema_decay else None
        )
        self.validation_loader = self._validation_loader()
        self.shown = _most_foreground(self.folds.validation, config.validation.panels)

    def _require_labels(self) -> None:
        unlabelled = [row["key"] for row in self.train_set.rows if not row["mask"]]
        if unlabelled:
            raise TrainingError(
                f"{len(unlabelled)} training tiles have no mask, the first: {unlabelled[0]}. Set masks_path in generate_tiles."
            )

    @property
    def per_step(self) -> int:
        return self.config.data.batch * self.config.accumulation

    @property
    def steps(self) -> int:
        """Optimiser steps per epoch."""
        return max(1, (self.config.data.samples_per_epoch or len(self.train_set)) // self.per_step)

    @property
    def judged(self) -> nn.Module:
        """The weights that are evaluated and kept: the moving average when there is one."""
        return self.ema.ema_model if self.ema else self.learner.model

    @cached_property
    def data_digest(self) -> str:
        """Changes when a tile is added, removed, moved to the other side, or its files are written anew."""
        sides = (self.folds.train, self.folds.validation)
        files = [self.folds.root / p for side in sides for name in ("image", "mask") for p in side[name] if p]
        stamps = [[f.name, s.st_size, s.st_mtime_ns] for f in files for s in [f.stat()]]
        return digest([[list(side["key"]) for side in sides], stamps])

    @property
    def folder(self) -> Path:
        """Where the state lives while the training is unfinished: one folder per configuration."""
        return absolute(self.config.output_path) / "unfinished" / digest(self.config)

    def training_loader(self, first_step: int) -> DataLoader[Any]:
        world, rank = idist.get_world_size(), idist.get_rank()
        draws = TrainingDraws(
            self.folds.train, self.config.data.sampler, self.config.seed, self.per_step, self.steps, self.config.epochs,
            first_step, rank, world,
        )  # fmt: skip
        if self.per_step % world:
            raise ConfigError(f"data.batch x accumulation = {self.per_step} does not divide among {world} processes")
        return self._loader(self.train_set, self.per_step // world, sampler=draws)

    def _validation_loader(self) -> DataLoader[Any] | None:
        if self.folds.validation.empty:
            return None
        dataset = TileDataset(self.folds.validation, self.folds.root, list(self.config.tasks))
        mine = Subset(dataset, range(idist.get_rank(), len(dataset), idist.get_world_size()))
        return self._loader(mine, self.config.data.validation_batch)

    def _loader(self, dataset: Any, batch: int, sampler: Any = None) -> DataLoader[Any]:
        workers = self.config.data.workers
        return DataLoader(
            dataset, batch_size=batch, sampler=sampler, num_workers=workers, collate_fn=collate,
            pin_memory=self.device.type == "cuda", worker_init_fn=_seed_worker,
            multiprocessing_context="spawn" if workers else None, persistent_workers=workers > 0,
            generator=torch.Generator().manual_seed(self.config.seed),
        )  # fmt: skip

    # ------------------------------------------------------------------------------------------------------- running

    def run(self) -> nn.Module:
        """Train to the end, from the state of an earlier start where there is one; return the best weights.

        Raises TrainingError when the loss is not finite or another process runs the same training.
        """
        with _exclusive(self.folder):
            engine = Engine(lambda engine, batch: self.learner.step(batch, engine.state.iteration))
            self._attach(engine)
            resumed = self._resume(engine)
            if not resumed and self.config.validation.at_start:
                self._evaluate(0)
            total = self.steps * self.config.epochs
            if engine.state.iteration < total:
                engine.run(self.training_loader(engine.state.iteration), **({} if resumed else self._length()))
            self._evaluate(total)
            return self._best_model()

    def _length(self) -> dict[str, int]:
        return {"max_epochs": self.config.epochs, "epoch_length": self.steps}

    def _attach(self, engine: Engine) -> None:
        every = self.config.validation.every
        unit = Events.EPOCH_COMPLETED if self.config.validation.unit == "epochs" else Events.ITERATION_COMPLETED
        if self.ema:
            self.ema.attach(engine)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._log_step)
        engine.add_event_handler(unit(every=every), lambda e: self._evaluate(e.state.iteration))
        engine.add_event_handler(
            Events.ITERATION_COMPLETED(every=self.config.checkpoint_every), self._save_inside_epoch
        )
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._save)
        if idist.get_rank() == 0 and sys.stderr.isatty():
            bar = ProgressBar(desc="training", persist=False)
            bar.attach(engine, output_transform=lambda out: {"loss": f"{out['training/loss']:.3f}"})

    def _log_step(self, engine: Engine) -> None:
        values: dict[str, float] = engine.state.output  # type: ignore[assignment]
        self._record(values, engine.state.iteration)

    def _record(self, values: Mapping[str, float], step: int) -> None:
        self.history.append((step, dict(values)))
        self.reports.metrics(values, step)

    def _evaluate(self, iteration: int) -> None:
        """Evaluate once per iteration number, keep the weights when they are the best so far."""
        if iteration == self.evaluated:
            return
        self.evaluated = iteration
        if self.validation_loader is None:
            self._keep_best(iteration)
            return
        found = evaluate(
            self.judged,
            self.validation_loader,
            self.config.tasks,
            self.learner.losses,
            self.shown,
            self.device,
        )
        step = iteration if self.config.validation.unit == "iterations" else iteration // self.steps
        values = found.metrics("validation", self.config.tasks)
        self._record(values | {"validation/iteration": float(iteration)}, step)
        self.reports.evaluation(found, values, step)
        self._select(values, iteration)

    def _select(self, values: Mapping[str, float], iteration: int) -> None:
        metric = self.config.validation.metric
        if metric is None:
            self._keep_best(iteration)
            return
        if metric not in values and metric in self._metric_names():
            log.warning("%s is undefined at iteration %d: no such class, neither true nor predicted", metric, iteration)
            if self.best_iteration < 0:
                self._keep_best(iteration)
            return
        if metric not in values:
            raise ConfigError(f"validation.metric={metric}: not among the logged metrics {', '.join(sorted(values))}")
        if self.best is None or values[metric] > self.best:
            self.best = values[metric]
            self._keep_best(iteration)

    def _metric_names(self) -> set[str]:
        """Every score that an evaluation can log."""
        matrices = {name: np.ones((task.channels, task.channels), np.int64) for name, task in self.config.tasks.items()}
        return set(Evaluation(matrices, {}).metrics("validation", self.config.tasks))

    def _keep_best(self, iteration: int) -> None:
        self.best_iteration = iteration
        if idist.get_rank() == 0:
            save_weights(self._best_path, self.judged, {"iteration": str(iteration), "value": str(self.best)})

    @property
    def _best_path(self) -> Path:
        """Named by iteration: a state that is resumed finds the very weights that it knows as the best."""
        return self.folder / f"best-{self.best_iteration}.safetensors"

    def _best_model(self) -> nn.Module:
        idist.barrier()
        load_weights(self._best_path, self.judged)
        return self.judged

    # ------------------------------------------------------------------------------------------------ stop and resume

    def _save_inside_epoch(self, engine: Engine) -> None:
        if engine.state.iteration % self.steps:  # the end of an epoch is saved after its evaluation
            self._save(engine)

    def _save(self, engine: Engine) -> None:
        if idist.get_rank():
            return
        state = self.learner.state() | {"data": self.data_digest} | {
            "iteration": engine.state.iteration, "history": self.history, "best": self.best,
            "best_iteration": self.best_iteration, "evaluated": self.evaluated,
            "ema": self.ema.ema_model.state_dict() if self.ema else None,
        }  # fmt: skip
        save_state(self.folder / "state.pt", state)
        for path in self.folder.glob("best-*.safetensors"):
            if path != self._best_path:
                path.unlink()

    def _resume(self, engine: Engine) -> bool:
        state = load_state(self.folder / "state.pt")
        if state is None:
            return False
        if state["data"] != self.data_digest:
            raise TrainingError(
                f"{self.folder}: this training was started on other tiles or labels than those in {self.folds.root} now. "
                "Delete that folder to start anew, or bring the tiles back."
            )
        self.learner.load(state)
        if self.ema:
            self.ema.ema_model.load_state_dict(state["ema"])
        self.best, self.best_iteration, self.evaluated = (
            state["best"],
            state["best_iteration"],
            state["evaluated"],
        )
        engine.load_state_dict({"iteration": state["iteration"], **self._length()})
        log.info(
            "going on at iteration %d of %d from %s",
            state["iteration"],
            self.steps * self.config.epochs,
            self.folder,
        )
        for step, values in state["history"]:
            self._record(values, step)
        return True

    def forget(self) -> None:
        """Delete the state of a finished training: the run holds the result."""
        if idist.get_rank():
            return
        for path in (*self.folder.glob("best-*.safetensors"), self.folder / "state.pt", self.folder / "lock"):
            path.unlink(missing_ok=True)
        with suppress(OSError):
            self.folder.rmdir()


def _most_foreground(tiles: gpd.GeoDataFrame, count: int) -> list[str]:
    if tiles.empty or "target_ratio" not in tiles:
        return []
    return list(tiles.sort_values(["target_ratio", "key"], ascending=[False, True])["key"][:count])


@contextmanager
def _exclusive(folder: Path) -> Any:
    """Two processes must not write one training's state."""
    if idist.get_rank():
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise TrainingError(
                f"{folder}: another process runs this training. Wait for it, or change the seed or output_path."
            ) from None
        yield
