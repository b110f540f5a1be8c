"""Indices by name: the built-in ones, spyndex's as the oracle, and a user's own."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import spyndex
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from swath.data.indices import catalogue
from swath.data.indices.catalogue import INDICES, compute_indices, find_index, spyndex_indices
from swath.data.indices.program import Program
from swath.errors import ConfigError
from tests.conftest import child_environment

OPTICAL = tuple(catalogue.BAND_NAMES)
CONSTANTS = {name: constant.default for name, constant in spyndex.constants.items() if constant.default is not None}
KERNEL_PAIRS = {  # the second may be a constant
    "kNN": "NN",
    "kGG": "GG",
    "kNR": "NR",
    "kNB": "NB",
    "kNL": "NL",
    "kGR": "GR",
    "kGB": "GB",
}


def bands(shape: tuple[int, ...] = (7, 9), seed: int = 0) -> dict[str, np.ndarray]:
    """Values from 0.05 to 0.6, float64, by symbol."""
    rng = np.random.default_rng(seed)
    return {name: rng.uniform(0.05, 0.6, shape) for name in (*OPTICAL, "T", "T1", "HH", "HV", "VH", "VV")}


def by_spyndex(name: str, arrays: dict[str, np.ndarray], constants: dict[str, float]) -> np.ndarray:
    values = {**constants, **arrays}
    kernels = {}
    for kernel, (first, second) in KERNEL_PAIRS.items():
        kernels[kernel] = np.exp(-((values[first] - values[second]) ** 2) / (2 * constants["sigma"] ** 2))
    with np.errstate(all="ignore"):
        return spyndex.computeIndex(name, {**values, **kernels})


@pytest.mark.parametrize("name", sorted(spyndex.indices))
def test_c44_every_index_of_spyndex_has_its_value(name: str) -> None:
    waves = {
        "lambdaG": 560.0,
        "lambdaR": 665.0,
        "lambdaN": 842.0,
        "lambdaN2": 865.0,
        "lambdaS1": 1610.0,
        "lambdaS2": 2190.0,
    }
    constants = {**CONSTANTS, **waves, "PAR": 300.0}
    arrays = bands()
    expected = np.asarray(by_spyndex(name, arrays, constants))
    expression = spyndex_indices()[name].expression(constants)
    with np.errstate(all="ignore"):
        ((_, found),) = Program([expression]).run(arrays)
    np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape), rtol=1e-9, atol=1e-12)


SHARED = sorted(set(INDICES) & set(spyndex.indices))


@pytest.mark.parametrize("name", SHARED)
def test_c44_a_name_of_both_means_the_same_in_both(name: str) -> None:
    arrays = bands(seed=1)
    found = compute_indices([name], arrays)[name]
    np.testing.assert_allclose(found, by_spyndex(name, arrays, CONSTANTS), rtol=1e-9)


@pytest.mark.parametrize("name", SHARED)
def test_c44_a_name_of_both_has_the_publication_that_spyndex_names(name: str) -> None:
    assert spyndex.indices[name].reference in INDICES[name].source


def test_c44_every_built_in_index_has_a_source_to_look_up() -> None:
    assert [name for name, index in INDICES.items() if "https://" not in index.source] == []


def test_c44_most_built_in_names_are_held_against_spyndex() -> None:
    assert len(SHARED) >= 26
    assert {"NDVI", "EVI", "NDWI", "MSAVI", "CIG"} <= set(SHARED)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(1e-3, 1.0), min_size=6, max_size=6))
def test_c44_built_in_indices_stay_in_their_limits(values: list[float]) -> None:
    arrays = {name: np.array([value]) for name, value in zip(("B", "G", "R", "N", "S1", "S2"), values, strict=True)}
    for name, found in compute_indices(list(INDICES), arrays).items():
        low, high = INDICES[name].limits
        if math.isfinite(found[0]):
            assert low - 1e-9 <= found[0] <= high + 1e-9, name


def test_c44_zeros_give_no_infinity_and_no_warning(recwarn: pytest.WarningsRecorder) -> None:
    zeros = {name: np.zeros((2, 3), dtype=np.float32) for name in OPTICAL}
    found = compute_indices(list(INDICES), zeros)
    assert not recwarn.list
    for name, values in found.items():
        assert values.dtype == np.float32
        assert not np.isinf(values).any(), name
    assert np.isnan(found["NDVI"]).all()
    assert (found["DVIMSS"] == 0).all()


def test_c44_torch_and_numpy_agree() -> None:
    arrays = {name: values.astype(np.float32) for name, values in bands((20, 30), 2).items()}
    arrays["N"][0, :5] = np.nan
    arrays["R"][1, :5] = 0
    arrays["G"][2, :5] = 0
    names = list(INDICES)
    in_numpy = compute_indices(names, arrays)
    in_torch = compute_indices(names, {name: torch.from_numpy(values) for name, values in arrays.items()})
    for name in names:
        np.testing.assert_allclose(in_torch[name].numpy(), in_numpy[name], rtol=2e-5, atol=1e-6, err_msg=name)


def test_c44_what_formulas_share_is_computed_once() -> None:
    names = ("NDVI", "SR", "MSR", "TVI", "IPVI", "LogR")
    expressions = [INDICES[name].expression() for name in names]
    together = Program(expressions).instructions
    assert len(set(together)) == len(together)
    assert sum(i.operation == "divide" for i in together) == 4  # NDVI, SR, MSR, IPVI
    assert sum(i.operation == "band" for i in together) == 2
    assert len(together) < sum(len(Program([expression]).instructions) for expression in expressions)


def test_c44_equal_formulas_are_one_result() -> None:
    arrays = bands()
    found = compute_indices(["A1", "A2"], arrays, {"A1": "(N - R)/(N + R)", "A2": "(N-R) / (R+N)"})
    np.testing.assert_array_equal(found["A1"], found["A2"])


def test_c44_numbers_are_not_taken_for_the_places_of_values() -> None:
    found = compute_indices(["X", "Y"], {"N": np.array([4.0]), "R": np.array([2.0])}, {"X": "N/R", "Y": "N/1 + 0*R"})
    assert (found["X"][0], found["Y"][0]) == (2.0, 4.0)


def test_c44_constants_are_replaced() -> None:
    arrays = bands()
    found = compute_indices(["SAVI"], arrays, constants={"L": 0.5})["SAVI"]
    n, r = arrays["N"], arrays["R"]
    np.testing.assert_allclose(found, 1.5 * (n - r) / (n + r + 0.5), rtol=1e-12)


def test_c44_the_users_formula_stands_before_all_others() -> None:
    arrays = bands()
    found = compute_indices(["NDVI", "MINE"], arrays, {"NDVI": "N", "MINE": "c*N"}, {"c": 3.0})
    np.testing.assert_allclose(found["NDVI"], arrays["N"])
    np.testing.assert_allclose(found["MINE"], 3 * arrays["N"])


def test_c47_an_index_without_its_band_names_both() -> None:
    with pytest.raises(ConfigError, match=r"index NDVI needs R, .*There are: N, G"):
        compute_indices(["NDVI"], {"N": np.ones(2), "G": np.ones(2)})


def test_c44_an_unknown_index_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"there is no index NDVJ.*NDVI"):
        find_index("NDVJ")
    with pytest.raises(ConfigError, match="Near to it: NDVI"):
        find_index("ndvi")


def test_c44_a_formula_of_numbers_alone_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"index X: its formula .1 . 1. names no band"):
        find_index("X", {"X": "1 + 1"}).expression()


def test_c44_without_spyndex_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "find_spec", lambda name: None)
    spyndex_indices.cache_clear()
    try:
        assert find_index("NDVI").formula
        with pytest.raises(ConfigError, match=r"SAVI.*pip install 'swath\[indices\]'"):
            find_index("SAVI")
    finally:
        spyndex_indices.cache_clear()


def test_c44_the_list_is_read_without_importing_spyndex_or_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from swath.data.indices.catalogue import *; import numpy as np; "
        "compute_indices(['SAVI'], {'N': np.ones(1), 'R': np.ones(1)}); "
        "sys.exit(' '.join({'spyndex', 'torch'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=child_environment(tmp_path / "mlflow.db"), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
