"""Indices as channels of a model: values, scaling, masks, missing pixels, order of bands, export."""

from __future__ import annotations

import copy
import multiprocessing
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from swath.config.resolved import resolve
from swath.config.trust import build_from_record
from swath.data.indices import blocks
from swath.data.indices.catalogue import INDICES, compute_indices
from swath.data.indices.expression import parse_formula
from swath.data.indices.program import Program
from swath.errors import ConfigError
from swath.nn.preprocess.channels import Fill, Preprocess
from swath.nn.preprocess.normalise import ZScore
from swath.nn.preprocess.optical import Indices

BANDS = ("SWIR", "NIR", "R", "G", "B", "QA", "DEM")
SYMBOLS = {"S1": "SWIR", "N": "NIR", "R": "R", "G": "G", "B": "B"}
ALL = tuple(INDICES)


def scene(seed: int = 0, shape: tuple[int, int] = (13, 17), samples: int = 2) -> Tensor:
    """float32 (samples, 7, H, W): bands from 0.05 to 0.6, QA 0 or 1, DEM from -20 to 20."""
    image = torch.rand(samples, 7, *shape, generator=torch.Generator().manual_seed(seed)) * 0.55 + 0.05
    image[:, 5] = (image[:, 5] > 0.5).float()
    image[:, 6] = (image[:, 6] - 0.325) * 72
    return image


def expected(image: Tensor, names: tuple[str, ...] = ALL, factor: float = 1.0, offset: float = 0.0) -> Tensor:
    """The same from `compute_indices`, in float64 NumPy."""
    arrays = {}
    for symbol, band in SYMBOLS.items():
        arrays[symbol] = image[:, BANDS.index(band)].double().numpy() * factor + offset
    values = compute_indices(names, arrays)
    return torch.from_numpy(np.stack([values[name] for name in names], axis=1)).float()


def test_c44_channels_are_the_bands_and_then_the_indices() -> None:
    image = scene()
    made = Indices(BANDS, ("NDVI", "MSI"), bands=("DEM", "R"))
    assert made.names == ("DEM", "R", "NDVI", "MSI")
    found = made(image)
    assert torch.equal(found[:, 0], image[:, 6])
    assert torch.equal(found[:, 1], image[:, 2])
    n, r, s = image[:, 1], image[:, 2], image[:, 0]
    torch.testing.assert_close(found[:, 2], (n - r) / (n + r))
    torch.testing.assert_close(found[:, 3], s / n)


def test_c44_all_of_them_equal_the_formulas_in_numpy() -> None:
    image = scene(1)
    torch.testing.assert_close(
        Indices(BANDS, ALL, bands=())(image), expected(image), rtol=2e-3, atol=1e-4, equal_nan=True
    )


@settings(max_examples=25, deadline=None)
@given(st.permutations(BANDS), st.permutations(("NDVI", "EVI", "MSI", "CVI")))
def test_c47_order_of_bands_and_indices_is_by_name(order: list[str], names: list[str]) -> None:
    image = scene(2, (5, 6))
    shuffled = image[:, [BANDS.index(band) for band in order]]
    found = Indices(tuple(order), tuple(names), bands=())(shuffled)
    for position, name in enumerate(names):
        assert torch.equal(found[:, position], Indices(BANDS, (name,), bands=())(image)[:, 0])


@pytest.mark.parametrize("block", [1, 7, 17, 40, 1 << 15])
def test_c44_blocks_of_any_size_give_what_one_piece_gives(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    image = scene(3)
    image[0, 1, 2, 3:9] = torch.nan
    made = Indices(BANDS, ALL, quality="QA", elevation="DEM")
    whole = made(image.clone().requires_grad_()).detach()
    monkeypatch.setattr(blocks, "BLOCK", block)
    torch.testing.assert_close(made(image), whole, rtol=2e-5, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("threads", [2, 3, 7])
def test_c44_any_number_of_threads_gives_the_same_bits(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    image = scene(16, (40, 50))
    image[0, 1, 2, 3:9] = torch.nan
    image[1, :3, 7] = 0.0
    made = Indices(BANDS, ALL, quality="QA", elevation="DEM")
    monkeypatch.setattr(blocks, "BLOCK", 64)
    monkeypatch.setattr(blocks, "WORTH_THREADS", 0)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = made(image)
        torch.set_num_threads(threads)
        together = made(image)
    finally:
        torch.set_num_threads(before)
    assert alone.numpy().tobytes() == together.numpy().tobytes()


def test_c44_an_error_of_a_thread_is_one_of_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "WORTH_THREADS", 0)
    program = blocks.BlockProgram(Program([parse_formula("N + 1")]))
    main = threading.current_thread()

    def fails(part: slice) -> dict[str, np.ndarray]:
        if threading.current_thread() is not main:
            raise RuntimeError("no such band")
        time.sleep(0.02)
        return {"N": np.ones(part.stop - part.start, np.float32)}

    output = np.empty((1, 50 * blocks.BLOCK), np.float32)
    with pytest.raises(RuntimeError, match="no such band"):
        program.write(fails, output, threads=2)


def _in_a_child(image: Tensor) -> bytes:
    torch.set_num_threads(2)
    return Indices(BANDS, ALL)(image).numpy().tobytes()


def test_c44_forked_processes_have_threads_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "WORTH_THREADS", 0)
    image = scene(17, (200, 100))
    here = _in_a_child(image)
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
        assert pool.submit(_in_a_child, image).result(timeout=60) == here


def test_c44_gradients_reach_the_bands() -> None:
    image = scene(4).requires_grad_()
    Indices(BANDS, ("NDVI",), bands=())(image).sum().backward()
    assert image.grad is not None
    n, r = image.detach()[:, 1], image.detach()[:, 2]
    torch.testing.assert_close(image.grad[:, 1], 2 * r / (n + r) ** 2)


def test_c44_reflectance_scales_optical_bands_alone() -> None:
    numbers = ((scene(5) + 0.2) / 2.75e-5).round()
    numbers[:, 6] = 500.0
    made = Indices(
        BANDS,
        ("EVI", "HEIGHT"),
        bands=("R",),
        formulas={"HEIGHT": "DEM/2"},
        scale="reflectance",
        scaling=(2.75e-5, -0.2),
    )
    found = made(numbers)
    assert torch.equal(found[:, 0], numbers[:, 2])
    torch.testing.assert_close(found[:, 1:2], expected(numbers, ("EVI",), 2.75e-5, -0.2), rtol=1e-4, atol=1e-5)
    assert (found[:, 2] == 250.0).all()
    as_is = Indices(BANDS, ("EVI",), bands=())(numbers)
    torch.testing.assert_close(as_is, expected(numbers, ("EVI",)), rtol=1e-4, atol=1e-5)
    assert (as_is[:, 0] - found[:, 1]).abs().median() > 0.1


def test_c44_scaling_by_band() -> None:
    image = scene(6)
    made = Indices(BANDS, ("SR",), bands=(), scale="reflectance", scaling={"NIR": (2.0, 0.5)})
    torch.testing.assert_close(made(image)[:, 0], (image[:, 1] * 2 + 0.5) / image[:, 2])


def test_c44_masks_by_quality_and_elevation() -> None:
    image = scene(7)
    image[0, 6, :3] = torch.nan
    image[0, 5, 4] = torch.nan
    formulas = {"DEMWM": "max(DEM, 0)"}
    clear, low = image[:, 5] == 0, image[:, 6] <= 0
    masks = {(None, None): clear | ~clear, ("QA", None): clear, (None, "DEM"): low, ("QA", "DEM"): clear & low}
    for (quality, elevation), kept in masks.items():
        made = Indices(
            BANDS, ("NDVI", "DEMWM"), bands=("NIR",), formulas=formulas, quality=quality, elevation=elevation
        )
        found = made(image)
        assert torch.equal(found[:, 0], image[:, 1])
        assert torch.equal(~found[:, 1].isnan(), kept)
        if elevation:  # which does not mask itself; clouds do not hide the ground that a DEM knows
            assert torch.equal(found[:, 2].nan_to_num(-1), image[:, 6].clamp(min=0).nan_to_num(-1))


@pytest.mark.parametrize("hole", [float("nan"), float("inf"), -32768.0])
def test_c45_a_hole_in_a_band_is_one_in_its_indices_alone(hole: float) -> None:
    image = scene(8)
    image[1, 4, 2, 3] = hole  # blue
    made = Indices(BANDS, ("NDVI", "BNDVI"), missing=(-32768.0,))
    gaps = made(image).isnan()
    assert gaps[1, :, 2, 3].tolist() == [name in ("B", "BNDVI") for name in made.names]
    assert gaps.sum() == 2


def test_c45_missing_values_belong_to_the_named_band() -> None:
    image = scene(9)
    image[0, 1, 0, 0] = image[0, 2, 0, 1] = 0.0
    gaps = Indices(BANDS, ("DVIMSS",), missing={"NIR": (0.0,)})(image).isnan()
    assert gaps.sum() == 2
    assert gaps[0, 1, 0, 0]
    assert gaps[0, -1, 0, 0]


def test_c44_zeros_and_huge_numbers_give_no_infinity() -> None:
    image = scene(10)
    image[0] = 0.0
    image[1, :, :4] = 3e38
    for made in (Indices(BANDS, ALL), Indices(BANDS, ALL, quality="QA")):
        for found in (made(image), made(image.clone().requires_grad_())):
            assert not found.isinf().any()
            assert found[1, -len(ALL) :, 5:].isfinite().any()
    model = Preprocess(Indices(BANDS, ALL), Fill(len(ALL) + 7), ZScore(len(ALL) + 7))
    model.fit(scene(11).unbind())
    assert model(image).isfinite().all()


def test_c44_bands_by_their_usual_names_or_by_symbols() -> None:
    image = scene(12)
    usual = ("swir16", "nir", "red", "green", "blue", "QA", "DEM")
    own = ("B11", "B08", "B04", "B03", "B02", "QA", "DEM")
    symbols = {"S1": "B11", "N": "B08", "R": "B04", "G": "B03", "B": "B02"}
    first = Indices(usual, ALL, bands=())(image)
    torch.testing.assert_close(
        Indices(own, ALL, bands=(), symbols=symbols)(image), first, rtol=0, atol=0, equal_nan=True
    )
    torch.testing.assert_close(first, expected(image), rtol=2e-3, atol=1e-4, equal_nan=True)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"indices": ("NDVJ",)}, "no index NDVJ"),
        ({"indices": ("X",), "formulas": {"X": "N.real"}}, "not allowed"),
        ({"indices": ("X",), "formulas": {"X": "N - Q"}}, "index X needs Q.*There are: SWIR, NIR"),
        ({"indices": ("NDVI", "NDVI")}, "each once"),
        ({"indices": ()}, "at least one"),
        ({"indices": ("NDVI",), "scale": "reflectance"}, "scaling=None"),
        ({"indices": ("NDVI",), "scaling": (1.0, 0.0)}, "only there"),
        ({"indices": ("NDVI",), "scale": "dn"}, "give 'as_is' or 'reflectance'"),
        ({"indices": ("NDVI",), "quality": "FLAGS"}, "no band FLAGS"),
        ({"indices": ("NDVI",), "bands": ("X",)}, "no band X"),
        ({"indices": ("NDVI",), "symbols": {"N": "B08"}}, "no band B08"),
        ({"indices": ("NDVI",), "missing": {"X": (0.0,)}}, "no band X"),
        ({"indices": ("NDVI",), "scale": "reflectance", "scaling": {"X": (1.0, 0.0)}}, "no band X"),
    ],
)  # fmt: skip
def test_c44_c47_wrong_settings_are_named(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Indices(BANDS, **settings)  # type: ignore[arg-type]


def test_c44_a_record_builds_them_again() -> None:
    made = partial(Indices, indices=("NDVI", "MINE"), bands=("R",), formulas={"MINE": "sqrt(N)"}, missing={"R": (0.0,)})
    rebuilt = build_from_record(resolve(made))
    image = scene(13)
    assert torch.equal(rebuilt(available=BANDS)(image), made(available=BANDS)(image))
    copied = copy.deepcopy(made(available=BANDS))
    assert torch.equal(copied(image), made(available=BANDS)(image))


def test_c44_exported_graphs_hold_the_formulas() -> None:
    made = Indices(BANDS, ("NDVI", "EVI", "CVI", "CDOM"), quality="QA", elevation="DEM", missing=(-32768.0,))
    rows, columns = torch.export.Dim("rows", min=2, max=512), torch.export.Dim("columns", min=2, max=512)
    program = torch.export.export(made, (scene(14),), dynamic_shapes=({2: rows, 3: columns},))
    image = scene(15, (9, 30))
    image[0, 1, 3, 3] = -32768.0
    image[1, 2, 4, 4] = 0.0
    torch.testing.assert_close(program.module()(image), made(image), rtol=2e-5, atol=1e-6, equal_nan=True)
