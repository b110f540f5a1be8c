"""Where a class cannot be, by the scene's own bands: pixels that fulfil a condition, such as an elevation above the sea."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from swath.data.naming import listing
from swath.data.scene_image import SceneImage
from swath.data.tables import read_scenes
from swath.errors import CatalogError, ConfigError, RasterError
from swath.geo.conditions import Where
from swath.geo.grid import Grid, Window
from swath.geo.mosaic import STRIP_PIXELS
from swath.geo.windows import strips


@dataclass(frozen=True, kw_only=True)
class Impossible(Where):
    """Pixels where the class cannot be: a band's value, or its sum over a square, is larger than `above` and at most
    `at_most`.

    A pixel without a measurement in the band stays what it is. Land by elevation: Impossible(band="DEM", above=0.0).
    """

    square: int = 1
    """Side in pixels of the square whose values are summed first, with the pixel in its lower right corner; what is missing
    or outside counts as 0. 2 takes pixels below and right of land, too."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.square < 1:
            raise ConfigError(f"Impossible(band={self.band!r}): square={self.square}: give a side of 1 pixel or more")

    def marked(self, values_HW: NDArray[np.float32]) -> NDArray[np.bool_]:
        """bool (H, W): the pixels, of a band with NaN where there is no measurement."""
        if self.square == 1:
            return self.holds(values_HW)
        height, width = values_HW.shape
        more = self.square - 1
        known = np.pad(np.nan_to_num(values_HW), ((more, 0), (more, 0)))
        total = np.zeros((height, width), np.float32)
        for row in range(self.square):
            for col in range(self.square):
                total += known[row : row + height, col : col + width]
        return self.holds(np.where(np.isfinite(values_HW), total, np.float32(np.nan)))


def scene_images(source: Path, keys: Mapping[str, Any]) -> dict[str, SceneImage]:
    """The scenes of a folder by key, for these `keys`. Raises CatalogError, which lists those without a scene."""
    found = {row["key"]: SceneImage.of(row) for row in read_scenes(source).to_dict("records")}
    lacking = sorted(set(keys) - set(found))
    if lacking:
        raise CatalogError(
            f"scenes_path={source}: no scene for the maps {listing(lacking)}. Name the folder that inference read "
            "(its input_path)."
        )
    return {key: found[key] for key in keys}


def impossible_pixels(scene: SceneImage, grid: Grid, condition: Impossible) -> NDArray[np.bool_]:
    """bool (height, width): where a class cannot be. Raises RasterError for a scene on another grid or without the band."""
    found = np.zeros(grid.shape, bool)
    with scene.reader() as reader:
        difference = reader.info.grid.difference(grid)
        if difference:
            raise RasterError(f"{scene.path}: not on the grid of its map: {difference}. Predict this scene again.")
        number = reader.info.numbers_of([condition.band], "Correct `band` in impossible.")
        for strip in strips(grid.shape, STRIP_PIXELS):
            above = min(strip.row, condition.square - 1)
            wide = Window(strip.row - above, strip.col, strip.height + above, strip.width)
            found[strip.slices] = condition.marked(reader.image(wide, number)[0])[above:]
    return found


def without_class(
    classes_HW: NDArray[np.uint8], target: int, mask_HW: NDArray[np.bool_], value: int
) -> NDArray[np.uint8]:
    """Pixels of class `target` in the mask become `value`; all others stay."""
    return np.where(mask_HW & (classes_HW == target), value, classes_HW).astype(np.uint8, copy=False)
