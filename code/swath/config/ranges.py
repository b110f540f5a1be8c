"""Ranges of numbers in configs: declared by a field's type, checked when the whole command line is read.

Checked there and not when a config is made, since overrides come one by one: what fits in the end may not on the way.
"""

from __future__ import annotations

import math
import typing
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, runtime_checkable

from swath.config.roles import fields_of
from swath.errors import ConfigError


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included; without infinities and NaN."""

    low: float
    high: float = math.inf

    def holds(self, value: float) -> bool:
        """Whether a number lies in it."""
        return math.isfinite(value) and self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{self.low:g} or more" if self.high == math.inf else f"from {self.low:g} to {self.high:g}"


Count = Annotated[int, Range(0)]
"""A whole number of 0 or more."""

PositiveCount = Annotated[int, Range(1)]
"""A whole number of 1 or more."""

Pixels = Annotated[int, Range(1, 65536)]
"""A side of a window, in pixels: as much as one process can hold."""

Amount = Annotated[float, Range(0)]
"""A number of 0 or more."""

Share = Annotated[float, Range(0, 1)]
"""A number from 0 to 1."""


@runtime_checkable
class Consistent(Protocol):
    """A config, or a part of one, whose fields have to fit each other."""

    def require_consistent(self, where: str) -> None:
        """Raise ConfigError, which begins with `where`, when they do not."""


def check_ranges(config: Any, where: str = "") -> None:
    """Raise ConfigError for the first number that lies outside the range of its field, or fields that do not fit.

    `where` is the dotted name of `config` in a larger one. Looks into all that stands below it.
    """
    for name, value, kind in fields_of(config):
        full = f"{where}.{name}" if where else name
        allowed = _range_of(kind)
        if allowed is None:
            check_ranges(value, full)
            continue
        for number in value if isinstance(value, (tuple, list)) else (value,):
            is_number = isinstance(number, (int, float)) and not isinstance(number, bool)
            if is_number and not allowed.holds(number):
                said = str(allowed) if math.isfinite(number) else f"finite, and {allowed}"
                raise ConfigError(f"{full}={value}: has to be {said}. Set it with -P {full}=<number>.")
    if isinstance(config, Consistent) and not isinstance(config, type):
        config.require_consistent(where)


def _range_of(kind: Any) -> Range | None:
    """The range that a declared type names: itself, one member of a union, or what a tuple holds."""
    for extra in getattr(kind, "__metadata__", ()):
        if isinstance(extra, Range):
            return extra
    for inner in typing.get_args(kind):
        found = _range_of(inner)
        if found is not None:
            return found
    return None
