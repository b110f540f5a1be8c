"""How far labels, or a reference such as elevation, lie off the image: what both show is compared at every shift.

Formulas say what is compared, such as where the land begins by elevation and by the infrared, or where labels end and
where an index changes. The lengths of gradients (``edges``) have no sign, so that it does not matter which of both is
bright where the other one is dark.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from swath.config import configclass
from swath.config.ranges import Amount, PositiveCount, Share
from swath.data.indices.band_formulas import BandFormula, band_formula
from swath.errors import ConfigError
from swath.geo.grid import Window
from swath.geo.raster import RasterReader
from swath.geo.registration import BORDER, Shift, ShiftSums, best_shift, edges, shift_sums
from swath.geo.windows import ConstantSize, windows
from swath.interrupt import check_stop
from swath.labels import IGNORE

SHIFT = "shift"
"""Kind of a fault."""
LABEL = "label"
"""Name of the labels in formulas: the number of the class, nothing where there is no label."""
BLOCK = ConstantSize(size=1024, min_overlap=0)
"""Windows of which the sums are added up: 12 transforms of one take 0.2 GB."""

Bands = Mapping[str, NDArray[np.float32]]


@configclass
class ShiftPair:
    """Two formulas over the bands of a scene whose values change at the same places."""

    reference: str
    """What may lie off the image, such as elevation (clip(DEM, 0, 5)) or the labels (label)."""
    image: str
    """What shows the same in the image, such as NDVI, or clip(SWIR, 7500, 11000)."""
    features: Literal["edges", "values"] = "edges"
    """Whether to compare lengths of gradients, without their sign, or the values themselves."""


@configclass
class ShiftSearch:
    """What is compared at which shifts, and from when on a shift is believed."""

    pairs: dict[str, ShiftPair]
    """Name of a comparison to its formulas; of several the clearest one says what the shift of a scene is."""
    flagged: str | None = None
    """Formula that is not 0 where the image shows no ground, such as a band of clouds; None: everywhere it does."""
    largest: PositiveCount = 20
    """Shifts are looked for up to so many pixels along rows and columns."""
    smallest: Amount = 2.0
    """Pixels from which on a shift is a fault: labels are drawn no better than that."""
    least_strength: Share = 0.1
    """Correlation that the shift has to have."""
    least_gain: Share = 0.05
    """By how much its correlation has to be above that without a shift."""
    least_clearness: Amount = 2.0
    """By how many standard deviations it has to stand out from other shifts."""

    def believes(self, shift: Shift) -> bool:
        """Whether a shift is a fault."""
        return (
            shift.distance >= self.smallest
            and shift.strength >= self.least_strength
            and shift.strength - shift.unshifted >= self.least_gain
            and shift.clearness >= self.least_clearness
        )


class SceneBands:
    """Windows of a scene's bands and labels, by the names that formulas have for them.

    Raises ConfigError for a band that is called as the labels are.
    """

    def __init__(self, image: RasterReader, labels: RasterReader | None, task: int) -> None:
        self.image, self.labels, self.task = image, labels, task
        if LABEL in image.info.bands:
            raise ConfigError(
                f"{image.path}: a band is called {LABEL!r}, as formulas call the labels. Give it another name in the "
                "column `bands` of scenes.parquet."
            )

    @property
    def names(self) -> tuple[str, ...]:
        """What formulas may name."""
        return (*self.image.info.bands, LABEL)

    def read(self, names: Sequence[str], window: Window) -> dict[str, NDArray[np.float32]]:
        """float32 (height, width) of each name, NaN where there is no measurement or label."""
        bands = [name for name in names if name != LABEL]
        numbers = [self.image.info.bands.index(band) + 1 for band in bands]
        found = dict(zip(bands, self.image.image(window, numbers), strict=True)) if bands else {}
        if LABEL in names:
            assert self.labels is not None
            classes_HW = self.labels.labels(window, [self.task + 1])[0]
            found[LABEL] = np.where(classes_HW == IGNORE, np.nan, classes_HW).astype(np.float32)
        return found


def shifts_of_scene(search: ShiftSearch, scene: SceneBands) -> dict[str, Shift]:
    """The best shift by each comparison; without those that need labels where there are none, or that show no edges."""
    found = {}
    for name, pair in search.pairs.items():
        reference, image = (band_formula(text, scene.names) for text in (pair.reference, pair.image))
        flagged = band_formula(search.flagged, scene.names) if search.flagged else None
        if scene.labels is None and LABEL in (*reference.bands, *image.bands):
            continue
        sums = _sums(_Features(reference, None, pair.features), _Features(image, flagged, pair.features), search, scene)
        shift = best_shift(sums.correlation())
        if shift is not None:
            found[name] = shift
    return found


class _Features:
    """One side of a comparison."""

    def __init__(self, formula: BandFormula, flagged: BandFormula | None, kind: str) -> None:
        self.formula, self.flagged, self.kind = formula, flagged, kind
        self.bands = tuple(dict.fromkeys((*formula.bands, *(flagged.bands if flagged else ()))))

    def at(self, window: Window, scene: SceneBands) -> NDArray[np.floating]:
        """(height, width) of a window, which may reach over the scene's edge; NaN where nothing is known."""
        border = BORDER if self.kind == "edges" else 0
        bands = scene.read(self.bands, grown(window, border))
        values_HW = self.formula.values(bands)
        if self.flagged is not None:
            values_HW = np.where(self.flagged.values(bands) == 0, values_HW, np.float32(np.nan))
        return edges(values_HW) if border else values_HW


def reference_outlined(pair: ShiftPair, scene: SceneBands, window: Window) -> NDArray[np.bool_]:
    """bool (height, width): where a reference lies above the middle of its values, for a picture of its outline."""
    values_HW = _Features(band_formula(pair.reference, scene.names), None, "values").at(window, scene)
    known = values_HW[np.isfinite(values_HW)]
    if not known.size:
        return np.zeros(window.shape, bool)
    middle = (float(known.min()) + float(known.max())) / 2
    return np.asarray(values_HW > middle, bool)


def _sums(reference: _Features, image: _Features, search: ShiftSearch, scene: SceneBands) -> ShiftSums:
    """The sums over the whole scene, window by window."""
    total: ShiftSums | None = None
    for _, core in windows(scene.image.info.grid.shape, BLOCK):
        check_stop()
        around = grown(core, search.largest)
        found = shift_sums(reference.at(around, scene), image.at(core, scene), search.largest)
        total = found if total is None else total.plus(found)
    return cast(ShiftSums, total)


def grown(window: Window, border: int) -> Window:
    """A window with so many pixels more on each side."""
    return Window(window.row - border, window.col - border, window.height + 2 * border, window.width + 2 * border)


def clearest(search: ShiftSearch, shifts: Mapping[str, Shift]) -> str | None:
    """Name of the comparison to believe: of those that find a fault the clearest, None where none does."""
    sure = {name: shift for name, shift in shifts.items() if search.believes(shift)}
    return max(sure, key=lambda name: sure[name].clearness) if sure else None
