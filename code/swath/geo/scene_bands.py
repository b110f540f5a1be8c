"""Bands that are made of a whole scene: what a pixel has beyond the scene's median, and how near it is to others.

A `SceneBand` is a rule. `SceneReader` gives its band beside those of the file, by name, for any window: the same values
whatever the window, so that tiles, windows of scenes and maps agree. A median is that of the whole scene, found in two passes
over strips of it; a distance looks beyond the window as far as it counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from swath.errors import ConfigError
from swath.geo.conditions import Where
from swath.geo.grid import Window
from swath.geo.raster import RasterReader, padded
from swath.geo.windows import strips
from swath.geo.zones import Zones

STRIP_PIXELS = 4_000_000

CHUNK = 2048
"""Columns whose distances are computed at once."""

Band = NDArray[np.float32]
"""(height, width) of one band, NaN where there is no measurement."""

BandsOf = Callable[[Window], NDArray[np.float32]]
"""(bands, height, width): those that a rule needs, in its order, of a window."""


@dataclass(frozen=True, kw_only=True)
class FromMedian:
    """A band less its median over the scene's pixels that `over` names: free of what lies on all of a scene, such as haze.

    NaN where the band is, and everywhere in a scene without such a pixel.
    """

    band: str
    """The band."""
    over: Where | None = None
    """Which pixels give the median, such as those of water; None: all."""

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.band, *((self.over.band,) if self.over else ()))

    def counted(self, bands: NDArray[np.float32]) -> NDArray[np.float32]:
        """The values (N,) of a part of the scene that take part in the median."""
        values = bands[0]
        kept = np.isfinite(values)
        if self.over is not None:
            kept &= self.over.holds(bands[1])
        return np.asarray(values[kept], np.float32)

    def of(self, read: BandsOf, window: Window, scene: Window, median: float) -> Band:
        """The band of a window within the scene."""
        return read(window)[0] - np.float32(median)


@dataclass(frozen=True, kw_only=True)
class Closeness:
    """1 / (1 + per_pixel x d), d = distance in pixels to the middle of the nearest pixel that `to` names; 1 on these, and 0
    beyond `reach` and where there is none.

    Each pixel has a value, but those of which the scene measures nothing in any band. Memory: 50 bytes for each pixel of
    windows that are `reach` wider on all sides, at most 2048 + 2 x reach columns at a time.
    """

    to: Where
    """The pixels to which it is close, such as those of land."""
    per_pixel: float = 0.1
    """How fast it falls; at 1 / per_pixel pixels it is a half."""
    reach: int = 500
    """Pixels beyond which nothing is looked for; windows are read with so many more on all sides."""

    def __post_init__(self) -> None:
        if not 0 < self.per_pixel < math.inf or not 1 <= self.reach <= 10_000:
            raise ConfigError(
                f"Closeness: per_pixel={self.per_pixel}, reach={self.reach}: give a number above 0, and 1 to 10000 pixels, "
                "such as per_pixel=0.1 and reach=500"
            )

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.to.band,)

    def of(self, read: BandsOf, window: Window, scene: Window, median: float) -> Band:
        """The band of a window within the scene."""
        parts = []
        for col in range(window.col, window.col + window.width, CHUNK):
            width = min(CHUNK, window.col + window.width - col)
            parts.append(self._part(read, Window(window.row, col, window.height, width), scene))
        return np.concatenate(parts, axis=1)

    def _part(self, read: BandsOf, window: Window, scene: Window) -> Band:
        reach = self.reach
        wide = Window(
            window.row - reach, window.col - reach, window.height + 2 * reach, window.width + 2 * reach
        ).intersect(scene)
        near = self.to.holds(read(wide)[0])
        if not near.any():
            return np.zeros(window.shape, np.float32)
        rows, cols = window.relative_to(wide).slices
        distance = distance_transform_edt(~near)[rows, cols]
        closeness = 1 / (1 + self.per_pixel * distance)
        return np.where(distance <= reach, closeness, 0).astype(np.float32)


SceneBand = FromMedian | Closeness
"""A rule that makes a band of a whole scene."""

SceneBands = Mapping[str, SceneBand]
"""Rules by the names of the bands that they make."""


class SceneReader(RasterReader):
    """A raster with bands of `rules` behind its own. A band that the raster has under the same name is the raster's: tiles
    that were cut with scene bands hold those of their scene.

    `medians` by band, as `find_medians` finds them; without them, and before `find_medians` was called, bands that have a
    median cannot be read.
    """

    def __init__(
        self, path: Path, missing: Sequence[float] = (), bands: Sequence[str] | None = None, rules: SceneBands | None = None,
        medians: Mapping[str, float] | None = None,
    ) -> None:  # fmt: skip
        """Raises RasterError, besides for what a `RasterReader` does, when a rule needs a band that there is not."""
        super().__init__(path, missing, bands)
        self.own = len(self.info.bands)
        """Number of bands that the file has."""
        self.rules = {name: rule for name, rule in (rules or {}).items() if name not in self.info.bands}
        remedy = "scene_bands are made of bands that the scene has: correct their names."
        self._needed = {name: self.info.numbers_of(rule.needs, remedy) for name, rule in self.rules.items()}
        self.medians = dict(medians or {})
        more = len(self.rules)
        self.info = replace(
            self.info, bands=(*self.info.bands, *self.rules), nodatas=(*self.info.nodatas, *[self.info.nodata] * more),
            scales=(*self.info.scales, *[1.0] * more), offsets=(*self.info.offsets, *[0.0] * more),
        )  # fmt: skip

    @property
    def measured_bands(self) -> tuple[str, ...]:
        """Names of the bands that the file has."""
        return self.info.bands[: self.own]

    def measured(self, window: Window) -> NDArray[np.float32]:
        """The bands that the file has, of a window."""
        return super().image(window, list(range(1, self.own + 1)))

    def find_medians(self, zones: Zones | None = None) -> dict[str, float]:
        """Medians of the whole scene by band, NaN where no pixel counts, but those that are known; pixels in `zones` have no
        measurement."""
        for name, rule in self.rules.items():
            if isinstance(rule, FromMedian) and name not in self.medians:
                self.medians[name] = median_of(partial(self._counted, name, rule, zones))
        return self.medians

    def _counted(self, name: str, rule: FromMedian, zones: Zones | None) -> Iterator[Band]:
        for strip in strips(self.info.grid.shape, STRIP_PIXELS):
            bands = super().image(strip, self._needed[name])
            yield rule.counted(zones.hide(bands, strip, np.nan) if zones else bands)

    def image(self, window: Window | None = None, bands: Sequence[int] | None = None) -> NDArray[np.float32]:
        """As `RasterReader.image`, with the bands of rules behind those of the file, NaN outside the raster."""
        numbers = self._numbers(bands)
        if all(number <= self.own for number in numbers):
            return super().image(window, numbers)
        window, scene = window or self.info.grid.window, self.info.grid.window
        inside = window.intersect(scene)
        if inside.is_empty:
            return np.full((len(numbers), *window.shape), np.nan, np.float32)
        stored = self.measured(inside)
        nothing = np.isnan(stored).all(axis=0)
        names, found = list(self.rules), []
        for number in numbers:
            if number <= self.own:
                found.append(stored[number - 1])
            else:
                made = self._made(names[number - self.own - 1], inside, scene)
                found.append(np.where(nothing, np.float32(np.nan), made))
        return padded(np.stack(found), inside, window, np.nan)

    def _made(self, name: str, window: Window, scene: Window) -> Band:
        rule = self.rules[name]
        read = partial(super().image, bands=self._needed[name])
        median = self.medians[name] if isinstance(rule, FromMedian) else math.nan
        return rule.of(read, window, scene, median)


def median_of(parts: Callable[[], Iterator[NDArray[np.float32]]]) -> float:
    """The median of the finite numbers of all parts, as numpy.median has it, in memory that does not grow with them; NaN
    without any. `parts` is called twice.

    Numbers are counted by the upper half of their bits, in the order of their values, and those of the two buckets that hold
    the middle then by the lower half.
    """
    upper = np.zeros(1 << 16, np.int64)
    for values in parts():
        upper += np.bincount(_ordered(values) >> 16, minlength=1 << 16)
    count = int(upper.sum())
    if not count:
        return math.nan
    ranks = ((count - 1) // 2, count // 2)
    before = np.concatenate([[0], upper.cumsum()])
    buckets = [int(np.searchsorted(before, rank, side="right")) - 1 for rank in ranks]
    lower = {bucket: np.zeros(1 << 16, np.int64) for bucket in buckets}
    for values in parts():
        keys = _ordered(values)
        for bucket, counts in lower.items():
            counts += np.bincount(keys[keys >> 16 == bucket] & 0xFFFF, minlength=1 << 16)
    middle = []
    for rank, bucket in zip(ranks, buckets, strict=True):
        at = int(np.searchsorted(lower[bucket].cumsum(), rank - int(before[bucket]), side="right"))
        middle.append(_number((bucket << 16) + at))
    return float(np.float32((middle[0] + middle[1]) / 2))


def _ordered(values: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Integers in the order of finite float32 numbers."""
    bits = (values.ravel() + np.float32(0)).view(np.uint32)  # one zero
    return np.where(bits >> 31 == 1, ~bits, bits | np.uint32(1 << 31))


def _number(key: int) -> float:
    """The inverse of `_ordered`."""
    bits = key ^ (1 << 31) if key >> 31 else key ^ 0xFFFFFFFF
    return float(np.array(bits, np.uint32).view(np.float32))
