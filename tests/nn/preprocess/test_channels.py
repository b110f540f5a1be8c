"""Raw bands to network input: formulas, missing pixels, normalisers, names."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import ignite.distributed as idist
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from swath.data import running_statistics
from swath.errors import ConfigError
from swath.nn.preprocess.channels import Bands, Decibel, Fill, Preprocess, channel_statistics
from swath.nn.preprocess.normalise import MinMax, PerSampleRange, QuantileClamp, ZScore
from tests.conftest import ROOT, child_environment
from tests.ranks_fit import tiles
from tests.synthetic import echoes

RAW = ("vh", "vv", "both")
NORMALISERS = (ZScore, MinMax, QuantileClamp, PerSampleRange)


def test_c43_decibel_is_ten_log10() -> None:
    image = echoes((3, 20, 24), seed=1)
    db = Decibel(RAW)(image[None])[0]
    expected = np.vectorize(lambda v: 10 * math.log10(v))(image.double().numpy())
    np.testing.assert_allclose(db.numpy(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("bad", [0.0, -0.0, -1e-9, -3.0, -99999.0, float("nan"), float("-inf")])
def test_c43_decibel_of_no_measurement_is_missing_and_then_the_fill(bad: float) -> None:
    image = echoes((1, 3, 6, 6), seed=2)
    image[0, 1, 2, 3] = bad
    db = Decibel(RAW)(image)
    assert torch.isnan(db[0, 1, 2, 3])
    assert int(torch.isnan(db).sum()) == 1
    model = Preprocess(Decibel(RAW), Fill(3, "constant", -27.5), ZScore(3, 0.0, 1.0))
    assert model(image)[0, 1, 2, 3] == -27.5


def test_c43_clipping_decibel_keeps_missing_pixels_missing() -> None:
    image = torch.tensor([[[[1e-9, 1e-2, 10.0, 0.0]]]])
    db = Decibel(("vv",), clip=(-30.0, 5.0))(image)[0, 0, 0]
    assert db[:3].tolist() == [-30.0, -20.0, 5.0]
    assert torch.isnan(db[3])


@settings(max_examples=50, deadline=None)
@given(st.permutations(("R", "G", "B", "SWIR", "NIR", "QA", "DEM")), st.integers(1, 7), st.integers(0, 99))
def test_c47_bands_come_in_the_order_of_their_names(order: list[str], count: int, seed: int) -> None:
    available = ("DEM", "B", "QA", "R", "NIR", "SWIR", "G")
    image = torch.rand(2, 7, 3, 4, generator=torch.Generator().manual_seed(seed))
    wanted = tuple(order[:count])
    got = Bands(available, wanted)(image)
    for position, name in enumerate(wanted):
        assert torch.equal(got[:, position], image[:, available.index(name)])
    assert Bands(available, wanted).names == wanted


@pytest.mark.parametrize("kind", [Bands, Decibel])
def test_c47_unknown_band_names_it_and_the_bands_there_are(kind: type[Bands]) -> None:
    with pytest.raises(ConfigError) as error:
        kind(RAW, ("vh", "hh"))
    assert "no band hh" in str(error.value)
    assert "vh, vv, both" in str(error.value)


def test_c47_without_names_all_bands_in_their_order() -> None:
    image = echoes((1, 3, 4, 4))
    assert torch.equal(Bands(RAW)(image), image)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.0, 0.9))
def test_c46_statistics_equal_numpy_over_valid_pixels(seed: int, missing: float) -> None:
    images = [echoes((2, 9, 11), seed + i) for i in range(3)]
    for i, image in enumerate(images):
        image[torch.rand(image.shape, generator=torch.Generator().manual_seed(seed + 7 * i)) < missing] = torch.nan
    found = channel_statistics(images)
    for channel in range(2):
        values = np.concatenate([image[channel].double().numpy().ravel() for image in images])
        values = values[np.isfinite(values)]
        expected = {"mean": values.mean(), "std": values.std(), "min": values.min(), "max": values.max()} | {
            name: np.quantile(values, q, method="closest_observation") for name, q in (("q01", 0.01), ("q99", 0.99))
        }
        for name in ("mean", "std", "min", "max"):
            assert float(found[name][channel]) == pytest.approx(expected[name], rel=1e-5, abs=1e-8)
        ordered = np.sort(values)
        for name in ("q01", "q99"):  # numpy rounds a rank half-way differently: one position is allowed
            rank = int(np.abs(ordered - float(found[name][channel])).argmin())
            assert abs(rank - int(np.abs(ordered - expected[name]).argmin())) <= 1


def test_c45_missing_pixels_do_not_enter_the_statistics() -> None:
    image = echoes((3, 16, 16), seed=5)
    with_gap = torch.nn.functional.pad(image, (0, 5), value=torch.nan)
    with_gap[:, 0, -1] = torch.inf
    one, other = channel_statistics([image]), channel_statistics([with_gap])
    for name in one:
        torch.testing.assert_close(one[name], other[name])


def test_c45_statistics_of_nothing_valid_are_finite() -> None:
    model = Preprocess(Bands(RAW), Fill(3), ZScore(3))
    empty = torch.full((3, 4, 4), torch.nan)
    model.fit([empty])
    assert torch.isfinite(model(empty[None])).all()


@pytest.mark.parametrize("strategy", ["mean", "min"])
@pytest.mark.parametrize("normaliser", NORMALISERS)
def test_c45_fill_stays_inside_the_normalised_range(normaliser: type, strategy: str) -> None:
    image = echoes((3, 32, 32), seed=3)
    image[:, 4:9, :] = torch.nan
    image[1, :, 0] = -2.0
    for channels in (Decibel(RAW), Bands(RAW)):
        model = Preprocess(channels, Fill(3, strategy), normaliser(3))
        model.fit([image])
        derived = channels(image[None])[0]
        out = model(image[None])[0]
        for channel in range(3):
            gap = torch.isnan(derived[channel])
            measured = out[channel][~gap]
            assert gap.any()
            assert out[channel][gap].min() >= measured.min() - 1e-5
            assert out[channel][gap].max() <= measured.max() + 1e-5


def test_c45_fill_by_constant_mean_and_min() -> None:
    image = torch.tensor([[[[1.0, 3.0, torch.nan]], [[10.0, 20.0, torch.nan]]]])
    expected = {"mean": (2.0, 15.0), "min": (1.0, 10.0)}
    for strategy, values in expected.items():
        fill = Fill(2, strategy)  # type: ignore[arg-type]
        fill.fit(channel_statistics([image[0]]))
        assert fill(image)[0, :, 0, 2].tolist() == list(values)
    assert Fill(2, "constant", (-1.0, -2.0))(image)[0, :, 0, 2].tolist() == [-1.0, -2.0]


MISSING = (-99999.0, -32768.0, 0.0, -3.4028234663852886e38, math.nan, math.inf, -math.inf)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 999), st.floats(0.05, 0.6), st.sampled_from(NORMALISERS), st.sampled_from([Bands, Decibel]),
    st.sampled_from([("mean", None), ("min", None), ("constant", -7.0), ("constant", 255.0), ("constant", 0.2)]),
)  # fmt: skip
def test_c45_missing_values_are_filled_inside_the_range_and_count_nowhere(
    seed: int, share: float, normaliser: type, kind: type[Bands], fill: tuple[str, float | None]
) -> None:
    """Whatever stands for "no measurement", the outcome is that of NaN, and no filled pixel stands out."""
    generator = torch.Generator().manual_seed(seed)
    image = echoes((2, 3, 12, 12), seed)
    gap = torch.rand(image.shape, generator=generator) < share
    codes = torch.tensor(MISSING)[torch.randint(0, len(MISSING), image.shape, generator=generator)]
    coded, plain = torch.where(gap, codes, image), torch.where(gap, torch.nan, image)
    model, twin = (Preprocess(kind(RAW, missing=m), Fill(3, *fill), normaliser(3)) for m in (MISSING, ()))  # type: ignore[arg-type]
    model.fit(coded)
    twin.fit(plain)
    out = model(coded)
    assert torch.equal(out, twin(plain))
    for channel in range(3):
        measured = out[:, channel][~gap[:, channel]]
        filled = out[:, channel][gap[:, channel]]
        assert filled.min() >= measured.min() - 1e-5
        assert filled.max() <= measured.max() + 1e-5
    without = Preprocess(kind(RAW), Fill(3, *fill), normaliser(3))  # type: ignore[arg-type]
    without.fit(image)
    without.load_state_dict(model.state_dict())
    if normaliser is not PerSampleRange:  # a missing extreme moves the sample's own range, rightly
        torch.testing.assert_close(without(image)[~gap], out[~gap], rtol=0, atol=0)


def test_c45_missing_values_by_band_leave_other_bands_alone() -> None:
    image = torch.tensor([0.0, 1.0, -32768.0]).expand(1, 3, 1, 3)
    bands = Bands(("swir", "qa", "dem"), missing={"swir": (0, -32768), "dem": (-32768,)})
    assert torch.isnan(bands(image))[0, :, 0].tolist() == [[True, False, True], [False] * 3, [False, False, True]]
    with pytest.raises(ConfigError, match="no band nir"):
        Bands(("swir", "qa"), missing={"nir": (0,)})


def test_c45_a_constant_fill_outside_the_measured_range_is_moved_into_it(caplog: pytest.LogCaptureFixture) -> None:
    image = torch.tensor([[[1.0, 3.0, torch.nan]], [[10.0, 20.0, torch.nan]], [[torch.nan] * 3]])
    fill = Fill(3, "constant", 255.0)
    fill.fit(channel_statistics([image]))
    assert fill(image[None])[0, :, 0, 2].tolist() == [3.0, 20.0, 255.0]  # nothing is known of the third channel
    assert "255" in caplog.text
    caplog.clear()
    inside = Fill(3, "constant", (2.0, 15.0, -1.0))
    inside.fit(channel_statistics([image]))
    assert inside.value.flatten().tolist() == [2.0, 15.0, -1.0]
    assert not caplog.text


def test_c45_what_overflows_in_a_channel_is_missing() -> None:
    class Inverse(Bands):
        def forward(self, image_BCHW: torch.Tensor) -> torch.Tensor:
            return 1 / super().forward(image_BCHW)

    image = torch.tensor([[[[0.0, 1.0, 0.25]]]])
    model = Preprocess(Inverse(("x",)), Fill(1, "constant", 2.0), ZScore(1, 0.0, 1.0))
    model.fit(image)
    assert model(image).flatten().tolist() == [2.0, 1.0, 4.0]


def test_c45_filled_pixels_have_no_part_in_the_range_of_their_sample() -> None:
    image = torch.tensor([[[[0.2, 0.3, 0.4, torch.nan]]]])
    for low, high, expected in ((0.0, 1.0, [0.0, 0.5, 1.0, 1.0]), (0.25, 0.75, [0.0, 0.5, 1.0, 1.0])):
        model = Preprocess(Bands(("x",)), Fill(1, "constant", 9.0), PerSampleRange(1, low, high))
        torch.testing.assert_close(model(image).flatten(), torch.tensor(expected))


def test_c45_fill_with_a_contradiction_is_refused() -> None:
    with pytest.raises(ConfigError, match="constant"):
        Fill(2, "constant")
    with pytest.raises(ConfigError, match="constant"):
        Fill(2, "mean", 3.0)
    with pytest.raises(ConfigError, match="3 constants for 2 channels"):
        Fill(2, "constant", (1.0, 2.0, 3.0))


@pytest.mark.parametrize("value", [0.0, 1e-6, 0.1, 7.0, 1e6])
@pytest.mark.parametrize("normaliser", NORMALISERS)
def test_c46_constant_image_stays_finite_and_small(normaliser: type, value: float) -> None:
    image = torch.full((2, 8, 8), value)
    model = Preprocess(Bands(("a", "b")), Fill(2), normaliser(2))
    model.fit([image])
    out = model(image[None])
    assert torch.isfinite(out).all()
    assert float(out.abs().max()) <= 1


@pytest.mark.parametrize("normaliser", NORMALISERS)
def test_c46_all_missing_image_stays_finite(normaliser: type) -> None:
    model = Preprocess(Decibel(RAW), Fill(3), normaliser(3))
    model.fit([echoes((3, 8, 8))])
    assert torch.isfinite(model(torch.full((2, 3, 8, 8), torch.nan))).all()
    assert torch.isfinite(model(torch.zeros(2, 3, 8, 8))).all()


def test_c46_zscore_of_the_training_image_has_mean_0_and_std_1() -> None:
    image = echoes((3, 40, 40), seed=9)
    model = Preprocess(Decibel(RAW), Fill(3), ZScore(3))
    model.fit([image])
    out = model(image[None])[0].flatten(1).double()
    torch.testing.assert_close(out.mean(1), torch.zeros(3, dtype=torch.float64), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.std(1, correction=0), torch.ones(3, dtype=torch.float64), atol=1e-4, rtol=0)


def test_c46_fixed_scaling_ignores_the_data() -> None:
    model = Preprocess(Bands(RAW), Fill(3), ZScore(3, mean=0.0, std=5.0))
    image = echoes((3, 8, 8))
    model.fit([image])
    torch.testing.assert_close(model(image[None])[0], image / 5)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.1, 500), st.floats(-3, 3), st.floats(0.1, 9))
def test_c46_zscore_divides_by_the_maximum_first(max_value: float, mean: float, std: float) -> None:
    image = echoes((1, 2, 5, 5))
    expected = (image.double() / max_value - torch.tensor([mean, 2 * mean]).reshape(1, 2, 1, 1)) / std
    found = ZScore(2, mean=(mean, 2 * mean), std=std, max_value=max_value)(image)
    torch.testing.assert_close(found, expected.float(), rtol=1e-4, atol=1e-5)


def test_c46_fitted_zscore_does_not_depend_on_the_maximum() -> None:
    image = echoes((2, 8, 8))
    one, two = ZScore(2), ZScore(2, max_value=200.0)
    for model in (one, two):
        model.fit(channel_statistics([image]))
    assert torch.equal(one(image[None]), two(image[None]))


@pytest.mark.parametrize("wrong", [{"std": 0.0}, {"std": (1.0, -1.0)}, {"max_value": 0.0}])
def test_c46_scales_that_divide_by_nothing_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="above 0"):
        ZScore(2, **wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="below maximum"):
        MinMax(2, 1.0, (2.0, 1.0))


def test_c46_minmax_maps_the_training_range_to_0_1() -> None:
    image = echoes((2, 16, 16), seed=4)
    model = Preprocess(Bands(("a", "b")), Fill(2), MinMax(2))
    model.fit([image])
    out = model(image[None])[0].flatten(1)
    torch.testing.assert_close(out.min(1).values, torch.zeros(2))
    torch.testing.assert_close(out.max(1).values, torch.ones(2))


@pytest.mark.parametrize(
    ("minimum", "maximum", "expected"),
    [
        (0.0, 4.0, (0.5, 0.5)),
        ((0.0, 1.0), (4.0, 3.0), (0.5, 0.5)),
        (0.0, (4.0, 8.0), (0.5, 0.25)),
        ((0.0, 1.0), 4.0, (0.5, 1 / 3)),
    ],
)
def test_c46_minmax_takes_given_limits_for_all_or_per_channel(
    minimum: object, maximum: object, expected: tuple[float, float]
) -> None:
    model = MinMax(2, minimum, maximum)  # type: ignore[arg-type]
    model.fit(channel_statistics([torch.rand(2, 5, 5) * 100]))
    out = model(torch.full((1, 2, 1, 1), 2.0))
    torch.testing.assert_close(out[0, :, 0, 0], torch.tensor(expected))


def test_c46_minmax_with_one_limit_given_fits_the_other() -> None:
    image = torch.tensor([[[2.0, 6.0]]])
    low, high = MinMax(1, minimum=0.0), MinMax(1, maximum=10.0)
    for model in (low, high):
        model.fit(channel_statistics([image]))
    torch.testing.assert_close(low(image[None]).flatten(), torch.tensor([2 / 6, 1.0]))
    torch.testing.assert_close(high(image[None]).flatten(), torch.tensor([0.0, 0.5]))


def test_c46_quantile_clamp_maps_q01_q99_to_0_1_and_clamps() -> None:
    image = torch.arange(1001.0).reshape(1, 7, 143)
    model = QuantileClamp(1)
    model.fit(channel_statistics([image]))
    out = model(image[None]).flatten()
    torch.testing.assert_close(out, ((torch.arange(1001.0) - 10) / 980).clamp(0, 1), atol=0.005, rtol=0)
    assert (out.min(), out.max()) == (0, 1)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 999), st.sampled_from([(0.0, 1.0), (0.02, 0.98), (0.25, 0.5)]), st.floats(0, 0.8))
def test_c46_per_sample_range_equals_numpy_on_each_sample(
    seed: int, limits: tuple[float, float], missing: float
) -> None:
    image = echoes((2, 2, 7, 9), seed)
    image[torch.rand(image.shape, generator=torch.Generator().manual_seed(seed)) < missing] = torch.nan
    out = PerSampleRange(2, *limits)(image)
    for sample in range(2):
        for channel in range(2):
            values = image[sample, channel].double().numpy()
            if np.isfinite(values).sum() < 3:
                continue
            a, b = np.nanquantile(values, limits)
            np.testing.assert_allclose(
                out[sample, channel].numpy(), np.clip((values - a) / max(b - a, 1e-6), 0, 1), atol=2e-5
            )


def stacked(images: list[torch.Tensor]) -> dict[str, np.ndarray]:
    """Statistics of all valid pixels at once, in float64."""
    columns = [np.concatenate([i[c][torch.isfinite(i[c])].double().numpy() for i in images]) for c in range(2)]
    functions = {"count": len, "mean": np.mean, "std": np.std, "min": np.min, "max": np.max}
    return {name: np.array([f(values) for values in columns]) for name, f in functions.items()}


def require_like_stacked(found: dict[str, torch.Tensor], images: list[torch.Tensor]) -> None:
    expected = stacked(images)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name].numpy(), values, rtol=1e-5, err_msg=name)
    for channel in range(2):
        pixels = np.concatenate([i[channel][torch.isfinite(i[channel])].numpy() for i in images])
        for name, share in (("q01", 0.01), ("q99", 0.99)):
            assert abs((pixels < float(found[name][channel])).mean() - share) <= 0.005


@pytest.mark.parametrize("count", [1, 2, 63, 64, 65, 200])
def test_c46_a_stream_of_images_gives_the_statistics_of_all_pixels(count: int) -> None:
    images = tiles(count)
    require_like_stacked(channel_statistics(iter(images)), images)


def test_c46_a_stream_is_held_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running_statistics, "FAN_IN", 3)
    running, images, most = running_statistics.RunningMoments(), tiles(100), 0
    for image in images:
        running.add(image.numpy())
        most = max(most, sum(len(depth) for depth in running._waiting))
    assert most <= 2 * 5  # 3 ** 5 images need five depths
    total = running.total()
    assert total is not None
    np.testing.assert_allclose(total["mean"], stacked(images)["mean"], rtol=1e-9)
    assert running_statistics.RunningMoments().total() is None


@pytest.mark.parametrize("shards", [1, 2, 3, 4])
def test_c46_shards_merge_to_the_statistics_of_all_pixels(shards: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `shards` processes would, the last of them without an image of its own when there are three."""
    images = tiles(9)
    parts = [images[i :: shards - (shards == 3)] if i < 2 or shards == 4 else [] for i in range(shards)]
    messages: list[object] = []
    monkeypatch.setattr(idist, "all_gather", lambda message: messages.append(message) or [message])
    for part in parts:
        channel_statistics(part)
    monkeypatch.setattr(idist, "all_gather", lambda message: messages)
    require_like_stacked(channel_statistics(parts[0]), images)


@pytest.mark.system
def test_c46_two_and_four_processes_fit_the_same_constants_as_one(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.ranks_fit", str(tmp_path)]
    done = subprocess.run(
        command, cwd=ROOT, env=child_environment(tmp_path / "db"), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    images = tiles(9)
    one = Preprocess(Bands(("a", "b")), Fill(2, "min"), ZScore(2))
    one.fit(images)
    expected = stacked(images)
    for world in (2, 4):
        states = [torch.load(tmp_path / f"{world}_{rank}.pt") for rank in range(world)]
        for state in states:
            assert all(torch.equal(value, states[0][name]) for name, value in state.items())
        np.testing.assert_allclose(states[0]["normaliser.offset"].flatten(), expected["mean"], rtol=1e-5)
        np.testing.assert_allclose(states[0]["normaliser.scale"].flatten(), expected["std"], rtol=1e-5)
        np.testing.assert_allclose(states[0]["fill.value"].flatten(), expected["min"], rtol=1e-5)
        for name, value in one.state_dict().items():
            torch.testing.assert_close(states[0][name], value, rtol=1e-5, atol=0)


def test_c46_fitting_to_nothing_leaves_the_constants() -> None:
    model = Preprocess(Bands(("a", "b")), Fill(2), ZScore(2))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.fit(iter([]))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_c46_constants_travel_with_the_weights() -> None:
    trained = Preprocess(Decibel(RAW), Fill(3, "min"), QuantileClamp(3))
    trained.fit([echoes((3, 12, 12), seed=8)])
    fresh = Preprocess(Decibel(RAW), Fill(3, "min"), QuantileClamp(3))
    fresh.load_state_dict(trained.state_dict())
    image = echoes((1, 3, 6, 6), seed=9)
    image[..., 0] = torch.nan
    assert torch.equal(fresh(image), trained(image))
