"""A condition that pixels of a raster's band fulfil or not, such as an elevation above the sea."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from swath.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Where:
    """Pixels whose value in a band is larger than `above` and at most `at_most`.

    Never those without a measurement in the band. Where("DEM" above 1) is written as Where(band="DEM", above=1.0), a
    flag that is 1 as Where(band="QA", above=0.5).
    """

    band: str
    """Name of the band."""
    above: float | None = None
    """What values have to be larger than; None: no lower limit."""
    at_most: float | None = None
    """The largest value; None: no upper limit."""

    def __post_init__(self) -> None:
        limits = [limit for limit in (self.above, self.at_most) if limit is not None]
        in_order = None in (self.above, self.at_most) or limits == sorted(set(limits))
        if not limits or not all(math.isfinite(limit) for limit in limits) or not in_order:
            raise ConfigError(
                f"Where(band={self.band!r}): above={self.above}, at_most={self.at_most}: give one finite limit, or two of "
                "which above is the smaller one, such as above=0.0"
            )

    def holds(self, values: NDArray[np.float32]) -> NDArray[np.bool_]:
        """bool of the shape of `values`, the band's pixels with NaN where there is no measurement."""
        found = np.isfinite(values)
        if self.above is not None:
            found &= values > self.above
        if self.at_most is not None:
            found &= values <= self.at_most
        return found
