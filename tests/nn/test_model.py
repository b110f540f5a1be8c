"""From raw bands to probabilities: one convention, any size, no crash without pretrained weights."""

from __future__ import annotations

from functools import partial

import pytest
import segmentation_models_pytorch as smp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from swath.nn.model import (
    Classification,
    SegmentationModel,
    build_model,
    count_parameters,
    predict_classes,
    probabilities,
)
from swath.nn.preprocess.channels import Bands, Decibel, Fill
from swath.nn.preprocess.normalise import ZScore
from tests.synthetic import PixelNet, echoes

RAW = ("vh", "vv", "both")
WATER = {"water": Classification()}
CHARTS = {"ice": Classification(classes=("open", "young", "old")), "floe": Classification(classes=("none", "some"))}


def made(
    network: partial[nn.Module], tasks: dict[str, Classification], bands: tuple[str, ...] = RAW
) -> SegmentationModel:
    torch.manual_seed(0)
    channels = partial(Decibel, clip=(-35.0, 5.0))
    return build_model(bands, channels, partial(Fill), partial(ZScore, mean=-15.0, std=6.0), network, tasks).eval()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 9999), st.integers(2, 6), st.floats(0.01, 50))
def test_c93_probabilities_sum_to_one_and_keep_the_order(seed: int, classes: int, scale: float) -> None:
    x = scale * torch.randn(2, classes, 6, 5, generator=torch.Generator().manual_seed(seed))
    p = probabilities({"water": x})["water"]
    assert p.dtype == torch.float32
    assert float(p.min()) >= 0
    assert float(p.max()) <= 1
    torch.testing.assert_close(p.sum(1), torch.ones(2, 6, 5), rtol=0, atol=1e-5)
    clear = p.topk(2, dim=1).values.diff(dim=1).abs()[:, 0] > 1e-6
    assert torch.equal(p.argmax(1)[clear], x.argmax(1)[clear])


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 9999), st.floats(0.01, 50))
def test_c93_for_two_classes_argmax_is_the_same_as_above_one_half(seed: int, scale: float) -> None:
    x = scale * torch.randn(2, 2, 16, 16, generator=torch.Generator().manual_seed(seed))
    p = probabilities({"water": x})
    tie = (p["water"][:, 0] - p["water"][:, 1]).abs() < 1e-6
    assert torch.equal(
        predict_classes(p, {"water": Classification()})["water"].bool() | tie, (p["water"][:, 1] > 0.5) | tie
    )
    torch.testing.assert_close(p["water"][:, 1], torch.sigmoid(x[:, 1] - x[:, 0]), rtol=1e-5, atol=1e-6)


def test_c93_a_draw_between_two_classes_is_the_second_one() -> None:
    assert (
        predict_classes(probabilities({"water": torch.zeros(1, 2, 1, 1)}), {"water": Classification()})["water"].item()
        == 1
    )


def test_c93_half_precision_logits_become_full_precision_probabilities() -> None:
    x = torch.randn(1, 3, 4, 4)
    p = probabilities({"a": x.bfloat16()})["a"]
    assert p.dtype == torch.float32
    torch.testing.assert_close(p.sum(1), torch.ones(1, 4, 4), rtol=0, atol=1e-6)


@pytest.fixture(scope="module")
def networks() -> dict[str, SegmentationModel]:
    small = {"encoder_name": "resnet18", "encoder_weights": None}
    return {
        "Unet": made(partial(smp.Unet, decoder_channels=(32, 16, 16, 8, 8), **small), WATER),
        "FPN": made(partial(smp.FPN, decoder_pyramid_channels=32, decoder_segmentation_channels=32, **small), WATER),
        "PixelNet": made(partial(PixelNet), WATER),
    }


@pytest.mark.parametrize("shape", [(64, 64), (33, 47), (1, 1), (31, 65), (96, 17)])
@pytest.mark.parametrize("name", ["Unet", "FPN", "PixelNet"])
def test_c57_output_is_as_large_as_the_input(
    networks: dict[str, SegmentationModel], name: str, shape: tuple[int, int]
) -> None:
    with torch.inference_mode():
        out = networks[name](echoes((2, 3, *shape)))
    assert out["water"].shape == (2, 2, *shape)
    assert torch.isfinite(out["water"]).all()


@pytest.mark.parametrize("name", ["Unet", "FPN"])
def test_c57_padding_does_not_reach_a_size_that_fits(networks: dict[str, SegmentationModel], name: str) -> None:
    model, image = networks[name], echoes((1, 3, 64, 96), seed=4)
    with torch.inference_mode():
        torch.testing.assert_close(model(image)["water"], model.network(model.preprocess(image)))


@pytest.mark.parametrize("bands", [("vv",), ("vh", "vv"), ("a", "b", "c", "d", "e")])
def test_c57_any_number_of_bands(bands: tuple[str, ...]) -> None:
    network = partial(smp.Unet, encoder_name="resnet18", encoder_weights=None, decoder_channels=(16, 8, 8, 8, 8))
    with torch.inference_mode():
        out = made(network, WATER, bands)(echoes((1, len(bands), 40, 33)))
    assert out["water"].shape == (1, 2, 40, 33)


def test_c57_channels_are_split_by_task_and_never_hold_ignore() -> None:
    model = made(partial(PixelNet), CHARTS)
    image = echoes((2, 3, 8, 9))
    with torch.inference_mode():
        out = model(image)
        whole = model.network(model.preprocess(image))
    assert {task: logits.shape for task, logits in out.items()} == {"ice": (2, 3, 8, 9), "floe": (2, 2, 8, 9)}
    torch.testing.assert_close(torch.cat([out["ice"], out["floe"]], dim=1), whole)


def test_c57_missing_pixels_give_finite_logits(networks: dict[str, SegmentationModel]) -> None:
    image = echoes((1, 3, 40, 40))
    image[:, :, :20] = torch.nan
    image[:, 1, 30:] = 0
    with torch.inference_mode():
        for model in networks.values():
            assert torch.isfinite(model(image)["water"]).all()


def test_c57_a_band_that_the_channels_do_not_take_has_no_part() -> None:
    model = build_model(RAW, partial(Bands, bands=("vv",)), partial(Fill), partial(ZScore), partial(PixelNet), WATER)
    one, other = echoes((1, 3, 4, 4), 1), echoes((1, 3, 4, 4), 2)
    other[:, 1] = one[:, 1]
    assert torch.equal(model(one)["water"], model(other)["water"])


def test_c57_number_of_trainable_values() -> None:
    network = PixelNet(3, 2, width=8)
    assert count_parameters(network) == 3 * 8 + 8 + 8 * 2 + 2
    network.layers[0].requires_grad_(False)
    assert count_parameters(network) == 8 * 2 + 2
