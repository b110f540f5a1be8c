"""Spectral indices by name: formulas with their sources, those of the package spyndex, and a user's
own.

Formulas use the symbols of the Awesome Spectral Indices (B, G, R, RE1, N, S1, S2 ...); `BAND_NAMES`
says how scenes usually call these bands. Ranges are those for band values from 0 to 1 without gaps
in the definition; infinite where the formula sets no limit.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from swath.config.json_files import Shape, read_json
from swath.data.indices.expression import Expression, Number, parse_formula, symbols_of
from swath.data.indices.program import Array, Program, finite
from swath.errors import ConfigError

BAND_NAMES: Mapping[str, tuple[str, ...]] = {
    "A": ("coastal",),
    "B": ("blue", "BLUE"),
    "G": ("green", "GREEN"),
    "G1": ("green05",),
    "Y": ("yellow",),
    "R": ("red", "RED"),
    "RE1": ("rededge071",),
    "RE2": ("rededge075",),
    "RE3": ("rededge078",),
    "N": ("NIR", "nir"),
    "N2": ("NIR2", "nir08"),
    "S1": ("SWIR1", "SWIR", "swir16"),
    "S2": ("SWIR2", "swir22"),
}
"""Symbols of optical bands and other names under which a scene may have them, in the order in which
they are tried."""


@dataclass(frozen=True)
class SpectralIndex:
    """A formula with a name and a source."""

    name: str
    formula: str
    """Text that `parse_formula` reads."""
    source: str
    """Where the formula is published, or who set it."""
    limits: tuple[float, float] = (-math.inf, math.inf)
    """Lowest and highest value."""
    where: Mapping[str, str] = field(default_factory=dict)
    """What names in the formula stand for, as formulas; each may use those before it."""

    def expression(self, constants: Mapping[str, float] | None = None) -> Expression:
        """The formula as a tree of numbers and bands. `constants` take the place of those in
        `where`.

        Raises ConfigError for a text that is no formula or names no band.
        """
        names: dict[str, Expression] = {}
        for name, value in (constants or {}).items():
            names[name] = Number(float(value))
        for name, text in self.where.items():
            if name not in names:
                names[name] = parse_formula(text, names)
        expression = parse_formula(self.formula, names)
        if not symbols_of(expression):
            raise ConfigError(f"index {self.name}: its formula {self.formula!r} names no band.")
        return expression

    def symbols(self, constants: Mapping[str, float] | None = None) -> tuple[str, ...]:
        """The bands that the formula needs, by symbol."""
        return symbols_of(self.expression(constants))


_WANG = "Wang et al. 2007, https://doi.org/10.1016/S1672-6308(07)60027-4"
_LITTLE = "Sripada et al. 2006, https://doi.org/10.2134/agronj2004.0314"
_GITELSON = "Gitelson 2004, https://doi.org/10.1078/0176-1617-01176"
_APAN = "Apan et al. 2004, https://doi.org/10.1080/01431160310001618031"
_SE2WAQ = "the script Se2WaQ, after https://piahs.copernicus.org/articles/380/73/2018/"
_TOMING = "the script Se2WaQ, after Toming et al. 2016, https://doi.org/10.3390/rs8080640"
_DATABASE = "Index DataBase, https://www.indexdatabase.de"
_WATER = "by published code after https://doi.org/10.1002/eap.1708"
_RATIO = (-1.0, 1.0)
_SHARE = (0.0, 1.0)
_POSITIVE = (0.0, math.inf)
_ANY = (-math.inf, math.inf)

_TABLE: Sequence[tuple[str, str, tuple[float, float], str]] = (
    ("NDVI", "(N - R)/(N + R)", _RATIO, "Rouse et al. 1974, https://ntrs.nasa.gov/citations/19740022614"),
    ("GNDVI", "(N - G)/(N + G)", _RATIO, "Gitelson et al. 1996, https://doi.org/10.1016/S0034-4257(96)00072-7"),
    ("BNDVI", "(N - B)/(N + B)", _RATIO, _WANG),
    ("GBNDVI", "(N - (G + B))/(N + (G + B))", _RATIO, _WANG),
    ("GRNDVI", "(N - (G + R))/(N + (G + R))", _RATIO, _WANG),
    ("RBNDVI", "(N - (R + B))/(N + (R + B))", _RATIO, f"{_DATABASE}/db/i-single.php?id=187"),
    ("PNDVI", "(N - (R + G + B))/(N + (R + G + B))", _RATIO, f"{_DATABASE}/db/i-single.php?id=188"),
    ("NDWI", "(G - N)/(G + N)", _RATIO, "McFeeters 1996, https://doi.org/10.1080/01431169608948714"),
    ("MNDWI", "(G - S1)/(G + S1)", _RATIO, "Xu 2006, https://doi.org/10.1080/01431160600589179"),
    ("BWDRVI", "(0.1*N - B)/(0.1*N + B)", _RATIO, "https://doi.org/10.2135/cropsci2007.01.0031"),
    ("WDRVI", "(0.1*N - R)/(0.1*N + R)", _RATIO, _GITELSON),
    ("NormR", "R/(N + G + R)", _SHARE, _LITTLE),
    ("NormNIR", "N/(N + G + R)", _SHARE, _LITTLE),
    ("NormG", "G/(N + G + R)", _SHARE, _LITTLE),
    ("IPVI", "N/(N + R)", _SHARE, "Crippen 1990, https://doi.org/10.1016/0034-4257(90)90085-Z"),
    ("TVI", "sqrt((N - R)/(N + R) + 0.5)", (0.0, math.sqrt(1.5)), "Rouse et al. 1974, https://ntrs.nasa.gov/citations/19740022614"),
    ("NLI", "(N**2 - R)/(N**2 + R)", _RATIO, "Goel and Qin 1994, https://doi.org/10.1080/02757259409532252"),
    (
        "MSAVI", "4*(N - R)/(2*N + 1 + sqrt((2*N + 1)**2 - 8*(N - R)))", _RATIO,
        "Qi et al. 1994, https://doi.org/10.1016/0034-4257(94)90134-1",
    ),
    (
        "EVI", "2.5*(N - R)/(N + 6*R - 7.5*B + 1)", _ANY,
        "Huete et al. 1997, https://doi.org/10.1016/S0034-4257(96)00112-5",
    ),
    ("EVI2", "2.5*(N - R)/(N + 2.4*R + 1)", _ANY, "Jiang et al. 2008, https://doi.org/10.1016/j.rse.2008.06.006"),
    ("MSR", "(N/R - 1)/sqrt(N/R + 1)", _ANY, "Chen 1996, https://doi.org/10.1080/07038992.1996.10855178"),
    ("WAVI", "1.5*(N - B)/(N + B + 0.5)", _RATIO, "Villa et al. 2014, https://doi.org/10.1016/j.jag.2014.01.017"),
    ("SABI", "(N - R)/(G + B)", _ANY, "Alawadi 2010, https://doi.org/10.1117/12.862096"),
    ("CVI", "N*R/G**2", _POSITIVE, "Vincini et al. 2008, https://doi.org/10.1007/s11119-010-9204-3"),
    ("CIG", "N/G - 1", (-1.0, math.inf), "Gitelson et al. 2003, https://doi.org/10.1078/0176-1617-00887"),
    ("VARI", "(G - R)/(G + R - B)", _ANY, "Gitelson et al. 2002, https://doi.org/10.1016/S0034-4257(01)00289-9"),
    ("SR", "N/R", _POSITIVE, "Jordan 1969, https://doi.org/10.2307/1936256"),
    ("GRVI", "N/G", _POSITIVE, _LITTLE),
    ("DSWI4", "G/R", _POSITIVE, _APAN),
    ("DSWI1", "N/S1", _POSITIVE, _APAN),
    ("MSI", "S1/N", _POSITIVE, "Hunt and Rock 1989, https://doi.org/10.1016/0034-4257(89)90046-1"),
    ("SQRTNIRR", "sqrt(N/R)", _POSITIVE, _DATABASE),
    ("LogR", "log(N/R)", _ANY, _DATABASE),
    ("mCRIG", "(1/B - 1/G)*N", _ANY, f"Gitelson et al. 2006, https://doi.org/10.1029/2006GL026457; name of {_DATABASE}"),
    ("DVIMSS", "2.4*N - R", (-1.0, 2.4), _DATABASE),
    ("CI", "(R - B)/R", (-math.inf, 1.0), _DATABASE),
    ("H", "arctan((2*R - G - B)/30.5*(G - B))", (-math.pi / 2, math.pi / 2), f"{_DATABASE}/db/i-single.php?id=34"),
    ("I", "(R + G + B)/30.5", (0.0, 3 / 30.5), _DATABASE),
    ("TURB", "8.93*(G/B) - 6.39", (-6.39, math.inf), f"{_SE2WAQ}, with blue in place of its coastal band"),
    ("CDOM", "537*exp(-2.93*G/R)", (0.0, 537.0), _TOMING),
    ("DOC", "432*exp(-2.24*G/R)", (0.0, 432.0), _TOMING),
    ("WATERCOLOR", "25366*exp(-4.53*G/R)", (0.0, 25366.0), _TOMING),
    ("KIVU", "(B - R)/G", _ANY, f"Kneubuhler et al. 2007, Envisat Symposium, {_WATER}"),
    ("Kab1", "1.67 - 3.94*log(B) + 3.78*log(G)", _ANY, f"Kabbara's first, {_WATER}"),
)  # fmt: skip

INDICES: Mapping[str, SpectralIndex] = {
    name: SpectralIndex(name, formula, source, limits) for name, formula, limits, source in _TABLE
}
"""Indices that need no package; a name that spyndex has, too, means the same there.

MSAVI is its published root multiplied by its conjugate: the difference of two nearly equal numbers
is avoided.
"""

_KERNELS: Mapping[str, str] = {
    "kNN": "1",
    "kGG": "1",
    "kNR": "exp(-(N - R)**2/(2*sigma**2))",
    "kNB": "exp(-(N - B)**2/(2*sigma**2))",
    "kNL": "exp(-(N - L)**2/(2*sigma**2))",
    "kGR": "exp(-(G - R)**2/(2*sigma**2))",
    "kGB": "exp(-(G - B)**2/(2*sigma**2))",
}
"""The radial basis function of Camps-Valls et al. 2021 (https://doi.org/10.1126/sciadv.abc7447), of
which the formulas of spyndex only give the name; its length scale is the constant sigma."""


@cache
def spyndex_indices() -> dict[str, SpectralIndex]:
    """The indices that the installed spyndex lists, by name; empty without it.

    Its lists are read as data; the package is not imported. An index has its constants, where they
    have a default.
    """
    package = find_spec("spyndex")
    if package is None or package.origin is None:
        return {}
    folder = Path(package.origin).parent / "data"
    remedy = "Install spyndex again."
    listed = read_json(folder / "spectral-indices-dict.json", _Listed, ConfigError, remedy)
    constants = read_json(folder / "constants.json", dict[str, dict[str, Any]], ConfigError, remedy)
    where = {}
    for name, entry in constants.items():
        if entry.get("default") is not None:
            where[name] = str(entry["default"])
    where.update(_KERNELS)
    found = {}
    for name, entry in listed["SpectralIndices"].items():
        source = f"spyndex; {entry['reference']}"
        found[name] = SpectralIndex(name, entry["formula"], source, where=where)
    return found


class _Entry(Shape):
    """What is read of an index in spyndex's list."""

    formula: str
    reference: str


class _Listed(Shape):
    """The file of spyndex's list."""

    SpectralIndices: dict[str, _Entry]


def find_index(
    name: str,
    formulas: Mapping[str, str] | None = None,
    table: Mapping[str, SpectralIndex] | None = None,
) -> SpectralIndex:
    """The index of a name: among a user's `formulas`, in a `table` of indices, in `INDICES`, or in
    spyndex, in this order.

    Raises ConfigError that names the nearest names, and how to get spyndex where it is not
    installed.
    """
    own = {named: SpectralIndex(named, text, "the config's own") for named, text in (formulas or {}).items()}
    known = {**spyndex_indices(), **INDICES, **(table or {}), **own}
    if name in known:
        return known[name]
    raise ConfigError(f"indices: there is no index {name}.{_near(name, tuple(known))}{_remedy()} {_OWN_FORMULA}")


_OWN_FORMULA = "A formula of your own: formulas={'NAME': '(N - R)/(N + R)'}."


def _near(name: str, names: Sequence[str]) -> str:
    same = [known for known in names if known.lower() == name.lower()]
    near = same or difflib.get_close_matches(name, names, n=3)
    return f" Near to it: {', '.join(dict.fromkeys(near))}." if near else ""


def _remedy() -> str:
    if spyndex_indices():
        return ""
    return " The package spyndex, which lists 280 more, is not installed: pip install 'swath[indices]'."


def compute_indices(
    names: Sequence[str],
    bands: Mapping[str, Array],
    formulas: Mapping[str, str] | None = None,
    constants: Mapping[str, float] | None = None,
) -> dict[str, Array]:
    """Indices of arrays, by name, NaN where a band is NaN or the formula is undefined or infinite.

    `bands`: NumPy arrays or torch tensors of one shape and a float type, by symbol, in the units
    that the formulas assume (most: from 0 to 1). Raises ConfigError for an index or a band that
    there is not.
    """
    expressions = []
    for name in names:
        expression = find_index(name, formulas).expression(constants)
        require_bands(name, symbols_of(expression), tuple(bands))
        expressions.append(expression)
    if not names:
        return {}
    with np.errstate(all="ignore"):
        values = {position: finite(found) for position, found in Program(expressions).run(bands)}
    return {name: values[position] for position, name in enumerate(names)}


def require_bands(index: str, symbols: Sequence[str], available: Sequence[str]) -> None:
    """Raise ConfigError that names what an index needs and is not `available`."""
    lacking = [symbol for symbol in symbols if symbol not in available]
    if lacking:
        raise ConfigError(
            f"index {index} needs {', '.join(lacking)}, which is neither a band nor a constant here. "
            f"There are: {', '.join(available)}."
        )
