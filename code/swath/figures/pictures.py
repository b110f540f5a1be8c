"""Pictures for people: image, label, prediction and overlay side by side; a confusion matrix. Arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

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


def palette_of(classes: int, ordered: bool = False) -> NDArray[np.uint8]:
    """uint8 (N, 3): `PALETTE`; for steps of one quantity, or more classes than it has, a colour each from dark to light."""
    if classes <= len(PALETTE) and not ordered:
        return PALETTE
    return (colormaps["viridis"](np.linspace(0, 1, classes))[:, :3] * 255).astype(np.uint8)


def colors(labels_HW: NDArray[np.integer], palette: NDArray[np.uint8] = PALETTE) -> NDArray[np.uint8]:
    """uint8 RGB of class numbers; 255 is white."""
    safe = np.where(labels_HW == IGNORE, 0, labels_HW)
    return np.where((labels_HW == IGNORE)[..., None], UNLABELLED, palette[safe % len(palette)]).astype(np.uint8)


def overlay(
    image_HWC: NDArray[np.uint8], labels_HW: NDArray[np.integer], predicted_HW: NDArray[np.integer]
) -> NDArray[np.uint8]:
    """The image with agreement and errors of the foreground in colour: hits blue, false alarms red, misses yellow."""
    valid = labels_HW != IGNORE
    hit = valid & (labels_HW > 0) & (predicted_HW == labels_HW)
    false = valid & (predicted_HW > 0) & (predicted_HW != labels_HW)
    missed = valid & (labels_HW > 0) & (predicted_HW == 0)
    out = image_HWC.astype(np.float32)
    for where, color in ((hit, (30, 110, 230)), (false, (235, 40, 40)), (missed, (250, 220, 40))):
        out[where] = 0.45 * out[where] + 0.55 * np.array(color, np.float32)
    return out.astype(np.uint8)


def panel(
    image_CHW: NDArray[np.float32],
    labels_HW: NDArray[np.uint8],
    predicted_HW: NDArray[np.integer],
    caption: str = "",
    palette: NDArray[np.uint8] = PALETTE,
) -> NDArray[np.uint8]:
    """uint8 RGB: image, label, prediction and overlay in a row, with the foreground IoU written above; of more than two
    classes also the share of labelled pixels that have the right one.
    """
    picture = stretch(image_CHW)
    valid = labels_HW != IGNORE
    both = (valid & (labels_HW > 0) & (predicted_HW > 0)).sum()
    either = (valid & ((labels_HW > 0) | (predicted_HW > 0))).sum()
    score = f"IoU {both / either:.3f}" if either else "no foreground"
    if valid.any() and max(labels_HW[valid].max(), predicted_HW[valid].max()) > 1:
        score += f"  right {(labels_HW == predicted_HW)[valid].mean():.0%}"
    cells = [
        picture,
        colors(labels_HW, palette),
        colors(predicted_HW, palette),
        overlay(picture, labels_HW, predicted_HW),
    ]
    titles = [caption, "label", "prediction", f"overlay  {score}"]
    return side_by_side(cells, titles)


def side_by_side(cells: Sequence[NDArray[np.uint8]], titles: Sequence[str]) -> NDArray[np.uint8]:
    """uint8 RGB: pictures of one height in a row, each with a title above."""
    return np.concatenate([_titled(cell, title) for cell, title in zip(cells, titles, strict=True)], axis=1)


def _titled(cell_HWC: NDArray[np.uint8], title: str) -> NDArray[np.uint8]:
    height, width = cell_HWC.shape[:2]
    out = np.full((height + CAPTION, width + GAP, 3), 255, np.uint8)
    out[CAPTION:, :width] = cell_HWC
    text = title if len(title) * 7 <= width else "..." + title[-(width // 7 - 3) :]
    cv2.putText(out, text, (2, CAPTION - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
    return out


def stacked(rows: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Panels below each other; narrower ones are filled with white."""
    width = max(row.shape[1] for row in rows)
    return np.concatenate([np.pad(r, ((0, GAP), (0, width - r.shape[1]), (0, 0)), constant_values=255) for r in rows])


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
