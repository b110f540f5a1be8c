"""Jobs of the tests' own steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Call:
    """A job that calls a function of one argument."""

    key: str
    argument: Any = None
    inputs: Sequence[Path] = ()
    outputs: Sequence[Path] = ()
    function: Callable[[Any], Any] | None = None

    def run(self) -> Any:
        """Call it."""
        assert self.function is not None
        return self.function(self.argument)

    def by(self, function: Callable[[Any], Any]) -> Call:
        """The same job done by another function."""
        return replace(self, function=function)
