"""Channel sets of radar against their formulas in numpy, pixel by pixel."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from swath.challenges.unosat import channels as unosat_channels
from swath.challenges.unosat.scenes import three_bands
from swath.config import build, resolve
from swath.errors import ConfigError
from swath.nn.preprocess.channels import Fill, Preprocess
from swath.nn.preprocess.sar import Decibel3, Decibel5, Linear3, Linear5, Linear6, LogSquare3, Polarisations, RootRange3
from tests.synthetic import echoes

SETS = (Linear3, Decibel3, LogSquare3, Linear5, Linear6, Decibel5, RootRange3)
SCENE = ("vh", "vv", "mean")


def db(x: float) -> float:
    return float(10 * np.log10(x))


def pole(vh: float, vv: float) -> float:
    divisor = db(vh) + 1
    return (db(vv) + 1) / (divisor if abs(divisor) >= 0.01 else np.copysign(0.01, divisor))


FORMULAS: dict[type[Polarisations], list[Callable[[float, float], float]]] = {
    Linear3: [lambda h, v: h, lambda h, v: v, lambda h, v: (h + v) / 2],
    Decibel3: [lambda h, v: db(h), lambda h, v: db(v), lambda h, v: db((h + v) / 2)],
    LogSquare3: [lambda h, v: np.log(h**2), lambda h, v: np.log(v**2), lambda h, v: np.log(((h + v) / 2) ** 2)],
    Linear5: [
        lambda h, v: h, lambda h, v: v, lambda h, v: (h + v) / 2, lambda h, v: v - h,
        lambda h, v: np.sqrt(h**2 + v**2),
    ],
    Linear6: [
        lambda h, v: h, lambda h, v: v, lambda h, v: (h + v) / 2, lambda h, v: v * h,
        lambda h, v: (v + 0.01) / (h + 0.01), lambda h, v: np.sqrt(h**2 + v**2),
    ],
    Decibel5: [
        lambda h, v: db(h), lambda h, v: db(v), lambda h, v: db((h + v) / 2), lambda h, v: db(v) * db(h), pole,
    ],
}  # fmt: skip
"""What a channel is at a pixel with VH = h and VV = v, in float64."""


def both(shape: tuple[int, ...] = (2, 2, 9, 11), seed: int = 0) -> Tensor:
    return echoes(shape, seed)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(list(FORMULAS)), st.integers(0, 999))
def test_c43_every_channel_is_its_formula(kind: type[Polarisations], seed: int) -> None:
    image = both(seed=seed)
    found = kind(("vh", "vv"))(image)
    assert found.shape == (2, len(kind.names), 9, 11)
    assert found.dtype == torch.float32
    vh, vv = image.double().numpy().transpose(1, 0, 2, 3)
    for channel, formula in enumerate(FORMULAS[kind]):
        expected = np.vectorize(formula)(vh, vv)
        near = (
            np.abs(np.vectorize(db)(vh) + 1) < 0.02 if kind is Decibel5 and channel == 4 else np.zeros(vh.shape, bool)
        )
        np.testing.assert_allclose(
            found[:, channel].numpy()[~near], expected[~near], rtol=1e-4, atol=2e-4, err_msg=kind.names[channel]
        )


@pytest.mark.parametrize("kind", SETS)
def test_c43_scenes_of_two_bands_and_of_three_give_the_same(kind: type[Polarisations]) -> None:
    two = both((1, 2, 8, 8))
    two[0, 0, 0, 0] = two[0, 1, 3, 3] = torch.nan
    three = torch.from_numpy(three_bands(*two[0].numpy()))[None]
    expected = torch.where(torch.isnan(three[:, :1]), torch.nan, kind(("vh", "vv"))(two))
    mixed = torch.stack([two[:, 1], torch.full((1, 8, 8), 7.0), two[:, 0]], dim=1)
    if kind is not RootRange3:  # a 3-band scene drops both polarisations, which can be the sample's extreme
        torch.testing.assert_close(kind(SCENE)(three), expected, equal_nan=True)
    torch.testing.assert_close(kind(("vv", "angle", "vh"))(mixed), kind(("vh", "vv"))(two), equal_nan=True)
    named = kind(("a", "b"), vh="b", vv="a")(two.flip(1))
    torch.testing.assert_close(named, kind(("vh", "vv"))(two), equal_nan=True)


@pytest.mark.parametrize("bad", [0.0, -0.0, -1e-9, -99999.0, float("nan"), float("inf"), -float("inf"), 0.0625])
@pytest.mark.parametrize("band", [0, 1])
@pytest.mark.parametrize("kind", SETS)
def test_c43_no_measurement_is_nan_in_every_channel_that_needs_it(
    kind: type[Polarisations], band: int, bad: float
) -> None:
    image = both((1, 2, 6, 6), seed=2)
    clean = kind(("vh", "vv"))(image)
    image[0, band, 2, 3] = bad
    found = kind(("vh", "vv"), missing=(-99999.0, 0.0625))(image)
    gap = torch.isnan(found)
    assert int(gap.sum()) == int(gap[0, :, 2, 3].sum())
    assert gap[0, :, 2, 3].tolist() == [i != 1 - band for i in range(len(kind.names))]
    if kind is not RootRange3:
        torch.testing.assert_close(found[~gap], clean[~gap])


@pytest.mark.parametrize("kind", SETS)
def test_c43_fill_takes_the_place_of_no_measurement_after_the_formula(kind: type[Polarisations]) -> None:
    image = both((3, 2, 16, 16), seed=4)
    image[:, :, :2] = 0
    channels = len(kind.names)
    model = Preprocess(kind(("vh", "vv")), Fill(channels, "min"), unosat_channels.LINEAR_3["normaliser"](channels))
    model.fit(image)
    out = model(image)
    assert torch.isfinite(out).all()
    for channel in range(channels):
        measured = out[:, channel, 2:]
        assert out[:, channel, :2].unique().numel() == 1
        assert float(out[0, channel, 0, 0]) == pytest.approx(float(measured.min()), rel=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.floats(-1.05, -0.95), st.floats(-25, 5))
def test_c43_the_ratio_of_decibels_stays_bounded_at_its_pole_and_exact_beside_it(vh_db: float, vv_db: float) -> None:
    image = (10 ** (torch.tensor([vh_db, vv_db], dtype=torch.float64) / 10)).float().reshape(1, 2, 1, 1)
    found = Decibel5(("vh", "vv"))(image).flatten()
    divisor = float(found[0]) + 1
    assert abs(float(found[4])) <= abs(float(found[1]) + 1) / 0.01 * (1 + 1e-5)
    if abs(divisor) >= 0.0101:
        assert float(found[4]) == pytest.approx((float(found[1]) + 1) / divisor, rel=1e-4)


def test_c43_the_guard_at_the_pole_itself_has_the_sign_of_the_divisor() -> None:
    vh_db = torch.tensor([-1.005, -1.0, -0.995], dtype=torch.float64)
    image = torch.stack([10 ** (vh_db / 10), torch.full((3,), 0.1)]).float().reshape(1, 2, 1, 3)
    found = Decibel5(("vh", "vv"), guard=0.5)(image)[0, 4, 0]
    assert found.tolist() == pytest.approx([18, 18 if found[1] > 0 else -18, -18], rel=1e-5)
    with pytest.raises(ConfigError, match="guard"):
        Decibel5(("vh", "vv"), guard=0.0)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 999), st.floats(0, 0.7))
def test_c43_root_of_the_range_equals_numpy_on_each_sample(seed: int, missing: float) -> None:
    image = both((3, 2, 7, 9), seed)
    image[torch.rand(image.shape, generator=torch.Generator().manual_seed(seed)) < missing] = 0
    found = RootRange3(("vh", "vv"))(image)
    for sample, out in zip(image.double().numpy(), found.numpy(), strict=True):
        seen = np.where(sample > 0, sample, np.nan)
        for values, channel in zip([*seen, seen.mean(axis=0)], out, strict=True):
            if np.isfinite(values).sum() < 2:
                continue
            low, high = np.nanmin(values), np.nanmax(values)
            np.testing.assert_allclose(channel, ((values - low) / (high - low)) ** 0.2 - 0.5, atol=1e-4)


def test_c43_root_of_a_constant_and_of_nothing() -> None:
    image = torch.full((1, 2, 4, 4), 0.3)
    assert (RootRange3(("vh", "vv"))(image) == -0.5).all()
    assert torch.isnan(RootRange3(("vh", "vv"))(torch.zeros(1, 2, 4, 4))).all()


@pytest.mark.parametrize("kind", SETS)
def test_c47_absent_band_is_named(kind: type[Polarisations]) -> None:
    with pytest.raises(ConfigError, match=r"no band vv\. They have: vh, hh"):
        kind(("vh", "hh"))


REFERENCE = {
    "LINEAR_3": (3, (0.0, 0.0, 0.0), (5.0, 5.0, 5.0), 1.0),
    "LOG_SQUARE_3": (3, (-5.0,) * 3, (5.0,) * 3, 1.0),
    "LINEAR_5": (5, (0.1, 0.1, 0.1, 0.0, 1.0), (10.0,) * 5, 1.0),
    "LINEAR_6": (6, (0.0,) * 6, (1.0,) * 6, 200.0),
    "DECIBEL_3": (3, (-17.3987, -10.0204, -12.1084), (6.2903, 5.7769, 5.7954), 1.0),
    "DECIBEL_5": (5, (-17.705, -10.333, -12.423, 213.39, 0.4748), (6.544, 6.034, 6.064, 245.4, 238.9), 1.0),
}


@pytest.mark.parametrize("name", REFERENCE)
def test_c46_reference_scalings_are_x_over_maximum_minus_mean_over_std(name: str) -> None:
    count, mean, std, max_value = REFERENCE[name]
    parts = build(resolve(getattr(unosat_channels, name)))  # as a record of a training brings it back
    channels = parts["channels"](available=SCENE)
    assert len(channels.names) == count
    image = torch.from_numpy(three_bands(*both((2, 12, 12), seed=6).numpy()))[None]
    model = Preprocess(channels, Fill(count), parts["normaliser"](channels=count))
    model.fit([image[0]])
    raw = channels(image).double().numpy()
    shaped = [np.reshape(constant, (1, -1, 1, 1)) for constant in (mean, std)]
    np.testing.assert_allclose(model(image).numpy(), (raw / max_value - shaped[0]) / shaped[1], rtol=1e-4, atol=1e-5)


def test_c43_every_set_can_stand_in_a_config() -> None:
    for kind in SETS:
        assert build(resolve(partial(kind, vv="VV")))(available=("VV", "vh")).names == kind.names
    assert set(REFERENCE) | {"ROOT_RANGE_3"} == {n for n in vars(unosat_channels) if n.isupper()}
