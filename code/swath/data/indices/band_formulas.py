"""Formulas of a config over the bands of a scene: the name of a band, of an index, or arithmetic with both kinds of names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from swath.data.indices.catalogue import BAND_NAMES, INDICES, find_index, require_bands
from swath.data.indices.expression import Expression, Symbol, parse_formula, symbols_of
from swath.data.indices.program import Program, finite
from swath.errors import ConfigError


@dataclass(frozen=True)
class BandFormula:
    """A formula with the bands that its names stand for."""

    text: str
    expression: Expression
    band_of: Mapping[str, str]
    """Name in the formula to name of the band."""

    @property
    def bands(self) -> tuple[str, ...]:
        """The bands that it needs, each once."""
        return tuple(dict.fromkeys(self.band_of.values()))

    def values(self, bands: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """float32 of the bands' shape, NaN where one is NaN or the formula is undefined; `bands` by name, float."""
        inputs = {symbol: bands[band].astype(np.float64) for symbol, band in self.band_of.items()}
        with np.errstate(all="ignore"):
            _, found = next(iter(Program([self.expression]).run(inputs)))
            return cast(NDArray[np.float32], finite(found).astype(np.float32))


def band_formula(text: str, available: Sequence[str]) -> BandFormula:
    """Read a formula for a scene that has the bands `available`.

    A text that is the name of a band is that band, one that is the name of an index is that index. Other names stand
    for the band of that name, or of another name that it usually has (`BAND_NAMES`). Raises ConfigError for a text that
    is no formula or names no band, and for a band that is not there.
    """
    if text in available:
        return BandFormula(text, Symbol(text), {text: text})
    expression = _read(text)
    symbols = symbols_of(expression)
    if not symbols:
        raise ConfigError(f"formula {text!r}: names no band. There are: {', '.join(available)}.")
    return BandFormula(text, expression, {symbol: band_of_symbol(symbol, text, available) for symbol in symbols})


def lacking_bands(text: str, available: Sequence[str]) -> list[str]:
    """What a formula needs and a scene with the bands `available` does not have, each with its other usual names."""
    if text in available:
        return []
    names = [_names_of(symbol) for symbol in symbols_of(_read(text))]
    return [" or ".join(some) for some in names if not set(some) & set(available)]


def _read(text: str) -> Expression:
    return find_index(text).expression() if text in INDICES else parse_formula(text)


def _names_of(symbol: str) -> tuple[str, ...]:
    return (symbol, *BAND_NAMES.get(symbol, ()))


def band_of_symbol(symbol: str, index: str, available: Sequence[str]) -> str:
    """The band of that name, else the first of the other names of the symbol (`BAND_NAMES`) that is there.

    Raises ConfigError, in the name of the index or formula that needs it, when there is none.
    """
    names = _names_of(symbol)
    there = [name for name in names if name in available]
    if not there:
        require_bands(index, [" or ".join(names)], available)
    return there[0]
