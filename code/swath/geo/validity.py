"""Which pixels of a file are valid, by all that the file says: nodata tags, masks and alpha bands.

A nodata tag is text in most formats and may have fewer digits than the pixels: -3.40282e+38 stands for
-3.4028234663852886e+38. A tag that no pixel of the band's type can hold, such as -9999 of bytes, marks none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from swath.errors import RasterError
from swath.geo.layout import RasterInfo
from swath.labels import IGNORE

LARGEST = float(np.finfo(np.float32).max)
EXACT_BELOW = 900.0
"""Tags nearer to 0 than this mean one value; beyond, every value that has the tag's digits."""

Span = tuple[float, float]
"""Smallest and largest of the stored values that a tag stands for."""


def span_of_tag(tag: float | None, dtype: str) -> Span | None:
    """The stored values that a nodata tag stands for in a band of `dtype`; None where it stands for none.

    Not-a-number is none: it is no measurement whatever a tag says.
    """
    if tag is None or math.isnan(tag):
        return None
    if np.issubdtype(np.dtype(dtype), np.integer):
        limits = np.iinfo(dtype)
        fits = float(tag).is_integer() and limits.min <= tag <= limits.max
        return (int(tag), int(tag)) if fits else None
    if math.isinf(tag):
        return None  # infinite values are no measurement either
    with np.errstate(over="ignore"):
        nearest = float(np.dtype(dtype).type(tag))
    whole = float(tag).is_integer() and abs(tag) < 2**24
    if abs(tag) < EXACT_BELOW or whole:
        return nearest, nearest
    written = str(np.dtype(dtype).type(tag))  # GDAL reads the text as a number of the band's type
    unit = 10.0 ** _last_place(written)
    return min(nearest, tag - unit / 2), max(nearest, tag + unit / 2)


def _last_place(number: str) -> int:
    """Power of ten of the last digit that a number is written with: -1 of -9999.9, 33 of -3.40282e+38."""
    exponent = Decimal(number).normalize().as_tuple().exponent
    assert isinstance(exponent, int)
    return exponent


@dataclass(frozen=True)
class Validity:
    """What a file says of its pixels' validity, with values that mean no measurement although it does not say so."""

    info: RasterInfo
    missing: tuple[float, ...] = ()
    """Stored values that mean no measurement, in all bands."""

    def measured(
        self, stored: NDArray[Any], bands: Sequence[int], valid_HW: NDArray[np.bool_] | None
    ) -> NDArray[np.float32]:
        """float32 (bands, height, width) of `stored` values of `bands`, counted from 1: NaN where there is no measurement,
        elsewhere the stored value times the band's scale, plus its offset. `valid_HW`: what the file's mask says."""
        gaps = self._gaps(stored, bands)
        if valid_HW is not None and not valid_HW.all():
            gaps = ~valid_HW | (np.zeros(stored.shape, bool) if gaps is None else gaps)
        if self.info.is_scaled:
            image = np.empty(stored.shape, np.float32)
            for out, band, number in zip(image, stored, bands, strict=True):
                out[:] = band.astype(np.float64) * self.info.scales[number - 1] + self.info.offsets[number - 1]
        else:
            with np.errstate(over="ignore"):  # float64 beyond float32 becomes infinite, and is a gap
                image = stored.astype(np.float32, copy=False)
        if gaps is not None:
            np.copyto(image, np.float32(np.nan), where=gaps)
        return image

    def _gaps(self, stored: NDArray[Any], bands: Sequence[int]) -> NDArray[np.bool_] | None:
        """Which stored values are no measurement; looked for only where the extremes leave room for one."""
        spans = [self._spans(number) for number in bands]
        low, high = float(stored.min()), float(stored.max())  # NaN when there is one
        possible = [span for of_band in spans for span in of_band if not (high < span[0] or low > span[1])]
        if max(-low, high) <= LARGEST and not possible:
            return None
        with np.errstate(over="ignore"):
            gaps = ~np.isfinite(stored.astype(np.float32, copy=False))
        if all(of_band == spans[0] for of_band in spans):
            _mark(gaps, stored, spans[0])
        else:
            for marks, band, of_band in zip(gaps, stored, spans, strict=True):
                _mark(marks, band, of_band)
        return gaps

    def _spans(self, number: int) -> list[Span]:
        tag = span_of_tag(self.info.nodatas[number - 1], self.info.dtype)
        exact: list[Span] = [(float(value), float(value)) for value in self.missing]
        return exact if tag is None else [tag, *exact]

    def labelled(
        self, stored: NDArray[np.uint8], bands: Sequence[int], valid_HW: NDArray[np.bool_] | None
    ) -> NDArray[np.uint8]:
        """uint8 (bands, height, width) of `stored` labels: 255 where the file's nodata tags or its mask say so."""
        labels = stored
        for at, number in enumerate(bands):
            span = span_of_tag(self.info.nodatas[number - 1], self.info.dtype)
            if span is not None and span[0] != IGNORE:
                labels[at][labels[at] == span[0]] = IGNORE
        if valid_HW is not None:
            labels[:, ~valid_HW] = IGNORE
        return labels

    def require_labels(self) -> None:
        """Raise RasterError for a file that cannot hold labels, or does not say clearly which pixels have one."""
        path, kind = self.info.path, self.info.dtype
        if kind != "uint8":
            raise RasterError(f"{path}: labels must be uint8, found {kind}. Make it with `rasterize`.")
        if self.info.is_scaled:
            raise RasterError(
                f"{path}: labels have no scale, found {self.info.scales} and offset {self.info.offsets}. Take them out: "
                f"gdal_edit.py -scale 1 -offset 0 {path.name}"
            )
        if 0 in self.info.nodatas:
            raise RasterError(
                f"{path}: its nodata tag is 0, and 0 is also the first class. If 0 is a class, take the tag out: "
                f"gdal_edit.py -unsetnodata {path.name}. If 0 means no label, make it 255: "
                f'gdal_calc.py -A {path.name} --calc="where(A==0,255,A)" --hideNoData --NoDataValue=255 --type=Byte '
                f"--outfile=labels_{path.name}"
            )


def _mark(gaps: NDArray[np.bool_], stored: NDArray[Any], spans: Sequence[Span]) -> None:
    for low, high in spans:
        gaps |= (stored == low) if low == high else (stored >= low) & (stored <= high)
