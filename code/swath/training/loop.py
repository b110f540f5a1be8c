"""The loop that all trainings share: steps, logged losses, states, and going on from one to the same weights."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import ignite.distributed as idist
from ignite.engine import Engine, Events
from ignite.handlers import ProgressBar

from swath.config import (
    absolute,
    decisive,
    digest,
    inputs_of,
    references_of,
    relative,
    resolve,
    without_added_fields,
)
from swath.config.moved import with_old_names
from swath.distributed import all_gather, conditions, is_main, on_all_ranks
from swath.errors import TrainingError
from swath.interrupt import check_stop, stop_requested
from swath.scoring.evaluate import Evaluation
from swath.steps.memory import keep_freed_memory
from swath.training.batches import Batches
from swath.training.checkpoint import load_state, save_state
from swath.training.config import LearningConfig
from swath.training.identity import inputs_digest
from swath.training.learner import Learner
from swath.training.loss_log import LossLog
from swath.training.resume_state import ResumeState

log = logging.getLogger("swath.training")


@dataclass
class Reports:
    """Where a training's numbers and pictures go; the script connects it to a run."""

    metrics: Callable[[Mapping[str, float], int], None]
    evaluation: Callable[[Evaluation, Mapping[str, float], int], None]

    @classmethod
    def none(cls) -> Reports:
        """Nowhere."""
        return cls(metrics=lambda values, step: None, evaluation=lambda found, values, step: None)


class TrainingMode(Protocol):
    """What one kind of training adds to the loop."""

    stopped: str
    """Why it ended before its last epoch; empty: it did not."""

    def attach(self, engine: Engine) -> None:
        """Add handlers of its own, called before those that keep a state."""

    def begin_epoch(self, epoch: int) -> None:
        """Bring the model into the state of an epoch, counted from 0."""

    def begin(self, engine: Engine) -> None:
        """Called before the first step, unless the training goes on from a state."""

    def evaluate(self, engine: Engine, iteration: int) -> None:
        """Called at the end; once per iteration number."""

    def kept(self) -> Collection[int]:
        """Iterations whose weights are kept."""

    def state(self) -> dict[str, Any]:
        """Tensors and plain values that `load` brings back."""

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""


def resume_folder(config: LearningConfig) -> ResumeState:
    """The folder of a training's state: one for all configs that differ in nothing that decides the result.

    States of older versions lie under the digest of the whole config, with today's names of classes or older ones.
    """
    states = absolute(config.output_path) / "unfinished"
    inputs = {name: [relative(path) for path in places] for name, places in inputs_of(config).items()}
    own = digest([decisive(config), references_of(config), inputs])
    older = [digest(config), digest(with_old_names(without_added_fields(resolve(config))))]
    found = [name for name in (own, *older) if (states / name).is_dir()]
    return ResumeState(states / (found[0] if found else own))


def moment_of(names: Collection[str], iteration: int, steps: int) -> dict[str, float]:
    """``<part>/iteration`` and ``<part>/epoch`` for the first part of each name: the optimiser steps that had been taken,
    and the same in epochs of so many `steps`. Whatever a metric's step in the store counts, both stand beside it.
    """
    parts = sorted({name.partition("/")[0] for name in names})
    found: dict[str, float] = {}
    for part in parts:
        found[f"{part}/iteration"] = float(iteration)
        found[f"{part}/epoch"] = iteration / steps
    return found


@dataclass
class Loop:
    """Steps of a learner over batches. `history` holds every logged value, so that a resumed training's run is as
    complete as an uninterrupted one's.
    """

    config: LearningConfig
    learner: Learner
    batches: Batches
    unfinished: ResumeState
    reports: Reports
    history: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    pending: LossLog = field(default_factory=LossLog)

    @cached_property
    def inputs(self) -> str:
        """What the training learns from, as a digest of contents; the first rank looks."""
        return on_all_ranks(lambda: inputs_digest(self.config, self.batches.folds) if is_main() else "")[0]

    @property
    def total(self) -> int:
        """Optimiser steps of the whole training."""
        return self.batches.steps * self.config.epochs

    def run(self, course: TrainingMode) -> None:
        """To the end, from the state of an earlier start where there is one. Raises TrainingError when the loss is not
        finite.
        """
        assert self.inputs  # known as they are before the first step
        keep_freed_memory()  # batches, too, are blocks that are made anew at each step
        engine = Engine(self._step)
        self._attach(engine, course)
        resumed = self._resume(engine, course)
        course.begin_epoch(engine.state.iteration // self.batches.steps)
        if not resumed:
            course.begin(engine)
        if engine.state.iteration < self.total and not course.stopped:
            engine.run(self.batches.training_loader(engine.state.iteration), **({} if resumed else self._length()))
        course.evaluate(engine, engine.state.iteration)

    def _step(self, engine: Engine, batch: Mapping[str, Any]) -> None:
        iteration = engine.state.iteration
        keys = [*batch["key"], *batch.get("unlabelled", {"key": []})["key"]]
        self.pending.add(iteration, self.learner.step(batch, iteration), keys)

    def _length(self) -> dict[str, int]:
        return {"max_epochs": self.config.epochs, "epoch_length": self.batches.steps}

    def _attach(self, engine: Engine, course: TrainingMode) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, lambda e: course.begin_epoch(e.state.epoch - 1))
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._log_step)
        course.attach(engine)
        inside = Events.ITERATION_COMPLETED(every=self.config.checkpoint_every)
        engine.add_event_handler(inside, self._save_inside_epoch, course)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._stop_inside_epoch, course)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._save, course)
        engine.add_event_handler(Events.EPOCH_COMPLETED, check_stop)
        if is_main() and sys.stderr.isatty():
            bar = ProgressBar(desc="training", persist=False)
            bar.attach(engine, output_transform=lambda _: {"loss": f"{self.pending.last:.3f}"})

    # ---------------------------------------------------------------------------------------------------------- logs

    def _log_step(self, engine: Engine) -> None:
        iteration = engine.state.iteration
        if iteration % self.config.log_every == 0 or iteration % self.batches.steps == 0:
            self.fetch(iteration)

    def fetch(self, iteration: int) -> None:
        """Log the losses since the last fetch. Nothing is judged or kept before they are known to be finite."""
        if self.pending.steps:
            self.record(self.pending.fetch(), iteration, iteration)

    def record(self, values: Mapping[str, float], step: int, iteration: int | None = None) -> None:
        """Log values, now and after every resumption; with what they were found at (`moment_of`), where it is given."""
        logged = dict(values)
        if iteration is not None:
            logged |= moment_of(values, iteration, self.batches.steps)
        self.history.append((step, logged))
        self.reports.metrics(logged, step)

    # ------------------------------------------------------------------------------------------------ stop and resume

    def _save_inside_epoch(self, engine: Engine, course: TrainingMode) -> None:
        if engine.state.iteration % self.batches.steps:  # the end of an epoch is saved after its evaluation
            self._save(engine, course)

    def _stop_inside_epoch(self, engine: Engine, course: TrainingMode) -> None:
        """Obey a signal between two steps, and lose none: alone, a process keeps its state first.

        Of several, each may hear of it at another step, so none can wait for the others.
        """
        if not stop_requested() or not engine.state.iteration % self.batches.steps:
            return  # the end of an epoch is saved after its evaluation
        if idist.get_world_size() == 1:
            self._save(engine, course)
        check_stop()

    def _save(self, engine: Engine, course: TrainingMode) -> None:
        self.fetch(engine.state.iteration)
        state = self.learner.state() | course.state() | {
            "inputs": self.inputs, "conditions": conditions(self.learner.device), "iteration": engine.state.iteration, "history": self.history,
        }  # fmt: skip
        if is_main():
            save_state(self.unfinished.state, state)
            self.unfinished.keep_only(course.kept())

    def _compare_conditions(self, before: Mapping[str, str]) -> None:
        """Say when the training goes on under conditions that change its last digits."""
        now = conditions(self.learner.device)
        changed = [
            f"{name} {before[name]} before, {now[name]} now"
            for name in now
            if name in before and before[name] != now[name]
        ]
        if changed:
            log.warning(
                "%s: goes on with %s: equal to a tolerance, not to the bit, to an uninterrupted training",
                self.unfinished.path,
                ", ".join(changed),
            )

    def _resume(self, engine: Engine, course: TrainingMode) -> bool:
        state = load_state(self.unfinished.state)
        if len(set(all_gather(state and state["iteration"]))) > 1:
            raise TrainingError(f"{self.unfinished.path}: not all processes see the same state. Share output_path.")
        if state is None:
            return False
        same = state["inputs"] == self.inputs if "inputs" in state else state["data"] == self.batches.stamps_digest
        if not same:
            raise TrainingError(
                f"{self.unfinished.path}: this training was started on other tiles or labels than those in "
                f"{self.batches.folds.root} now, or from other weights. "
                "Delete that folder to start anew, or bring them back."
            )
        self._compare_conditions(state.get("conditions", {}))
        self.learner.load(state)
        course.load(state)
        engine.load_state_dict({"iteration": state["iteration"], **self._length()})
        log.info("going on at iteration %d of %d from %s", state["iteration"], self.total, self.unfinished.path)
        for step, values in state["history"]:
            self.record(values, step)
        return True
