"""Pictures for people: image, prediction and label side by side, with a score and a legend. Arrays in, arrays out."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import geopandas as gpd
import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray

from swath.files import atomic_write
from swath.geo.grid import Grid
from swath.labels import IGNORE

PALETTE = np.array(
    [
        [222, 215, 200],
        [30, 110, 200],
        [230, 150, 40],
        [60, 160, 80],
        [200, 60, 70],
        [140, 90, 180],
        [110, 110, 110],
        [240, 210, 60],
    ],
    np.uint8,
)
"""RGB of classes 0, 1, 2, ...; further classes start over."""
UNLABELLED = np.array([255, 255, 255], np.uint8)
GAP = 4
CAPTION = 18
LETTER = 7
"""Width of a letter of captions and legends, px; most are narrower."""
SQUARE = 10


def stretch(image_CHW: NDArray[np.float32], low: float = 2.0, high: float = 98.0) -> NDArray[np.uint8]:
    """uint8 RGB (height, width, 3) of the first three bands (fewer are repeated): percentiles `low` to `high` to 0..255.

    Bands without negative values, such as linear backscatter and reflectance, are shown as their logarithm. NaN is white.
    """
    bands = [image_CHW[i % len(image_CHW)] for i in range(3)]
    return np.stack([_stretch_band(band, low, high) for band in bands], axis=-1)


def _stretch_band(band_HW: NDArray[np.float32], low: float, high: float) -> NDArray[np.uint8]:
    valid = np.isfinite(band_HW)
    if not valid.any():
        return np.full(band_HW.shape, 255, np.uint8)
    values = np.log10(np.maximum(band_HW, 1e-6)) if band_HW[valid].min() >= 0 else band_HW
    a, b = np.percentile(values[valid], [low, high])
    scaled = np.clip((values - a) / max(b - a, 1e-6), 0, 1) * 245
    return np.where(valid, scaled, 255).astype(np.uint8)


def in_colors(
    values_HW: NDArray[np.floating], colormap: str, limits: tuple[float, float] | None = None
) -> tuple[NDArray[np.uint8], tuple[float, float]]:
    """(uint8 RGB of values from dark to light or as the colormap of Matplotlib has it, the values of its two ends).

    Without `limits` the ends are the quantiles of 2 and 98 % of the valid pixels. NaN is white.
    """
    valid_HW = np.isfinite(values_HW)
    if limits is None:
        ends = np.quantile(values_HW[valid_HW], [0.02, 0.98]) if valid_HW.any() else np.zeros(2)
        limits = float(ends[0]), float(ends[1])
    low, high = limits
    share_HW = np.clip((np.where(valid_HW, values_HW, low) - low) / max(high - low, 1e-12), 0, 1)
    picture = (colormaps[colormap](share_HW)[..., :3] * 255).astype(np.uint8)
    picture[~valid_HW] = UNLABELLED
    return picture, limits


def palette_of(classes: int, ordered: bool = False) -> NDArray[np.uint8]:
    """uint8 (N, 3): `PALETTE`; for steps of one quantity, or more classes than it has, a colour each from dark to light."""
    if classes <= len(PALETTE) and not ordered:
        return PALETTE
    return (colormaps["viridis"](np.linspace(0, 1, classes))[:, :3] * 255).astype(np.uint8)


def colors(labels_HW: NDArray[np.integer], palette: NDArray[np.uint8] = PALETTE) -> NDArray[np.uint8]:
    """uint8 RGB of class numbers; 255 is white."""
    safe = np.where(labels_HW == IGNORE, 0, labels_HW)
    return np.where((labels_HW == IGNORE)[..., None], UNLABELLED, palette[safe % len(palette)]).astype(np.uint8)


def blended(
    picture_HWC: NDArray[np.uint8],
    labels_HW: NDArray[np.integer],
    palette: NDArray[np.uint8] = PALETTE,
    alpha: float = 0.4,
) -> NDArray[np.uint8]:
    """uint8 RGB: a picture with the colours of classes above 0 laid over it, `alpha` of them; class 0 and 255 stay as they are."""
    shown = (labels_HW > 0) & (labels_HW != IGNORE)
    out = picture_HWC.astype(np.float32)
    out[shown] = (1 - alpha) * out[shown] + alpha * colors(labels_HW, palette)[shown]
    return np.rint(out).astype(np.uint8)


class Agreement(NamedTuple):
    """Counts of labelled pixels that a map and its labels are compared by; those of parts add up with `plus`."""

    both: int = 0
    """Foreground, any class above 0, in both."""
    either: int = 0
    """Foreground in one of them."""
    right: int = 0
    """Of the same class."""
    labelled: int = 0

    @classmethod
    def of(cls, labels_HW: NDArray[np.integer], predicted_HW: NDArray[np.integer]) -> Agreement:
        """Counts over the pixels whose label is not 255. A pixel without a prediction, 255, counts as class 0."""
        guessed_HW = np.where(predicted_HW == IGNORE, 0, predicted_HW)
        valid = labels_HW != IGNORE
        true, found = valid & (labels_HW > 0), valid & (guessed_HW > 0)
        right = valid & (labels_HW == guessed_HW)
        return cls(int((true & found).sum()), int((true | found).sum()), int(right.sum()), int(valid.sum()))

    def plus(self, other: Agreement) -> Agreement:
        """The counts of both parts."""
        return Agreement(*(a + b for a, b in zip(self, other, strict=True)))

    def text(self, classes: int) -> str:
        """The foreground's IoU; of more than two classes also the share of pixels that have the right one."""
        score = f"IoU {self.both / self.either:.3f}" if self.either else "no foreground"
        if classes > 2 and self.labelled:
            score += f"  right {self.right / self.labelled:.0%}"
        return score


def panel(
    image_CHW: NDArray[np.float32],
    labels_HW: NDArray[np.uint8],
    predicted_HW: NDArray[np.integer],
    classes: Sequence[str],
    caption: str = "",
    palette: NDArray[np.uint8] = PALETTE,
    agreement: Agreement | None = None,
) -> NDArray[np.uint8]:
    """uint8 RGB: image, image with prediction, prediction, image with label and label in a row, small ones `enlarged`; below
    them the score and a legend of the `classes`. `agreement`: counts to show, where the pictures are thinned; None: those of the pictures.
    """
    picture = stretch(image_CHW)
    cells = [
        picture,
        blended(picture, predicted_HW, palette),
        colors(predicted_HW, palette),
        blended(picture, labels_HW, palette),
        colors(labels_HW, palette),
    ]
    titles = [caption, "image + prediction", "prediction", "image + label", "label"]
    row = side_by_side([enlarged(cell) for cell in cells], titles)
    counted = agreement or Agreement.of(labels_HW, predicted_HW)
    return np.concatenate([row, legend(counted.text(len(classes)), classes, palette, row.shape[1])])


def enlarged(picture_HWC: NDArray[np.uint8], least: int = 18 * LETTER) -> NDArray[np.uint8]:
    """A picture narrower than `least` px with each pixel as a square of the fewest pixels that make it as wide."""
    factor = math.ceil(least / picture_HWC.shape[1])
    return picture_HWC.repeat(factor, axis=0).repeat(factor, axis=1) if factor > 1 else picture_HWC


def legend(
    title: str,
    classes: Sequence[str],
    palette: NDArray[np.uint8] = PALETTE,
    width: int = 640,
    has_unlabelled: bool = True,
) -> NDArray[np.uint8]:
    """uint8 RGB, `width` px wide: a text, then a square of its colour and the name of each class, and of "no label" where
    the picture may have such pixels.
    """
    entries: list[tuple[NDArray[np.uint8] | None, str]] = [(None, title)]
    entries += [(palette[k % len(palette)], name) for k, name in enumerate(classes)]
    if has_unlabelled:
        entries.append((UNLABELLED, "no label"))
    places, x, line = [], 2, 0
    for color, name in entries:
        needed = LETTER * len(name) + 10 + (0 if color is None else SQUARE + 4)
        if x + needed > width and x > 2:
            x, line = 2, line + 1
        places.append((x, line))
        x += needed
    out = np.full(((line + 1) * CAPTION, width, 3), 255, np.uint8)
    for (color, name), (x, line) in zip(entries, places, strict=True):
        low = (line + 1) * CAPTION - 5
        if color is not None:
            corners = (x, low - SQUARE + 1), (x + SQUARE, low + 1)
            cv2.rectangle(out, *corners, [int(c) for c in color], cv2.FILLED)
            cv2.rectangle(out, *corners, (90, 90, 90), 1)
            x += SQUARE + 4
        _write(out, name, (x, low))
    return out


def paragraph(text: str, width: int = 640) -> NDArray[np.uint8]:
    """uint8 RGB, `width` px wide: a text, in as many lines as it needs."""
    lines = textwrap.wrap(text, max(1, width // LETTER)) or [""]
    out = np.full((len(lines) * CAPTION, width, 3), 255, np.uint8)
    for number, line in enumerate(lines, start=1):
        _write(out, line, (2, number * CAPTION - 5))
    return out


def _write(picture: NDArray[np.uint8], text: str, place: tuple[int, int]) -> None:
    """Write a small text onto a picture, in place; `place` is the lower left corner (x, y)."""
    cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)


def side_by_side(cells: Sequence[NDArray[np.uint8]], titles: Sequence[str]) -> NDArray[np.uint8]:
    """uint8 RGB: pictures of one height in a row, each with a title above."""
    return np.concatenate([_titled(cell, title) for cell, title in zip(cells, titles, strict=True)], axis=1)


def _titled(cell_HWC: NDArray[np.uint8], title: str) -> NDArray[np.uint8]:
    height, width = cell_HWC.shape[:2]
    out = np.full((height + CAPTION, width + GAP, 3), 255, np.uint8)
    out[CAPTION:, :width] = cell_HWC
    letters = width // LETTER
    _write(out, title if len(title) <= letters else "..." + title[-(letters - 3) :], (2, CAPTION - 5))
    return out


def stacked(rows: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Panels below each other; narrower ones are filled with white."""
    width = max(row.shape[1] for row in rows)
    return np.concatenate([np.pad(r, ((0, GAP), (0, width - r.shape[1]), (0, 0)), constant_values=255) for r in rows])


def draw_mask_outline(picture: NDArray[np.uint8], mask_HW: NDArray[np.bool_], color: tuple[int, int, int]) -> None:
    """Colour the outermost pixels of a mask's regions on a picture of its size, in place."""
    inner_HW = mask_HW.copy()
    inner_HW[1:] &= mask_HW[:-1]
    inner_HW[:-1] &= mask_HW[1:]
    inner_HW[:, 1:] &= mask_HW[:, :-1]
    inner_HW[:, :-1] &= mask_HW[:, 1:]
    picture[mask_HW & ~inner_HW] = color


def draw_outlines(picture: NDArray[np.uint8], frame: gpd.GeoDataFrame, grid: Grid, scale: float) -> None:
    """Draw the rings of polygons onto a picture of `grid` at `scale` picture pixels per pixel, in place."""
    for geometry in frame.geometry:
        for part in getattr(geometry, "geoms", [geometry]):
            for ring in (part.exterior, *part.interiors):
                x, y = np.asarray(ring.coords).T[:2]
                col, row = ~grid.transform @ (x, y)
                points = np.stack([col, row], axis=1) * scale
                cv2.polylines(picture, [np.rint(points).astype(np.int32)], True, (235, 30, 40), 1, cv2.LINE_AA)


def beside(pictures: Mapping[str, NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Pictures in a row on white, each under its name."""
    height = max(p.shape[0] for p in pictures.values()) + 26
    cells = []
    for name, picture in pictures.items():
        cell = np.full((height, picture.shape[1] + 8, 3), 255, np.uint8)
        cell[24 : 24 + picture.shape[0], 4 : 4 + picture.shape[1]] = picture
        cv2.putText(cell, name, (6, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
        cells.append(cell)
    return np.concatenate(cells, axis=1)


def write_picture(path: Path, image_HWC: NDArray[np.uint8]) -> None:
    """Write an RGB picture; whole or not at all."""
    with atomic_write(path) as part:
        if not cv2.imwrite(str(part), image_HWC[..., ::-1]):
            raise OSError("OpenCV could not write it")
