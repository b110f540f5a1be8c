"""Ice charts of the AI4Arctic challenge: polygons with SIGRID-3 codes to classes of SIC, SOD and FLOE.

The rules are those of the challenge's data manual (Buus-Hinkler et al., 2022, table 8), but for one: where all three
partial ices of a polygon are of one class, all three concentrations count, not the first and the third only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from swath.errors import RasterError
from swath.labels import IGNORE

CHARTS = {"SIC": 11, "SOD": 6, "FLOE": 7}
"""Charts, in the order of label bands, and their numbers of classes: tenths of concentration, stage, floe size."""

NOT_FILLED, UNKNOWN = -9, 99
DOMINANT_PERCENT = 65
"""Share of the total concentration from which on a class stands for its polygon."""

_Codes = Mapping[int, int]

SIC_CODES: _Codes = dict.fromkeys((0, 1, 2, 55), 0) | {10 * i: i for i in range(1, 10)} | {91: 10, 92: 10}
SOD_CODES: _Codes = {
    0: 0, 80: 0, 81: 1, 82: 1, 83: 2, 84: 2, 85: 2, 86: 4, 87: 3, 88: 3, 89: 3, 91: 4, 93: 4, 95: 5, 96: 5, 97: 5,
}  # fmt: skip
FLOE_CODES: _Codes = {0: 0, 2: 1, 3: 2, 4: 3, 5: 4, 6: 5, 7: 5, 9: 6, 10: 6}
FAST_ICE = 8

COLUMNS = ("id", "CT", "CA", "SA", "FA", "CB", "SB", "FB", "CC", "SC", "FC", "CN", "CD", "CF", "POLY_TYPE")
"""Columns of a table of codes; its first line names them."""
_NUMBERS = ("id", "CT", *(f"{kind}{ice}" for ice in "ABC" for kind in "CSF"))


def polygon_classes(table: Sequence[str], source: str) -> dict[int, tuple[int, int, int]]:
    """Polygon to classes of (SIC, SOD, FLOE), 255 where there is none, from lines of codes such as ``3;91;70;91;5;...``.

    Raises RasterError that names `source` and the line or the columns that cannot be read.
    """
    header, lines = table[0].split(";") if table else [], table[1:]
    missing = [column for column in (*_NUMBERS, "POLY_TYPE") if column not in header]
    if missing:
        raise RasterError(f"{source}: its table of codes lacks {', '.join(missing)}. It begins with {table[:1]}.")
    classes = {}
    for line in lines:
        fields = dict(zip(header, line.split(";"), strict=False))
        try:
            codes = {name: int(fields[name]) for name in _NUMBERS}
            classes[codes["id"]] = _classes(codes, fields["POLY_TYPE"].strip().lower() == "w")
        except (KeyError, ValueError) as error:
            raise RasterError(f"{source}: {line!r} is no line of codes {';'.join(header)}.") from error
    return classes


def _classes(codes: Mapping[str, int], water: bool) -> tuple[int, int, int]:
    total = 0 if water else SIC_CODES.get(codes["CT"], IGNORE)
    if total == 0:
        return 0, 0, 0
    if total == IGNORE:
        return IGNORE, IGNORE, IGNORE
    partial = [_tenths(codes[name]) for name in ("CA", "CB", "CC")]
    if codes["CA"] == NOT_FILLED:  # one kind of ice only: the total is its concentration
        partial[0] = total
    stages = [SOD_CODES.get(codes[name], IGNORE) for name in ("SA", "SB", "SC")]
    floes = [FLOE_CODES.get(codes[name], IGNORE) for name in ("FA", "FB", "FC")]
    fast = FAST_ICE in (codes["FA"], codes["FB"], codes["FC"])
    return total, _dominant(total, partial, stages), IGNORE if fast else _dominant(total, partial, floes)


def _tenths(code: int) -> int:
    return SIC_CODES.get(code, 0)


def _dominant(total: int, partial: Sequence[int], classes: Sequence[int]) -> int:
    """The class with the most ice, partial ices of one class together, if it has enough of the total; else 255."""
    ice = {c: sum(p for p, other in zip(partial, classes, strict=True) if other == c) for c in classes}
    most = max(ice, key=lambda c: ice[c])
    return most if 100 * ice[most] >= DOMINANT_PERCENT * total else IGNORE


def charts_of(polygons_HW: NDArray[np.floating], classes: Mapping[int, tuple[int, int, int]]) -> NDArray[np.uint8]:
    """uint8 (3, H, W): SIC, SOD and FLOE of the polygon at each pixel; 255 outside, and for polygons without codes."""
    known = {number: value for number, value in classes.items() if number >= 0}
    table = np.full((max(known, default=-1) + 2, len(CHARTS)), IGNORE, np.uint8)
    for number, value in known.items():
        table[number] = value
    listed = np.isfinite(polygons_HW) & (polygons_HW >= 0) & (polygons_HW < len(table) - 1)
    return np.moveaxis(table[np.where(listed, polygons_HW, len(table) - 1).astype(np.int64)], -1, 0)
