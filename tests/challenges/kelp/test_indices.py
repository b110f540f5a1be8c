"""The 59 indices by the names of the second place: each against spyndex or against its formula written in NumPy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import spyndex
import torch

from swath.challenges.kelp.indices import BEST_INDICES, KELP_INDICES, KelpIndices
from swath.data.indices.catalogue import INDICES

BANDS = ("SWIR", "NIR", "R", "G", "B", "QA", "DEM")
Arrays = dict[str, np.ndarray]

IN_SPYNDEX = {
    **{
        name: name
        for name in (
            "NDVI", "BWDRVI", "CVI", "WDRVI", "NormR", "NormNIR", "NormG", "NLI", "MSAVI", "GBNDVI", "GRNDVI", "GNDVI", "EVI",
        )
    },
    "NDWI": "GNDVI", "ClGreen": "CIG", "VARIGreen": "VARI", "SRSWIRNIR": "DSI", "SRNIRSWIR": "DSWI1", "MVI": "DSWI1", "SRNIRR": "SR",
    "SRNIRG": "SR2", "SRGR": "DSWI4", "MSRNirRed": "MSR", "EVI22": "EVI2", "NDAVI": "BNDVI", "TNDVI": "TVI",
}  # fmt: skip
"""Name there to the name in spyndex of the same formula."""

Formula = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]
BY_HAND: dict[str, Formula] = {
    "ATSAVI": lambda s, n, r, g, b, d: 1.22 * (n - 1.22 * r - 0.03) / (1.22 * n + r - 0.0366 + 0.08 * (1 + 1.4884)),
    "AFRI1600": lambda s, n, r, g, b, d: n - 0.66 * s / (n + 0.66 * s),
    "AVI": lambda s, n, r, g, b, d: n + n - r,
    "ARVI": lambda s, n, r, g, b, d: (n - r) / (n + r) * 1.17 - 0.18,
    "TVI": lambda s, n, r, g, b, d: np.sqrt((r - g) / (r + g) + 0.5),
    "MCARI": lambda s, n, r, g, b, d: (0.8 * n - r + 0.2 * g) * n / r,
    "IPVI": lambda s, n, r, g, b, d: 0.5 * n / (n + r) * (2 - g / r + g),
    "GVMI": lambda s, n, r, g, b, d: (n - s + 0.08) / (n + s + 0.12),
    "GARI": lambda s, n, r, g, b, d: (n - g + b - r) / (n - g - b + r),
    "EVI2": lambda s, n, r, g, b, d: 2.4 * (n - r) / (1 + n + r),
    "GDVI": lambda s, n, r, g, b, d: n - g,
    "PNDVI": lambda s, n, r, g, b, d: (n - r - g - b) / (n + r + g + b),
    "RBNDVI": lambda s, n, r, g, b, d: (n - r - b) / (n + r + b),
    "SQRTNIRR": lambda s, n, r, g, b, d: (n / r) ** 0.5,
    "NDVIWM": lambda s, n, r, g, b, d: np.where(n > r, (n - r) / (n + r), 0),
    "NDWIWM": lambda s, n, r, g, b, d: np.where(n > g, (n - g) / (n + g), 0),
    "DEMWM": lambda s, n, r, g, b, d: np.where(d > 0, d, 0),
    "LogR": lambda s, n, r, g, b, d: np.log(n) - np.log(r),
    "mCRIG": lambda s, n, r, g, b, d: n / b - n / g,
    "H": lambda s, n, r, g, b, d: np.arctan((2 * r - g - b) * (g - b) / 30.5),
    "I": lambda s, n, r, g, b, d: (r + g + b) / 30.5,
    "DVIMSS": lambda s, n, r, g, b, d: 2.4 * n - r,
    "CI": lambda s, n, r, g, b, d: 1 - b / r,
    "CHLA": lambda s, n, r, g, b, d: 4.23 * (g / b) ** 3.94,
    "CYA": lambda s, n, r, g, b, d: (g * r / b / 65535) ** 2.38,
    "TURB": lambda s, n, r, g, b, d: 8.93 * g / b - 6.39,
    "CDOM": lambda s, n, r, g, b, d: 537 * np.exp(-2.93 * g / r),
    "DOC": lambda s, n, r, g, b, d: 432 * np.exp(-2.24 * g / r),
    "WATERCOLOR": lambda s, n, r, g, b, d: 25366 * np.exp(-4.53 * g / r),
    "SABI": lambda s, n, r, g, b, d: (n - r) / (g + b),
    "KIVU": lambda s, n, r, g, b, d: b / g - r / g,
    "Kab1": lambda s, n, r, g, b, d: 1.67 + 3.78 * np.log(g) - 3.94 * np.log(b),
    "WAVI": lambda s, n, r, g, b, d: 1.5 * (n - b) / (0.5 + n + b),
}  # fmt: skip


def scene(low: float, high: float, seed: int) -> torch.Tensor:
    """float32 (1, 7, 16, 20): optical bands between `low` and `high`, QA 0, DEM from -10 to 10."""
    image = torch.rand(1, 7, 16, 20, generator=torch.Generator().manual_seed(seed)) * (high - low) + low
    image[:, 5] = 0
    image[:, 6] = torch.linspace(-10, 10, 320).reshape(1, 16, 20)
    return image


def in_double(image: torch.Tensor) -> list[np.ndarray]:
    """SWIR, NIR, R, G, B, DEM."""
    return [image[0, position].double().numpy() for position in (0, 1, 2, 3, 4, 6)]


def test_c44_all_59_are_there_and_each_is_checked_below() -> None:
    assert len(KELP_INDICES) == 59
    assert set(IN_SPYNDEX) | set(BY_HAND) == set(KELP_INDICES)
    assert not set(IN_SPYNDEX) & set(BY_HAND)
    assert set(BEST_INDICES) <= set(KELP_INDICES)
    assert len(set(BEST_INDICES)) == 17


RANGES = [(0.05, 0.6), (6000.0, 24000.0)]


@pytest.mark.parametrize(("low", "high"), RANGES, ids=["reflectance", "digital numbers"])
@pytest.mark.parametrize("name", sorted(KELP_INDICES))
def test_c44_each_has_the_value_of_its_formula(name: str, low: float, high: float) -> None:
    image = scene(low, high, seed=len(name))
    bands = in_double(image)
    if name in IN_SPYNDEX:
        values = dict(zip(("S1", "N", "R", "G", "B"), bands, strict=False))
        constants = {"alpha": 0.1, "g": 2.5, "C1": 6.0, "C2": 7.5, "L": 1.0}
        with np.errstate(invalid="ignore"):
            expected = spyndex.computeIndex(IN_SPYNDEX[name], {**values, **constants})
    else:
        with np.errstate(invalid="ignore"):
            expected = BY_HAND[name](*bands)
    if name == "EVI":
        expected = np.clip(expected, -20000, 20000)
    found = KelpIndices(BANDS, (name,), bands=())(image)[0, 0].double().numpy()
    assert np.array_equal(np.isnan(found), np.isnan(expected))
    # float32 loses digits where large terms cancel: compared with the size of the values, and by median pixel by pixel
    error = np.abs(found - expected)
    assert np.nanmedian(error / (np.abs(expected) + 1e-12)) < 1e-4
    assert np.nanquantile(error, 0.95) < 1e-3 * np.nanmax(np.abs(expected))


@pytest.mark.parametrize(
    "name", ["ATSAVI", "AFRI1600", "AVI", "ARVI", "MVI", "IPVI", "GVMI", "GARI", "EVI2", "GDVI", "TVI", "NDWI"]
)
def test_c44_names_that_mean_something_else_in_spyndex_differ_from_it(name: str) -> None:
    image = scene(0.05, 0.6, seed=3)
    values = dict(zip(("S1", "N", "R", "G", "B"), in_double(image), strict=False))
    constants = {"g": 2.5, "gamma": 1.0, "L": 1.0, "sla": 1.0, "slb": 0.0, "nexp": 2.0, "S2": values["S1"] / 2}
    with np.errstate(invalid="ignore"):
        theirs = spyndex.computeIndex(name, {**values, **constants})
    found = KelpIndices(BANDS, (name,), bands=())(image)[0, 0].numpy()
    assert np.nanmedian(np.abs(found - theirs)) > 1e-3


def test_c44_ndwi_has_the_opposite_sign_of_the_general_one() -> None:
    assert KELP_INDICES["NDWI"].formula == INDICES["GNDVI"].formula
    image = scene(0.05, 0.6, seed=4)
    opposite = -KelpIndices(BANDS, ("X",), bands=(), formulas={"X": INDICES["NDWI"].formula})(image)
    torch.testing.assert_close(KelpIndices(BANDS, ("NDWI",), bands=())(image), opposite)


def test_c44_evi_is_clipped() -> None:
    image = scene(0.05, 0.6, seed=5)
    image[0, 1:5, 0, 0] = torch.tensor([0.5, 0.0, 0.1, 0.2 + 2e-8])  # a divisor of nearly 0
    found = KelpIndices(BANDS, ("EVI",), bands=())(image)[0, 0]
    assert found[~found.isnan()].abs().max() <= 20000


def test_c44_the_best_set_masks_land_clouds_and_unknown_elevation() -> None:
    image = scene(6000.0, 24000.0, seed=6)
    image[0, 5, :4] = 1
    image[0, 6, :, :5] = -32768.0
    made = KelpIndices(BANDS, BEST_INDICES, quality="QA", elevation="DEM", missing=(-32768.0,))
    found = made(image)
    assert found.shape[1] == 24
    kept = (image[0, 5] == 0) & (image[0, 6] <= 0) & (image[0, 6] > -32768)
    for position in range(8, 24):
        assert torch.equal(~found[0, position].isnan(), kept), made.names[position]
    height = found[0, made.names.index("DEMWM")]
    assert torch.equal(height.isnan(), image[0, 6] == -32768)
    assert torch.equal(height[:, 5:], image[0, 6, :, 5:].clamp(min=0))


def test_c44_all_zero_tiles_give_no_infinity() -> None:
    found = KelpIndices(BANDS, tuple(KELP_INDICES), bands=())(torch.zeros(1, 7, 3, 4))
    assert not found.isinf().any()
    assert found[0, tuple(KELP_INDICES).index("CDOM")].isnan().all()
