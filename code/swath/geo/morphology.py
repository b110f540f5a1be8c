"""Clean-up of class rasters: small objects, holes, opening, closing, masking. Arrays in, new arrays out.

All take uint8 (height, width) classes in which 255 = nodata. Nodata stays nodata and is never filled, and nothing is
known of what it hides: a gap in a region that touches it is no hole, and it neither erodes nor dilates its neighbours.

Each works on one class, `target`, against the rest, and on whole rasters: whether two pixels belong to one object can
depend on any pixel between them. OpenCV does 100 million pixels in two seconds and 0.8 GB, half of it for the
labels. `rasterio.features.sieve` cannot tell objects from holes, and gives either to the largest neighbour, nodata too.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from swath.labels import IGNORE

Connectivity = Literal[4, 8]
Classes = NDArray[np.uint8]
Mask = NDArray[np.bool_]


def remove_objects(classes_HW: Classes, target: int, min_area: float, connectivity: Connectivity = 4) -> Classes:
    """Objects of `target` with less than `min_area` pixels become class 0.

    An object is a set of pixels connected by sides (4, as polygonise has it), or by sides and corners (8).
    """
    labels, areas = _components(classes_HW == target, connectivity)
    small = areas < min_area
    small[0] = False  # everything that is not the target
    return np.where(small[labels], 0, classes_HW).astype(np.uint8, copy=False)


def fill_holes(classes_HW: Classes, target: int, max_area: float, connectivity: Connectivity = 4) -> Classes:
    """Holes of at most `max_area` pixels become `target`: class 0 that `target` alone encloses.

    What touches the raster's edge, nodata or another class is no hole. Where objects are connected by sides only,
    holes are connected by corners, too, and the other way round.
    """
    labels, areas = _components(classes_HW != target, 8 if connectivity == 4 else 4)
    fill = areas <= max_area
    fill[0] = False  # the target itself
    for foreign in (
        labels[0],
        labels[-1],
        labels[:, 0],
        labels[:, -1],
        labels[(classes_HW != 0) & (classes_HW != target)],
    ):
        fill[foreign] = False
    return np.where(fill[labels], target, classes_HW).astype(np.uint8, copy=False)


def _components(mask_HW: Mask, connectivity: Connectivity) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Component number of each pixel (0 outside the mask) and the number of pixels of each component."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask_HW.view(np.uint8), connectivity=connectivity)
    return np.asarray(labels, np.int32), np.asarray(stats[:, cv2.CC_STAT_AREA], np.int32)


# ---------------------------------------------------------------------------------------------------------- morphology


def opened(classes_HW: Classes, target: int, radius: int) -> Classes:
    """Morphological opening of `target` by a disk: what no disk inside it covers becomes class 0."""
    valid = classes_HW != IGNORE
    kept = _dilated(_eroded(classes_HW == target, valid, radius), valid, radius)
    return np.where((classes_HW == target) & ~kept, 0, classes_HW).astype(np.uint8, copy=False)


def closed(classes_HW: Classes, target: int, radius: int) -> Classes:
    """Morphological closing of `target` by a disk: class 0 that no disk outside it covers becomes `target`."""
    valid = classes_HW != IGNORE
    grown = _eroded(_dilated(classes_HW == target, valid, radius), valid, radius)
    return np.where((classes_HW == 0) & grown, target, classes_HW).astype(np.uint8, copy=False)


def disk(radius: int) -> Classes:
    """uint8 (2 r + 1, 2 r + 1): 1 within `radius` of the centre (x^2 + y^2 <= r^2)."""
    x = np.arange(-radius, radius + 1)
    return (x[:, None] ** 2 + x[None] ** 2 <= radius**2).astype(np.uint8)


def _eroded(mask_HW: Mask, valid_HW: Mask, radius: int) -> Mask:
    """Pixels whose disk holds no valid pixel outside the mask; what lies beyond the raster does not count."""
    return cv2.erode((mask_HW | ~valid_HW).view(np.uint8), disk(radius)).view(bool) & valid_HW


def _dilated(mask_HW: Mask, valid_HW: Mask, radius: int) -> Mask:
    return cv2.dilate((mask_HW & valid_HW).view(np.uint8), disk(radius)).view(bool) & valid_HW


# ------------------------------------------------------------------------------------------------------------- masking


def masked(classes_HW: Classes, mask_HW: Mask, value: int) -> Classes:
    """Pixels of the mask become `value` (0 or 255), but for nodata."""
    return np.where(mask_HW & (classes_HW != IGNORE), value, classes_HW).astype(np.uint8, copy=False)
