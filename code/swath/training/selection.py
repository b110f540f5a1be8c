"""Which evaluated weights are kept, and when no better ones are to be expected: all state in plain values."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from swath.errors import ConfigError
from swath.nn.losses.pixel import TaskLosses
from swath.scoring.evaluate import Evaluation, Unit

if TYPE_CHECKING:
    from swath.training.config import EarlyStopping, Plateau, TrainingConfig, ValidationConfig

log = logging.getLogger("swath.training")

VALIDATION = "validation"
"""First part of the names of metrics on the tiles that select the weights."""


def lower_is_better(metric: str) -> bool:
    """Losses and errors fall, scores rise: ``validation/loss_water`` is better when it is lower."""
    name = metric.rsplit("/", 1)[-1]
    return name.startswith(("loss", "mse", "mae"))


@dataclass
class Selection:
    """The best `top` evaluations by each of `metrics`; without metrics, the last one.

    A metric that an evaluation does not define (no such class, neither true nor predicted), or that is no finite number,
    ranks last: its weights are kept only as long as there are no others.
    """

    metrics: tuple[str, ...]
    top: int = 1
    kept: dict[str, list[tuple[float, int]]] = field(default_factory=dict)
    last: int = -1

    def offer(self, values: Mapping[str, float], iteration: int) -> bool:
        """Take part with the weights of `iteration`; True when they are among those to keep."""
        self.last = iteration
        for metric in self.metrics:
            value = values.get(metric)
            if value is None:
                log.warning("%s is undefined at iteration %d: no such class, true or predicted", metric, iteration)
            elif not math.isfinite(value):
                log.warning("%s is %s at iteration %d: these weights rank last", metric, value, iteration)
            sign = -1.0 if lower_is_better(metric) else 1.0
            rank = sign * value if value is not None and math.isfinite(value) else -math.inf
            ranked = [*self.kept.get(metric, []), (rank, iteration)]
            # stable: of equal values the earliest stays first
            self.kept[metric] = sorted(ranked, key=lambda found: -found[0])[: self.top]
        return iteration in self.iterations

    @property
    def iterations(self) -> set[int]:
        """Iterations whose weights are to be kept."""
        if not self.metrics:
            return {self.last}
        return {iteration for found in self.kept.values() for _, iteration in found}

    def ranked(self, metric: str | None = None) -> list[tuple[float | None, int]]:
        """(value, iteration) of the best evaluations by `metric` (None: the first one), best first."""
        chosen = metric or (self.metrics[0] if self.metrics else None)
        if chosen is None:
            return [(None, self.last)] if self.last >= 0 else []
        sign = -1.0 if lower_is_better(chosen) else 1.0
        return [(sign * rank if math.isfinite(rank) else None, i) for rank, i in self.kept.get(chosen, [])]

    @property
    def best(self) -> float | None:
        """The best value of the first metric; None without one."""
        ranked = self.ranked()
        return ranked[0][0] if ranked else None

    @property
    def best_iteration(self) -> int:
        """The iteration whose weights are the result; -1 before any evaluation."""
        ranked = self.ranked()
        return ranked[0][1] if ranked else -1

    def state(self) -> dict[str, object]:
        return {"kept": self.kept, "last": self.last}

    def load(self, state: Mapping[str, object]) -> None:
        kept: dict[str, list[tuple[float, int]]] = state["kept"]  # type: ignore[assignment]
        self.kept = {}
        for metric, found in kept.items():  # states of version 0.2.0 and before may hold NaN
            ranked = [(rank if math.isfinite(rank) else -math.inf, iteration) for rank, iteration in found]
            self.kept[metric] = sorted(ranked, key=lambda one: -one[0])
        self.last = int(state["last"])  # type: ignore[call-overload]


@dataclass
class Patience:
    """Counts evaluations without an improvement of `metric` by more than `min_delta`; `spent` when there were too many."""

    metric: str
    patience: int
    min_delta: float = 0.0
    best: float | None = None
    waited: int = 0

    def observe(self, values: Mapping[str, float]) -> None:
        """Take one evaluation's values; a metric that is undefined, or no finite number, is no improvement."""
        value = values.get(self.metric)
        sign = -1.0 if lower_is_better(self.metric) else 1.0
        if value is None or not math.isfinite(value):
            self.waited += 1
        elif self.best is None or sign * (value - self.best) > self.min_delta:
            self.best, self.waited = value, 0
        else:
            self.waited += 1

    @property
    def spent(self) -> bool:
        return self.waited >= self.patience

    def state(self) -> list[float | int | None]:
        """What has been counted so far, in plain values."""
        return [self.best, self.waited]

    def load(self, state: Sequence[Any]) -> None:
        """The inverse of `state`."""
        best, self.waited = state
        self.best = best if best is not None and math.isfinite(best) else None


def patience_of(settings: EarlyStopping | Plateau, default: str | None) -> Patience:
    """What early stopping or a plateau counts by, on its own metric or on the one that selects the weights.

    Raises ConfigError when there is neither.
    """
    metric = settings.metric or default
    if not metric:
        raise ConfigError(
            "early_stopping and plateau watch a validation metric: hold areas out and name one in `metric`"
        )
    return Patience(metric, settings.patience, settings.min_delta)


# -------------------------------------------------------------------------------------------------------------- checks


def require_selection(validation: ValidationConfig, has_tiles: bool) -> None:
    """Raise ConfigError for weights that are asked for in `validation.also` and that nothing would select."""
    also = ",".join(validation.also)
    if also and validation.metric is None:
        raise ConfigError(
            f"validation.also={also}: without validation.metric no weights are selected, these neither. "
            f"Set validation.metric={validation.also[0]}, or leave validation.also out."
        )
    if also and not has_tiles:
        raise ConfigError(
            f"validation.also={also}: there are no validation tiles to select weights by. "
            "Hold some out with data.split, or leave validation.also out (-P validation.also=[])."
        )


def logged_metrics(config: TrainingConfig, losses: TaskLosses) -> set[str]:
    """Every score and loss that an evaluation can log."""
    matrices = {name: np.ones((len(task.classes),) * 2, np.int64) for name, task in config.tasks.items()}
    found = Evaluation(matrices, dict.fromkeys(losses.names, 0.0), units={"tile": Unit(matrices)})
    return set(found.metrics(VALIDATION, config.tasks, config.validation.scoring.combined))


def require_metrics(config: TrainingConfig, losses: TaskLosses, has_tiles: bool) -> None:
    """Raise ConfigError for a score that no evaluation logs, where a config combines, selects or waits for one.

    Without validation tiles (`has_tiles`) nothing selects, and the metric that would is not looked at.
    """
    names, validation = logged_metrics(config, losses), config.validation
    wrong = [score for score in validation.scoring.combined if f"{VALIDATION}/{score}" not in names]
    if wrong:
        have = ", ".join(sorted(name.removeprefix(f"{VALIDATION}/") for name in names))
        raise ConfigError(f"validation.scoring.combined: no score {', '.join(wrong)}. There are: {have}.")
    watched = [("validation.metric", validation.metric)] if has_tiles else []
    watched += [("validation.also", metric) for metric in validation.also]
    watched += [("validation.early_stopping.metric", stop.metric) for stop in (validation.early_stopping,) if stop]
    watched += [("plateau.metric", plateau.metric) for plateau in (config.plateau,) if plateau]
    for name, metric in watched:
        if metric is not None and metric not in names:
            raise ConfigError(f"{name}={metric}: not among the logged metrics {', '.join(sorted(names))}")
