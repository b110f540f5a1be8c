"""Learning-rate schedules: factor of the base rate as a pure function of iteration i of n, so resuming is exact."""

from __future__ import annotations

import math
from dataclasses import dataclass

from swath.config.ranges import PositiveCount


@dataclass(frozen=True, kw_only=True)
class Constant:
    """1 throughout."""

    def __call__(self, i: int, n: int) -> float:
        return 1.0


@dataclass(frozen=True, kw_only=True)
class Poly:
    """(1 - i / n) ** power: 1 at the start, 0 at the end."""

    power: float = 0.9

    def __call__(self, i: int, n: int) -> float:
        return max(0.0, 1 - i / n) ** self.power


@dataclass(frozen=True, kw_only=True)
class PolyRestart:
    """Poly over the first `at` share of the iterations, then poly again over the rest from `scale` of the base rate."""

    at: float = 0.75
    scale: float = 0.25
    power: float = 0.9

    def __call__(self, i: int, n: int) -> float:
        turn = round(self.at * n)
        poly = Poly(power=self.power)
        return poly(i, turn) if i < turn else self.scale * poly(i - turn, max(n - turn, 1))


@dataclass(frozen=True, kw_only=True)
class OneCycle:
    """Cosine from 1 / div up to 1 over the first `warm_up` share, then down to 1 / (div final_div): Smith 2018.

    The same values as torch's OneCycleLR with max_lr as the base rate, pct_start, div_factor, final_div_factor.
    """

    warm_up: float = 0.3
    div: float = 25.0
    final_div: float = 1e4

    def __call__(self, i: int, n: int) -> float:
        peak = self.warm_up * n - 1
        if i <= peak:
            return _cosine(1 / self.div, 1.0, i / peak if peak > 0 else 1.0)
        return _cosine(1.0, 1 / (self.div * self.final_div), min(1.0, (i - peak) / max(n - 1 - peak, 1e-9)))


@dataclass(frozen=True, kw_only=True)
class Cosine:
    """Half a cosine from 1 to `final`."""

    final: float = 0.0

    def __call__(self, i: int, n: int) -> float:
        return _cosine(1.0, self.final, min(1.0, i / n))


@dataclass(frozen=True, kw_only=True)
class CosineRestarts:
    """Half a cosine from 1 to `final` over `period` iterations, again and again: Loshchilov and
    Hutter 2017, arXiv:1608.03983.

    Each period is `growth` times as long as the one before, as T_mult of torch's
    CosineAnnealingWarmRestarts.
    """

    period: PositiveCount = 10_000
    final: float = 0.0
    growth: PositiveCount = 1

    def __call__(self, i: int, n: int) -> float:
        start, length = self._current(i)
        return _cosine(1.0, self.final, (i - start) / length)

    def _current(self, i: int) -> tuple[int, int]:
        """First iteration and length of the period that iteration i is in."""
        if self.growth == 1:
            return i - i % self.period, self.period
        start, length = 0, self.period
        while i >= start + length:
            start += length
            length *= self.growth
        return start, length


@dataclass(frozen=True, kw_only=True)
class Cyclic:
    """Triangle between `low` and 1 with `period` iterations (Smith 2017)."""

    period: int = 2000
    low: float = 0.1

    def __call__(self, i: int, n: int) -> float:
        phase = (i % self.period) / self.period
        return self.low + (1 - self.low) * (1 - abs(2 * phase - 1))


@dataclass(frozen=True, kw_only=True)
class WarmUp:
    """Linear from `start` to 1 over the first `share` of the iterations, times `after` over the rest."""

    after: Poly | PolyRestart | OneCycle | Cosine | CosineRestarts | Cyclic | Constant = Constant()
    share: float = 0.05
    start: float = 1 / 3

    def __call__(self, i: int, n: int) -> float:
        turn = round(self.share * n)
        if i < turn:
            return self.start + (1 - self.start) * i / turn
        return self.after(i - turn, max(n - turn, 1))


def _cosine(start: float, end: float, t: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * t)) / 2
