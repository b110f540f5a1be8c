"""Training as an Ignite engine that can be killed at any moment and goes on to the same weights."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from torch import nn

from swath.data.samples.loader import Loader
from swath.distributed import device_of, is_main
from swath.nn.losses.pixel import TaskLosses
from swath.nn.model import SegmentationModel, build_model
from swath.nn.networks.pretrained import check_network
from swath.scoring.baselines import constant_guesses
from swath.scoring.counts import tile_rows
from swath.scoring.evaluate import Evaluation, evaluate
from swath.scoring.table import ScoreTable
from swath.training.averaging import Averages
from swath.training.batches import Batches
from swath.training.checkpoint import load_weights, save_weights, warm_start
from swath.training.config import TrainingConfig
from swath.training.learner import Learner, mix, seed_everything
from swath.training.loop import Loop, Reports, resume_folder
from swath.training.resume_state import ResumeState
from swath.training.selection import VALIDATION, Patience, Selection, patience_of, require_metrics, require_selection
from swath.training.sides import Sides, fit_preprocessing, most_foreground

log = logging.getLogger("swath.training")

TEST, SUBSET, AVERAGED, TRAINING = "test", "training_subset", "swa", "training"
"""First parts of metric names, beside `VALIDATION`: tiles that only report; training tiles evaluated alike; averaged
weights on the validation tiles; all training tiles, at the end."""


def build_training(config: TrainingConfig, reports: Reports, start_from: Path | None = None) -> Training:
    """The training that a config describes, ready to run. `start_from`: file of the weights of `config.warm_start`.

    Seeds the generators. Raises ConfigError for what does not fit together, before the first step.
    """
    check_network(config.model)
    seed_everything(config.seed, config.reproducible)
    device = device_of(config.device)
    batches = Batches(config, device, list(config.tasks), config.unlabelled)
    model, losses = _fitted_model(config, batches, start_from), config.losses()
    total = batches.steps * config.epochs
    learner = Learner(config, model, losses, device, total, config.tasks, config.unlabelled)
    if idist.get_rank():  # weights are equal by now; each rank drops out other activations
        torch.manual_seed(mix(config.seed, idist.get_rank()))
    loop = Loop(config, learner, batches, resume_folder(config), reports)
    validation_loader = batches.whole_tiles(batches.folds.validation)
    metric = config.validation.metric if validation_loader is not None else None
    require_selection(config.validation, has_tiles=validation_loader is not None)
    selection = Selection((metric, *config.validation.also) if metric else (), config.validation.top)
    require_metrics(config, losses, has_tiles=validation_loader is not None)
    stop, plateau = config.validation.early_stopping, config.plateau
    return Training(
        config=config,
        reports=reports,
        batches=batches,
        learner=learner,
        loop=loop,
        averages=Averages(model, config.ema_decay, config.swa_from),
        validation_loader=validation_loader,
        selection=selection,
        patience=patience_of(stop, metric) if stop else None,
        plateau=patience_of(plateau, metric) if plateau else None,
        shown=most_foreground(batches.folds.validation, config.validation.panels),
    )


def _fitted_model(config: TrainingConfig, batches: Batches, start_from: Path | None) -> SegmentationModel:
    """The model at its start: weights of another training where there are some, constants of the training tiles."""
    bands = batches.train_set.bands
    model = build_model(
        bands, config.channels, config.fill, config.normaliser, config.model, config.tasks, config.rgb, config.resize
    )
    if config.warm_start and start_from:
        warm_start(model, start_from, config.warm_start.part)
    fit_preprocessing(model, batches.folds, list(config.tasks), config.seed)
    return model


@dataclass
class Training:
    """A training: its data, its learner, and what it keeps of its evaluations. A `TrainingMode` of the loop.

    `build_training` makes one from a config.
    """

    config: TrainingConfig
    reports: Reports
    batches: Batches
    learner: Learner
    loop: Loop
    averages: Averages
    validation_loader: Loader | None
    selection: Selection
    patience: Patience | None
    """What ends the training early, where the config says so."""
    plateau: Patience | None
    """What lowers the learning rate, where the config says so."""
    shown: list[str]
    """Keys of the tiles that panels show."""
    evaluated: int = -1
    stopped: str = ""
    """Why the training ended before its last epoch."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.learner.device

    @property
    def model(self) -> SegmentationModel:
        """The weights that learn."""
        assert isinstance(self.learner.model, SegmentationModel)
        return self.learner.model

    @property
    def folds(self) -> Sides:
        """The tiles by side."""
        return self.batches.folds

    @property
    def steps(self) -> int:
        """Optimiser steps per epoch."""
        return self.batches.steps

    @property
    def unfinished(self) -> ResumeState:
        """Its state and the weights that are kept so far."""
        return self.loop.unfinished

    @property
    def history(self) -> list[tuple[int, dict[str, float]]]:
        """Every logged value by step."""
        return self.loop.history

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

    @property
    def losses(self) -> TaskLosses:
        """The losses that it lessens."""
        assert isinstance(self.learner.losses, TaskLosses)
        return self.learner.losses

    # ------------------------------------------------------------------------------------------------------- running

    def run(self) -> nn.Module:
        """Train to the end, from the state of an earlier start where there is one; return the best weights.

        Raises TrainingError when the loss is not finite or another process runs the same training.
        """
        try:
            return self._run()
        finally:
            self.learner.unwrap()

    def _run(self) -> nn.Module:
        with self.unfinished.exclusive():
            self.loop.run(self)
            self._finish()
            return self._best_model()

    def attach(self, engine: Engine) -> None:
        """Evaluate by the config's schedule, and follow the averages."""
        every = self.config.validation.every
        unit = Events.EPOCH_COMPLETED if self.config.validation.unit == "epochs" else Events.ITERATION_COMPLETED
        self.averages.attach(engine, self.config.epochs)
        engine.add_event_handler(unit(every=every), lambda e: self.evaluate(e, e.state.iteration))

    def begin(self, engine: Engine) -> None:
        """Evaluate before the first step where the config says so."""
        if self.config.validation.at_start:
            self.evaluate(engine, 0)

    def begin_epoch(self, epoch: int) -> None:
        """Bring the model's parts into the state of an epoch, counted from 0."""
        changed = [freezing.apply(self.model, epoch) for freezing in self.config.freezing]
        if any(changed):
            self.learner.wrap()

    def evaluate(self, engine: Engine, iteration: int) -> None:
        """Evaluate once per iteration number; keep the weights when they are among the best, or end here."""
        if iteration == self.evaluated:
            return
        self.loop.fetch(iteration)
        self.evaluated = iteration
        if self.validation_loader is None:
            self._offer({}, iteration)
            return
        found = self._judge(self.judged, self.validation_loader, self.shown)
        step = iteration if self.config.validation.unit == "iterations" else iteration // self.steps
        values = self._metrics(found, VALIDATION)
        self.loop.record(values, step, iteration)
        if self.config.validation.training_subset and self.batches.subset_loader is not None:
            subset = self._metrics(self._judge(self.judged, self.batches.subset_loader), SUBSET)
            self.loop.record(subset, step, iteration)
        self.reports.evaluation(found, values, step)
        self._offer(values, iteration)
        self._watch(engine, values)

    def _judge(self, model: nn.Module, loader: Loader, shown: list[str] | None = None) -> Evaluation:
        asked = self.config.validation
        return evaluate(model, loader, self.config.tasks, self.losses, shown or [], self.device, asked.tta, asked.merge)

    def _metrics(self, found: Evaluation, prefix: str) -> dict[str, float]:
        return found.metrics(prefix, self.config.tasks, self.config.validation.scoring.combined)

    def _offer(self, values: Mapping[str, float], iteration: int) -> None:
        kept = self.selection.offer(values, iteration)
        if kept and is_main():
            save_weights(self.unfinished.weights(iteration), self.judged, {"iteration": str(iteration)})

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
        if self.config.validation.keep_last and is_main():
            save_weights(self.unfinished.weights("last"), self.judged, {"iteration": str(self.evaluated)})
        images = (batch["image"] for batch in self.batches.training_loader(0, epoch=self.config.epochs))
        averaged = self.averages.averaged(images, self.device)
        if averaged is not None:
            if is_main():
                save_weights(self.unfinished.weights(AVERAGED), averaged, {"iteration": str(self.evaluated)})
            if self.validation_loader is not None:
                found = self._judge(averaged, self.validation_loader)
                self.loop.record(self._metrics(found, AVERAGED), self.evaluated, self.evaluated)

    def scores(self) -> dict[str, ScoreTable]:
        """The scores of the result by side: validation tiles, which selected it, and test tiles, which did nothing else;
        training tiles, too, where the config asks for them.

        Call it after `run`. Tables hold a row per tile, with the same columns; their scores have intervals.
        """
        sides = {VALIDATION: self.folds.validation, TEST: self.folds.test}
        if self.config.validation.training_scores:
            sides[TRAINING] = self.folds.train
        tables = {}
        for name, tiles in sides.items():
            loader = self.batches.whole_tiles(tiles)
            if loader is not None:
                table = ScoreTable(self.config.tasks, self.config.validation.scoring)
                table.constants = constant_guesses(self.folds.train, self.config.tasks)
                table.extend(tile_rows(self._judge(self.judged, loader), tiles))
                tables[name] = table
        return tables

    def _best_model(self) -> nn.Module:
        idist.barrier()
        load_weights(self.unfinished.weights(self.best_iteration), self.judged)
        return self.judged

    def kept_weights(self) -> dict[str, tuple[Path, dict[str, Any]]]:
        """What is kept beside the best weights: name to file, and the metric, value and iteration it stands for."""
        found: dict[str, tuple[Path, dict[str, Any]]] = {}
        for metric in self.selection.metrics:
            for place, (value, iteration) in enumerate(self.selection.ranked(metric)):
                name = metric if place == 0 else f"{metric}:{place + 1}"
                about = {"metric": metric, "value": value, "iteration": iteration}
                found[name] = (self.unfinished.weights(iteration), about)
        for name in ("last", AVERAGED):
            path = self.unfinished.weights(name)
            if path.is_file():
                found[name] = (path, {"iteration": self.evaluated})
        return found

    # ------------------------------------------------------------------------------------------------ stop and resume

    def kept(self) -> Collection[int]:
        """Iterations of the best weights so far."""
        return self.selection.iterations

    def state(self) -> dict[str, Any]:
        """What decides, as tensors and plain values."""
        return {
            "evaluated": self.evaluated, "stopped": self.stopped, "selection": self.selection.state(),
            "averages": self.averages.state(), "patience": self.patience and self.patience.state(), "plateau": self.plateau and self.plateau.state(),
        }  # fmt: skip

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        self.averages.load(state["averages"])
        self.selection.load(state["selection"])
        self.evaluated, self.stopped = state["evaluated"], state["stopped"]
        for name in ("patience", "plateau"):
            watching, counts = getattr(self, name), state[name]
            if watching and counts:
                watching.load(counts)
