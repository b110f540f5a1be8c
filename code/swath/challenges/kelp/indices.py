"""The 59 indices of the second place of Kelp Wanted, by the names of its code
(xultaeculcis/kelp-wanted-competition).

A dozen of these names mean another formula elsewhere, others have another name in general use, and
MVI is the same as SRNIRSWIR: `KELP_INDICES` gives each name the formula that it has there. That
system adds 1e-10 to divisors; here a formula without a value is missing instead. It feeds digital
numbers (``scale="as_is"``), in which constants such as the 1 in EVI2 hardly count. Bands: S1
(SWIR), N (NIR), R, G, B, DEM.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from swath.data.indices.catalogue import INDICES, SpectralIndex
from swath.nn.preprocess.optical import Indices

SOURCE = "formula of the code of Kelp Wanted's runner-up, xultaeculcis/kelp-wanted-competition"
"""Of formulas that no publication has in this form: their names mean others elsewhere, or its code changes constants."""

SAME = (
    "NDVI", "BWDRVI", "CVI", "WDRVI", "NormR", "NormNIR", "NormG", "NLI", "MSAVI", "GBNDVI", "GRNDVI", "GNDVI",
    "PNDVI", "RBNDVI", "SQRTNIRR", "LogR", "mCRIG", "H", "I", "DVIMSS", "CI", "TURB", "CDOM", "DOC", "WATERCOLOR",
    "SABI", "KIVU", "Kab1", "WAVI",
)  # fmt: skip
"""Names that mean what they mean in general use."""

OTHER_NAMES: Mapping[str, str] = {
    "NDWI": "GNDVI",
    "ClGreen": "CIG",
    "VARIGreen": "VARI",
    "SRSWIRNIR": "MSI",
    "SRNIRSWIR": "DSWI1",
    "MVI": "DSWI1",
    "SRNIRR": "SR",
    "SRNIRG": "GRVI",
    "SRGR": "DSWI4",
    "MSRNirRed": "MSR",
    "EVI22": "EVI2",
    "NDAVI": "BNDVI",
    "TNDVI": "TVI",
}
"""Names here to the names in general use; NDWI has the opposite sign of the one in general use."""

_ANY = (-math.inf, math.inf)
_POSITIVE = (0.0, math.inf)

_VARIANTS: Mapping[str, tuple[str, tuple[float, float]]] = {
    "ATSAVI": ("1.22*(N - 1.22*R - 0.03)/(1.22*N + R - 1.22*0.03 + 0.08*(1 + 1.22**2))", _ANY),
    "AFRI1600": ("N - 0.66*(S1/(N + 0.66*S1))", (-1.0, 1.0)),
    "AVI": ("2*N - R", (-1.0, 2.0)),
    "ARVI": ("-0.18 + 1.17*((N - R)/(N + R))", (-1.35, 0.99)),
    "TVI": ("sqrt((R - G)/(R + G) + 0.5)", (0.0, math.sqrt(1.5))),
    "MCARI": ("((N - R) - 0.2*(N - G))*(N/R)", _ANY),
    "IPVI": ("(N/(N + R)/2)*((R - G)/R + G + 1)", _ANY),
    "GVMI": ("((N + 0.1) - (S1 + 0.02))/((N + 0.1) + (S1 + 0.02))", (-1.0, 1.0)),
    "GARI": ("(N - (G - (B - R)))/(N - (G + (B - R)))", _ANY),
    "EVI": ("clip(2.5*(N - R)/(N + 6*R - 7.5*B + 1), -20000, 20000)", (-20000.0, 20000.0)),
    "EVI2": ("2.4*(N - R)/(N + R + 1)", (-1.2, 1.2)),
    "GDVI": ("N - G", (-1.0, 1.0)),
    "NDVIWM": ("max((N - R)/(N + R), 0)", (0.0, 1.0)),
    "NDWIWM": ("max((N - G)/(N + G), 0)", (0.0, 1.0)),
    "DEMWM": ("max(DEM, 0)", _POSITIVE),
    "CHLA": ("4.23*((G/65535)/(B/65535))**3.94", _POSITIVE),
    "CYA": ("((G/65535)*(R/65535)/(B/65535))**2.38", _POSITIVE),
}
"""Formulas that only this system has, with their limits for bands from 0 to 1. CHLA and CYA expect
16-bit numbers."""


def _indices() -> dict[str, SpectralIndex]:
    found = {name: INDICES[name] for name in SAME}
    for name, elsewhere in OTHER_NAMES.items():
        found[name] = replace(INDICES[elsewhere], name=name)
    for name, (formula, limits) in _VARIANTS.items():
        found[name] = SpectralIndex(name, formula, SOURCE, limits)
    return found


KELP_INDICES: Mapping[str, SpectralIndex] = _indices()
"""All 59, by name."""

BEST_INDICES = (
    "DEMWM", "NDVI", "ATSAVI", "AVI", "CI", "ClGreen", "GBNDVI", "GVMI", "IPVI", "KIVU", "MCARI", "MVI", "NormNIR",
    "PNDVI", "SABI", "WDRVI", "mCRIG",
)  # fmt: skip
"""The 17 of its best models, in their order."""


class KelpIndices(Indices):
    """`Indices` whose names are, first of all, those of `KELP_INDICES`.

    As that system feeds it: ``partial(KelpIndices, indices=BEST_INDICES, quality="QA",
    elevation="DEM", missing=(-32768.0,))``.
    """

    table = KELP_INDICES
