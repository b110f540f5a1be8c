"""What columns of tables hold: every value that readers count on is checked once, where a table is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from swath.config.json_files import short
from swath.errors import CatalogError

LARGEST = 2**31 - 1
"""Pixels along one side of a raster: no format has more."""

Bad = Callable[["pd.Series[Any]"], NDArray[np.bool_]]
"""Which values of a column are none that it may hold."""


@dataclass(frozen=True)
class Column:
    """What a column has to hold, in words, and which of its values are something else."""

    holds: str
    bad: Bad


def _each(fits: Callable[[Any], bool], gaps: bool = False) -> Bad:
    """Values looked at one by one; None and NaN are right where there may be `gaps`."""

    def bad(values: pd.Series[Any]) -> NDArray[np.bool_]:
        return np.array([not (fits(value) or (gaps and _is_gap(value))) for value in values], bool)

    return bad


def _is_gap(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and "\0" not in value  # which no path may hold


def _is_name(value: Any) -> bool:
    return _is_text(value) and bool(value)


def _numbers(low: float, high: float, whole: bool = False, gaps: bool = False) -> Bad:
    """Numbers of a range; infinities and, without `gaps`, NaN are none."""

    def bad(values: pd.Series[Any]) -> NDArray[np.bool_]:
        empty = values.isna().to_numpy()
        is_number = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
        if not is_number:
            return ~empty if gaps else np.ones(len(values), bool)
        numbers = values.to_numpy(np.float64, na_value=np.nan)
        fits = np.isfinite(numbers) & (numbers >= low) & (numbers <= high)
        if whole:
            fits &= np.floor(numbers) == numbers
        return ~(fits | empty) if gaps else ~fits

    return bad


def _list_of(length: int | None = None, low: float | None = None) -> Callable[[Any], bool]:
    """Whether a value is a list of numbers, and with `low` of finite ones that are not smaller."""

    def fits(value: Any) -> bool:
        if not isinstance(value, list | tuple | np.ndarray) or (length is not None and len(value) != length):
            return False
        if not all(isinstance(one, int | float | np.number) and not isinstance(one, bool) for one in value):
            return False
        found = np.asarray(value, np.float64)
        return low is None or bool(np.isfinite(found).all() and (found >= low).all())

    return fits


def _is_list_of_names(value: Any) -> bool:
    return isinstance(value, list | tuple | np.ndarray) and all(_is_name(one) for one in value)


def _is_transform(value: Any) -> bool:
    if not _list_of(length=6, low=-np.inf)(value):
        return False
    a, b, _, d, e, _ = (float(one) for one in value)
    return a * e != b * d  # pixels have an area


_NAME = Column("a text that is not empty", _each(_is_name))
_MAYBE_TEXT = Column("a text, or nothing", _each(_is_text, gaps=True))
_PLACE = Column("a whole number of pixels", _numbers(-LARGEST, LARGEST, whole=True))
_PLACE_OR_GAP = Column("a whole number of pixels, or nothing", _numbers(-LARGEST, LARGEST, whole=True, gaps=True))
_SIZE = Column(f"a whole number from 1 to {LARGEST}", _numbers(1, LARGEST, whole=True))
_SIZE_OR_0 = Column(f"a whole number from 0 to {LARGEST}", _numbers(0, LARGEST, whole=True))
_COUNT_OR_GAP = Column("a whole number of 0 or more, or nothing", _numbers(0, 2**53, whole=True, gaps=True))
_SHARE_OR_GAP = Column("a number from 0 to 1, or nothing", _numbers(0, 1, gaps=True))
_NUMBER_OR_GAP = Column("a number, or nothing", _numbers(-np.inf, np.inf, gaps=True))

COLUMNS: Mapping[str, Column] = {
    **dict.fromkeys(("key", "scene", "image", "side", "task"), _NAME),
    "area": Column("a text", _each(_is_text)),
    **dict.fromkeys(("mask", "labels", "crs", "scene_bands"), _MAYBE_TEXT),
    **dict.fromkeys(("row", "col", "core_row", "core_col"), _PLACE),
    **dict.fromkeys(("at_row", "at_col"), _PLACE_OR_GAP),
    **dict.fromkeys(("height", "width", "scene_height", "scene_width"), _SIZE),
    **dict.fromkeys(("core_height", "core_width"), _SIZE_OR_0),
    "valid_ratio": Column("a number from 0 to 1", _numbers(0, 1)),
    **dict.fromkeys(("target_ratio", "labelled_ratio"), _SHARE_OR_GAP),
    **dict.fromkeys(("zone_pixels", "zone_min_pixels"), _COUNT_OR_GAP),
    "zone_value": _NUMBER_OR_GAP,
    "skip": Column("true or false", _each(lambda value: isinstance(value, bool | np.bool_))),
    "scene_transform": Column("six finite numbers that give pixels an area", _each(_is_transform)),
    "bands": Column("a list of names, or nothing", _each(_is_list_of_names, gaps=True)),
    **dict.fromkeys(
        ("missing", "scene_medians"), Column("a list of numbers, or nothing", _each(_list_of(), gaps=True))
    ),
    "zones": Column("a list of numbers of 0 or more, or nothing", _each(_list_of(low=0), gaps=True)),
    "matrix": Column("a list of numbers of 0 or more", _each(_list_of(low=0))),
}
"""Column to what it has to hold, in every table that has a column of this name."""

COUNTED = Column("a list of numbers of 0 or more, or nothing", _each(_list_of(low=0), gaps=True))
"""What a column holds whose name begins with ``classes_``."""


def require_values_of_columns(table: pd.DataFrame, path: Path, remedy: str) -> None:
    """Raise CatalogError for the first value of the table in `path` that its column cannot hold, with the `remedy`.

    The message names column, value, and the key of its row.
    """
    twice = table.columns[table.columns.duplicated()]
    if len(twice):
        raise CatalogError(f"{path}: has several columns called {twice[0]!r}. {remedy}")
    for name in table.columns:
        column = COUNTED if str(name).startswith("classes_") else COLUMNS.get(str(name))
        if column is None:
            continue
        bad = column.bad(table[name])
        if bad.any():
            row = int(bad.argmax())
            key = f" at key {short(table['key'].iloc[row])}" if "key" in table and name != "key" else ""
            value = table[name].iloc[row]
            plain = value.tolist() if isinstance(value, np.generic | np.ndarray) else value
            said = "nothing" if _is_gap(plain) else short(plain)
            raise CatalogError(f"{path}: column `{name}`, row {row}{key}: holds {said}, not {column.holds}. {remedy}")
