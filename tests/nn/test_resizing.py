"""Padding and its inverse for any parity, resizing against torch, and what a model with either sees and gives."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import partial
from typing import get_args

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from swath.config.ranges import check_ranges
from swath.errors import ConfigError
from swath.geo.grid import Window
from swath.nn.model import Classification, SegmentationModel, build_model
from swath.nn.networks.decoders import TaskDecoders
from swath.nn.networks.unet import UNet
from swath.nn.preprocess.channels import Bands, Fill
from swath.nn.preprocess.normalise import ZScore
from swath.nn.resizing import Interpolation, Pad, Resize, Resizing, pad, resize_image, unpad
from swath.nn.tta import predictor
from swath.prediction.sliding import SlidingConfig, predict_rows
from swath.training.transfer import freeze, load_matching
from tests.synthetic import PixelNet, TinyNet

SIDE = st.integers(1, 23)
BANDS = ("red", "nir")
WATER = {"water": Classification()}
MODES = get_args(Interpolation)


def draw(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def image_of(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=draw(seed))


# ---------------------------------------------------------------------------------------------------------------- pad


@settings(max_examples=100, deadline=None)
@given(SIDE, SIDE, st.integers(0, 9), st.integers(0, 9), st.sampled_from([0.0, 7.0, -1.5]))
def test_c48_unpad_is_the_inverse_of_pad_for_any_parity(
    height: int, width: int, rows: int, cols: int, value: float
) -> None:
    tensor = image_of(2, 3, height, width)
    padded = pad(tensor, (height + rows, width + cols), value)
    assert padded.shape == (2, 3, height + rows, width + cols)
    assert torch.equal(unpad(padded, (height, width)), tensor)
    expected = np.pad(
        tensor.numpy(), ((0, 0), (0, 0), (rows // 2, rows - rows // 2), (cols // 2, cols - cols // 2)),
        constant_values=value,
    )  # fmt: skip
    np.testing.assert_array_equal(padded.numpy(), expected)


def test_c48_350_to_352_puts_a_pixel_of_zeros_on_each_side() -> None:
    image = image_of(1, 7, 350, 350)
    padded = Pad(multiple=32).apply(image)
    assert padded.shape == (1, 7, 352, 352)
    assert torch.equal(padded[..., 1:-1, 1:-1], image)
    assert padded.count_nonzero() == image.count_nonzero()
    assert torch.equal(Pad(multiple=32).restore(padded, (350, 350)), image)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 40))
def test_c48_padding_to_a_multiple_adds_as_little_as_can_be(height: int, width: int, multiple: int) -> None:
    image = image_of(1, 2, height, width)
    padded = Pad(multiple=multiple).apply(image)
    for new, old in zip(padded.shape[-2:], (height, width), strict=True):
        assert new % multiple == 0
        assert old <= new < old + multiple
    assert torch.equal(Pad(multiple=multiple).restore(padded, (height, width)), image)


def test_c48_a_size_that_is_too_small_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"\(4, 4\) pixels do not fit into \(5, 3\)"):
        pad(torch.zeros(4, 4), (5, 3), 0)
    with pytest.raises(ConfigError, match="do not fit"):
        unpad(torch.zeros(4, 4), (5, 3))
    with pytest.raises(ConfigError, match=r"resize\.multiple=0"):
        check_ranges(Pad(multiple=0), "resize")
    for factor in (0.0, -1.0, math.nan, 17.0):
        with pytest.raises(ConfigError, match=rf"resize\.factor={factor}"):
            check_ranges(Resize(factor=factor), "resize")


# ------------------------------------------------------------------------------------------------------------- resize


@settings(max_examples=60, deadline=None)
@given(SIDE, SIDE, SIDE, SIDE, st.integers(0, 99))
def test_c48_nearest_takes_the_pixel_that_holds_the_middle(
    height: int, width: int, rows: int, cols: int, seed: int
) -> None:
    image = image_of(2, 3, height, width, seed=seed)
    found = resize_image(image, (rows, cols), "nearest")
    at = [[math.floor(Fraction((2 * i + 1) * m, 2 * n)) for i in range(n)] for n, m in ((rows, height), (cols, width))]
    np.testing.assert_array_equal(found.numpy(), image.numpy()[:, :, at[0]][:, :, :, at[1]])


@pytest.mark.parametrize("factor", [2, 3, 5])
def test_c48_enlarging_by_a_whole_number_and_back_is_the_identity(factor: int) -> None:
    image = image_of(2, 3, 7, 11, seed=factor)
    nearest = Resize(factor=factor, mode="nearest")
    large = nearest.apply(image)
    assert torch.equal(large, image.repeat_interleave(factor, 2).repeat_interleave(factor, 3))
    assert torch.equal(nearest.restore(large, (7, 11)), image)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(20, 31), (41, 8), (20, 16)])
def test_c48_images_are_resized_as_torch_does(mode: Interpolation, size: tuple[int, int]) -> None:
    image = torch.rand(2, 3, 20, 16, generator=draw(0))
    smooth = {} if mode == "nearest" else {"antialias": True, "align_corners": False}
    expected = F.interpolate(image, size, mode="nearest-exact" if mode == "nearest" else mode, **smooth)
    torch.testing.assert_close(resize_image(image, size, mode), expected)
    if size == (20, 16):
        torch.testing.assert_close(resize_image(image, size, mode), image)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_c48_a_plane_comes_back_from_twice_its_size_but_for_its_edge(mode: Interpolation) -> None:
    rows, cols = torch.meshgrid(torch.arange(24.0), torch.arange(30.0), indexing="ij")
    plane = (3 + 0.5 * rows - 0.25 * cols)[None, None]
    back = Resize(factor=2, mode=mode).restore(Resize(factor=2, mode=mode).apply(plane), (24, 30))
    torch.testing.assert_close(back[..., 4:-4, 4:-4], plane[..., 4:-4, 4:-4], rtol=0, atol=1e-4)


# ------------------------------------------------------------------------------------------------------------- models


class Recorded(PixelNet):
    """A network that notes the size that it sees."""

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__(in_channels, classes)
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, image_BCHW: Tensor) -> Tensor:
        self.sizes.append(tuple(image_BCHW.shape[-2:]))
        return super().forward(image_BCHW)


NO_NEIGHBOURS = partial(PixelNet)


def model(resize: Resizing | None, network: partial[nn.Module] = NO_NEIGHBOURS) -> SegmentationModel:
    torch.manual_seed(0)
    normaliser = partial(ZScore, mean=0.5, std=2.0)
    return build_model(BANDS, partial(Bands), partial(Fill), normaliser, network, WATER, resize=resize).eval()


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.floats(0.3, 3.0), st.sampled_from(MODES))
def test_c48_a_factor_decides_what_the_network_sees_and_nothing_of_what_comes_out(
    height: int, width: int, factor: float, mode: Interpolation
) -> None:
    made = model(Resize(factor=factor, mode=mode), partial(Recorded))
    with torch.inference_mode():
        out = made(image_of(2, 2, height, width))["water"]
    assert out.shape == (2, 2, height, width)
    assert torch.isfinite(out).all()
    seen = [max(1, round(factor * side)) for side in (height, width)]
    assert made.network.sizes == [tuple(-(-side // 32) * 32 for side in seen)]


def test_c48_tiles_of_350_px_are_seen_at_the_sizes_that_configs_ask_for() -> None:
    for side, factor, expected in ((350, 768 / 350, 768), (350, 1024 / 350, 1024), (128, 320 / 128, 320)):
        assert Resize(factor=factor).apply(torch.zeros(1, 1, side, side)).shape[-2:] == (expected, expected)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 60), st.integers(1, 60), st.sampled_from([Pad(), Pad(multiple=64), Resize(factor=2, mode="nearest")])
)
def test_c48_a_network_of_single_pixels_answers_as_without(height: int, width: int, resize: Resizing) -> None:
    image = image_of(2, 2, height, width)
    with torch.inference_mode():
        torch.testing.assert_close(model(resize)(image)["water"], model(None)(image)["water"])


@pytest.mark.parametrize("mode", MODES)
def test_c48_a_model_is_preprocessing_torchs_resizing_the_network_and_back(mode: Interpolation) -> None:
    made, image = model(Resize(factor=2, mode=mode), partial(TinyNet)), image_of(2, 2, 16, 32)
    torchs = partial(F.interpolate, mode="nearest-exact") if mode == "nearest" else partial(
        F.interpolate, mode=mode, antialias=True
    )  # fmt: skip
    with torch.inference_mode():
        expected = torchs(made.network(torchs((image - 0.5) / 2, (32, 64))), (16, 32))
        torch.testing.assert_close(made(image)["water"], expected)


def test_c48_gaps_are_filled_before_the_network_sees_its_input() -> None:
    image = image_of(1, 2, 20, 20)
    image[..., 5:9, :] = torch.nan
    for resize in (Pad(), Resize(factor=1.5), Resize(factor=1.5, mode="bicubic")):
        with torch.inference_mode():
            assert torch.isfinite(model(resize, partial(TinyNet))(image)["water"]).all()


@pytest.mark.parametrize("resize", [Pad(), *(Resize(factor=1.5, mode=mode) for mode in MODES)])
def test_c48_all_weights_learn_through_it(resize: Resizing) -> None:
    made = model(resize, partial(UNet, filters=(4, 4))).train()
    made(image_of(2, 2, 20, 23))["water"].square().mean().backward()
    for name, parameter in made.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_c48_c62_weights_and_parts_have_the_names_that_they_have_without() -> None:
    encoder = partial(smp.Unet, encoder_name="resnet18", encoder_weights=None, decoder_channels=(8,) * 5)
    for network in (encoder, partial(TaskDecoders, network=encoder)):
        plain, resized = model(None, network), model(Resize(factor=1.5), network)
        assert list(resized.state_dict()) == list(plain.state_dict())
        found = load_matching(resized, plain.state_dict(), exclude=())
        assert not found.skipped
        assert not found.unused
        assert freeze(resized, "encoder.layer1")
        assert not any(p.requires_grad for p in resized.network.encoder.layer1.parameters())


def test_c48_c61_a_pretrained_stem_sees_its_colours() -> None:
    class Stem(nn.Module):
        def __init__(self, in_channels: int, classes: int, encoder_weights: str | None = "mine") -> None:
            super().__init__()
            self.conv = nn.Conv2d(in_channels, classes, 3, padding=1)
            if encoder_weights:
                nn.init.zeros_(self.conv.weight)
                self.conv.weight.data += torch.arange(3.0)[:in_channels, None, None]

        def forward(self, image_BCHW: Tensor) -> Tensor:
            return self.conv(image_BCHW)

    names = ("B", "G", "R", "NIR")
    parts = (partial(Bands), partial(Fill), partial(ZScore), partial(Stem), WATER, ("R", "G", "B"))
    made = build_model(names, *parts, resize=Resize(factor=2.0))
    assert made.network.conv.weight[0, :, 0, 0].tolist() == [2.0, 1.0, 0.0, 1.0]
    assert made(image_of(1, 4, 10, 10))["water"].shape == (1, 2, 10, 10)


@pytest.mark.parametrize("resize", [Pad(), Resize(factor=2.0, mode="nearest")])
def test_c48_c91_a_larger_scene_is_mapped_by_windows(resize: Resizing) -> None:
    scene = image_of(2, 70, 90).numpy()

    def read(window: Window) -> np.ndarray:
        return scene[(slice(None), *window.slices)]

    sliding = SlidingConfig(window=35, overlap=9)
    maps = []
    for asked in (resize, None):
        predict = predictor(model(asked), "off", torch.device("cpu"))
        strips = predict_rows(read, (70, 90), predict, WATER, sliding)
        maps.append(np.concatenate([probability for _, probability in strips], axis=1))
    assert maps[0].shape == (2, 70, 90)
    np.testing.assert_allclose(maps[0], maps[1], atol=1e-5)
