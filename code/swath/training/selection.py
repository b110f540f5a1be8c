"""Which evaluated weights are kept, and when no better ones are to be expected: all state in plain values."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from swath.errors import ConfigError

if TYPE_CHECKING:
    from swath.training.config import EarlyStopping, Plateau

log = logging.getLogger("swath.training")


def lower_is_better(metric: str) -> bool:
    """Losses and errors fall, scores rise: ``validation/loss_water`` is better when it is lower."""
    name = metric.rsplit("/", 1)[-1]
    return name.startswith(("loss", "mse", "mae"))


@dataclass
class Selection:
    """The best `top` evaluations by each of `metrics`; without metrics, the last one.

    A metric that an evaluation does not define (no such class, neither true nor predicted) ranks last: it is kept
    only as long as there is nothing better.
    """

    metrics: tuple[str, ...]
    top: int = 1
    kept: dict[str, list[tuple[float, int]]] = field(default_factory=dict)
    last: int = -1

    def offer(self, values: Mapping[str, float], iteration: int) -> bool:
        """Take part with the weights of `iteration`; True when they are among those to keep."""
        self.last = iteration
        for metric in self.metrics:
            if metric not in values:
                log.warning("%s is undefined at iteration %d: no such class, true or predicted", metric, iteration)
            sign = -1.0 if lower_is_better(metric) else 1.0
            rank = sign * values[metric] if metric in values else -math.inf
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

    def unknown(self, logged: Collection[str]) -> list[str]:
        """Metrics that no evaluation logs."""
        return [metric for metric in self.metrics if metric not in logged]

    def state(self) -> dict[str, object]:
        return {"kept": self.kept, "last": self.last}

    def load(self, state: Mapping[str, object]) -> None:
        kept: dict[str, list[tuple[float, int]]] = state["kept"]  # type: ignore[assignment]
        self.kept = {metric: [(value, i) for value, i in found] for metric, found in kept.items()}
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
        """Take one evaluation's values; an undefined metric is no improvement."""
        value = values.get(self.metric)
        sign = -1.0 if lower_is_better(self.metric) else 1.0
        if value is not None and (self.best is None or sign * (value - self.best) > self.min_delta):
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
        self.best, self.waited = state


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
