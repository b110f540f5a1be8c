"""Training as an Ignite engine that can be killed at any moment and goes on to the same weights."""

from __future__ import annotations

import fcntl
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import geopandas as gpd
import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from ignite.handlers import ProgressBar
from torch import nn
from torch.utils.data import DataLoader, Subset

from swath.config import absolute, digest
from swath.data.dataset import TileDataset, collate
from swath.data.samplers import TargetPresence, TrainingDraws, Uniform
from swath.engine.averaging import Averages
from swath.engine.checkpoint import load_state, load_weights, save_state, save_weights, warm_start
from swath.engine.evaluator import Evaluation, evaluate
from swath.engine.folds import fit_preprocessing, limited, read_folds, read_unlabelled
from swath.engine.learner import Learner, seed_everything, seed_worker
from swath.engine.score_table import ScoreTable
from swath.engine.selection import Patience, Selection
from swath.engine.training_config import TrainingConfig
from swath.engine.units import tile_rows
from swath.errors import ConfigError, TrainingError
from swath.nn.heads import build_model
from swath.nn.pretrained import check_network

log = logging.getLogger("swath.training")

VALIDATION, TEST, SUBSET, AVERAGED = "validation", "test", "training_subset", "swa"
"""First parts of metric names: tiles that select the weights; tiles that only report; training tiles evaluated alike;
averaged weights on the first."""


@dataclass
class Reports:
    """Where a training's numbers and pictures go; the script connects it to a run."""

    metrics: Callable[[Mapping[str, float], int], None]
    evaluation: Callable[[Evaluation, Mapping[str, float], int], None]


@dataclass(frozen=True)
class Paired:
    """Batches of labelled tiles, each with one of tiles without labels."""

    labelled: Iterable[dict[str, Any]]
    unlabelled: Iterable[dict[str, Any]]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch, other in zip(self.labelled, self.unlabelled, strict=False):
            yield batch | {"unlabelled": other}


@dataclass
class Training:
    """A training: its data, its learner, what it has logged, and the folder of its state.

    `history` holds every logged value, so that a resumed training's run is as complete as an uninterrupted one's.
    """

    config: TrainingConfig
    reports: Reports
    history: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    start_from: Path | None = None
    """File of the weights that `config.warm_start` names."""
    evaluated: int = -1
    stopped: str = ""
    """Why the training ended before its last epoch."""

    def __post_init__(self) -> None:
        config = self.config
        check_network(config.model)
        seed_everything(config.seed)
        self.device = torch.device(config.device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.folds = read_folds(config.data, config.seed)
        self.train_set = TileDataset(
            self.folds.train, self.folds.root, list(config.tasks), config.data.crop, config.data.seek_target
        )
        self._require_labels()
        model = build_model(
            self.train_set.bands,
            config.channels,
            config.fill,
            config.normaliser,
            config.model,
            config.tasks,
            config.rgb,
        )
        if config.warm_start and self.start_from:
            warm_start(model, self.start_from, config.warm_start.part)
        fit_preprocessing(model, self.folds, list(config.tasks), config.seed)
        self.learner = Learner(config, model, self.device, self.steps * config.epochs)
        self.averages = Averages(model, config.ema_decay, config.swa_from)
        self.unlabelled = read_unlabelled(config.unlabelled.tiles_path) if config.unlabelled else None
        self.validation_loader = self._whole_tiles(self.folds.validation)
        self._prepare_selection()

    def _prepare_selection(self) -> None:
        validation = self.config.validation
        judged = [] if self.validation_loader is None or validation.metric is None else [validation.metric]
        self.selection = Selection((*judged, *validation.also) if judged else (), validation.top)
        unknown = self.selection.unknown(self._metric_names())
        if unknown:
            raise ConfigError(
                f"validation.metric={unknown[0]}: not among the logged metrics {', '.join(sorted(self._metric_names()))}"
            )
        stop, plateau = validation.early_stopping, self.config.plateau
        default = judged[0] if judged else None
        if (stop and not (stop.metric or default)) or (plateau and not (plateau.metric or default)):
            raise ConfigError(
                "early_stopping and plateau watch a validation metric: hold areas out and name one in `metric`"
            )
        self.patience = Patience(stop.metric or str(default), stop.patience, stop.min_delta) if stop else None
        self.plateau = (
            Patience(plateau.metric or str(default), plateau.patience, plateau.min_delta) if plateau else None
        )
        self.shown = _most_foreground(self.folds.validation, validation.panels)

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
        return self.averages.judged

    @property
    def best(self) -> float | None:
        """The best logged value of the metric that selects."""
        return self.selection.best

    @property
    def best_iteration(self) -> int:
        """The iteration of the weights that are the result."""
        return self.selection.best_iteration

    @cached_property
    def data_digest(self) -> str:
        """Changes when a tile is added, removed, moved to the other side, or its files are written anew."""
        sides = [(self.folds.root, self.folds.train), (self.folds.root, self.folds.validation)]
        sides += [self.unlabelled] if self.unlabelled else []
        files = [root / p for root, side in sides for name in ("image", "mask") for p in side[name] if p]
        stamps = [[f.name, s.st_size, s.st_mtime_ns] for f in files for s in [f.stat()]]
        return digest([[list(side["key"]) for _, side in sides], stamps])

    @property
    def folder(self) -> Path:
        """Where the state lives while the training is unfinished: one folder per configuration."""
        return absolute(self.config.output_path) / "unfinished" / digest(self.config)

    def training_loader(self, first_step: int, epoch: int | None = None) -> Iterable[dict[str, Any]]:
        """Batches from `first_step` on to the end of the training; or those of one `epoch`, counted from 0, alone."""
        config = self.config
        labelled = self._drawn(self.train_set, self.folds.train, config.data.sampler, self.per_step, first_step, epoch)
        if self.unlabelled is None or config.unlabelled is None:
            return labelled
        root, tiles = self.unlabelled
        others = TileDataset(tiles, root, [], config.data.crop)
        return Paired(labelled, self._drawn(others, tiles, Uniform(), config.unlabelled.batch, first_step, epoch))

    def _drawn(
        self, dataset: TileDataset, tiles: gpd.GeoDataFrame, policy: Uniform | TargetPresence, per_step: int,
        first_step: int, epoch: int | None,
    ) -> DataLoader[Any]:  # fmt: skip
        world, rank = idist.get_world_size(), idist.get_rank()
        if per_step % world:
            raise ConfigError(
                f"{per_step} samples per step (batch x accumulation) do not divide among {world} processes"
            )
        first, last = (first_step, self.config.epochs) if epoch is None else (epoch * self.steps, epoch + 1)
        draws = TrainingDraws(tiles, policy, self.config.seed, per_step, self.steps, last, first, rank, world)
        return self._loader(dataset, per_step // world, sampler=draws)

    def _whole_tiles(self, tiles: gpd.GeoDataFrame) -> DataLoader[Any] | None:
        if tiles.empty:
            return None
        dataset = TileDataset(tiles, self.folds.root, list(self.config.tasks))
        mine = Subset(dataset, range(idist.get_rank(), len(dataset), idist.get_world_size()))
        return self._loader(mine, self.config.data.validation_batch)

    @cached_property
    def subset_loader(self) -> DataLoader[Any] | None:
        """As many training tiles as there are validation tiles, whole and without augmentation, drawn by the seed."""
        return self._whole_tiles(limited(self.folds.train, len(self.folds.validation), self.config.seed))

    def _loader(self, dataset: Any, batch: int, sampler: Any = None) -> DataLoader[Any]:
        workers = self.config.data.workers
        return DataLoader(
            dataset, batch_size=batch, sampler=sampler, num_workers=workers, collate_fn=collate,
            pin_memory=self.device.type == "cuda", worker_init_fn=seed_worker,
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
            self._freeze(engine.state.iteration // self.steps)
            if not resumed and self.config.validation.at_start:
                self._evaluate(engine, 0)
            if engine.state.iteration < self.steps * self.config.epochs and not self.stopped:
                engine.run(self.training_loader(engine.state.iteration), **({} if resumed else self._length()))
            self._evaluate(engine, engine.state.iteration)
            self._finish()
            return self._best_model()

    def _length(self) -> dict[str, int]:
        return {"max_epochs": self.config.epochs, "epoch_length": self.steps}

    def _attach(self, engine: Engine) -> None:
        every = self.config.validation.every
        unit = Events.EPOCH_COMPLETED if self.config.validation.unit == "epochs" else Events.ITERATION_COMPLETED
        self.averages.attach(engine, self.config.epochs)
        engine.add_event_handler(Events.EPOCH_STARTED, lambda e: self._freeze(e.state.epoch - 1))
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._log_step)
        engine.add_event_handler(unit(every=every), lambda e: self._evaluate(e, e.state.iteration))
        engine.add_event_handler(
            Events.ITERATION_COMPLETED(every=self.config.checkpoint_every), self._save_inside_epoch
        )
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._save)
        if idist.get_rank() == 0 and sys.stderr.isatty():
            bar = ProgressBar(desc="training", persist=False)
            bar.attach(engine, output_transform=lambda out: {"loss": f"{out['training/loss']:.3f}"})

    def _freeze(self, epoch: int) -> None:
        """Bring the model's parts into the state of an epoch, counted from 0."""
        changed = [freezing.apply(self.learner.model, epoch) for freezing in self.config.freezing]
        if any(changed):
            self.learner.wrap()

    def _log_step(self, engine: Engine) -> None:
        values: dict[str, float] = engine.state.output  # type: ignore[assignment]
        self._record(values, engine.state.iteration)

    def _record(self, values: Mapping[str, float], step: int) -> None:
        self.history.append((step, dict(values)))
        self.reports.metrics(values, step)

    def _evaluate(self, engine: Engine, iteration: int) -> None:
        """Evaluate once per iteration number; keep the weights when they are among the best, or end here."""
        if iteration == self.evaluated:
            return
        self.evaluated = iteration
        if self.validation_loader is None:
            self._offer({}, iteration)
            return
        found = self._judge(self.judged, self.validation_loader, self.shown)
        step = iteration if self.config.validation.unit == "iterations" else iteration // self.steps
        values = found.metrics(VALIDATION, self.config.tasks)
        self._record(values | {f"{VALIDATION}/iteration": float(iteration)}, step)
        if self.config.validation.training_subset and self.subset_loader is not None:
            self._record(self._judge(self.judged, self.subset_loader).metrics(SUBSET, self.config.tasks), step)
        self.reports.evaluation(found, values, step)
        self._offer(values, iteration)
        self._watch(engine, values)

    def _judge(self, model: nn.Module, loader: DataLoader[Any], shown: list[str] | None = None) -> Evaluation:
        return evaluate(model, loader, self.config.tasks, self.learner.losses, shown or [], self.device)

    def _metric_names(self) -> set[str]:
        """Every score that an evaluation can log."""
        matrices = {name: np.ones((task.channels, task.channels), np.int64) for name, task in self.config.tasks.items()}
        terms = dict.fromkeys(self.learner.losses.names, 0.0)
        return set(Evaluation(matrices, terms).metrics(VALIDATION, self.config.tasks))

    def _offer(self, values: Mapping[str, float], iteration: int) -> None:
        kept = self.selection.offer(values, iteration)
        if kept and idist.get_rank() == 0:
            save_weights(self.weights_of(iteration), self.judged, {"iteration": str(iteration)})

    def _watch(self, engine: Engine, values: Mapping[str, float]) -> None:
        """Lower the rate, or end the training, when a metric has not improved for too long."""
        if self.plateau and self.config.plateau:
            self.plateau.observe(values)
            if self.plateau.spent:
                self.plateau.waited = 0
                lowest, factor = self.config.plateau.lowest, self.config.plateau.factor
                self.learner.reduce(max(lowest, self.learner.reduction * factor))
        if self.patience:
            self.patience.observe(values)
            if self.patience.spent and not self.stopped:
                self.stopped = (
                    f"{self.patience.metric} has not improved by more than {self.patience.min_delta:g} "
                    f"in {self.patience.waited} evaluations"
                )
                log.info("early stopping at iteration %d: %s", engine.state.iteration, self.stopped)
                engine.terminate()

    def _finish(self) -> None:
        """Keep what is only known at the end: the last weights, and the average over the last epochs."""
        if idist.get_rank():
            return
        if self.config.validation.keep_last:
            save_weights(self.folder / "weights-last.safetensors", self.judged, {"iteration": str(self.evaluated)})
        images = (batch["image"] for batch in self.training_loader(0, epoch=self.config.epochs))
        averaged = self.averages.averaged(images, self.device)
        if averaged is not None:
            save_weights(self.folder / "weights-swa.safetensors", averaged, {"iteration": str(self.evaluated)})
            if self.validation_loader is not None:
                found = self._judge(averaged, self.validation_loader)
                self._record(found.metrics(AVERAGED, self.config.tasks), self.evaluated)

    def scores(self) -> dict[str, ScoreTable]:
        """The scores of the result by side: validation tiles, which selected it, and test tiles, which did nothing else.

        Call it after `run`. Tables hold a row per tile; their scores have intervals.
        """
        sides = {VALIDATION: self.folds.validation, TEST: self.folds.test}
        tables = {}
        for name, tiles in sides.items():
            loader = self._whole_tiles(tiles)
            if loader is not None:
                table = ScoreTable(self.config.tasks, self.config.validation.scoring)
                table.extend(tile_rows(self._judge(self.judged, loader), tiles))
                tables[name] = table
        return tables

    def weights_of(self, iteration: int) -> Path:
        """Named by iteration: a state that is resumed finds the very weights that it knows as the best."""
        return self.folder / f"weights-{iteration}.safetensors"

    def _best_model(self) -> nn.Module:
        idist.barrier()
        load_weights(self.weights_of(self.best_iteration), self.judged)
        return self.judged

    def kept_weights(self) -> dict[str, tuple[Path, dict[str, Any]]]:
        """What is kept beside the best weights: name to file, and the metric, value and iteration it stands for."""
        found: dict[str, tuple[Path, dict[str, Any]]] = {}
        for metric in self.selection.metrics:
            for place, (value, iteration) in enumerate(self.selection.ranked(metric)):
                name = metric if place == 0 else f"{metric}:{place + 1}"
                about = {"metric": metric, "value": value, "iteration": iteration}
                found[name] = (self.weights_of(iteration), about)
        for name in ("last", AVERAGED):
            path = self.folder / f"weights-{name}.safetensors"
            if path.is_file():
                found[name] = (path, {"iteration": self.evaluated})
        return found

    # ------------------------------------------------------------------------------------------------ stop and resume

    def _save_inside_epoch(self, engine: Engine) -> None:
        if engine.state.iteration % self.steps:  # the end of an epoch is saved after its evaluation
            self._save(engine)

    def _save(self, engine: Engine) -> None:
        if idist.get_rank():
            return
        state = self.learner.state() | {"data": self.data_digest} | {
            "iteration": engine.state.iteration, "history": self.history, "evaluated": self.evaluated,
            "selection": self.selection.state(), "averages": self.averages.state(), "stopped": self.stopped,
            "patience": _counts(self.patience), "plateau": _counts(self.plateau),
        }  # fmt: skip
        save_state(self.folder / "state.pt", state)
        kept = {self.weights_of(iteration) for iteration in self.selection.iterations}
        for path in set(self.folder.glob("weights-*.safetensors")) - kept:
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
        self.averages.load(state["averages"])
        self.selection.load(state["selection"])
        self.evaluated, self.stopped = state["evaluated"], state["stopped"]
        _recount(self.patience, state["patience"])
        _recount(self.plateau, state["plateau"])
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
        for path in (*self.folder.glob("weights-*.safetensors"), self.folder / "state.pt", self.folder / "lock"):
            path.unlink(missing_ok=True)
        with suppress(OSError):
            self.folder.rmdir()


def _counts(patience: Patience | None) -> list[Any] | None:
    return [patience.best, patience.waited] if patience else None


def _recount(patience: Patience | None, counts: list[Any] | None) -> None:
    if patience and counts:
        patience.best, patience.waited = counts


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
