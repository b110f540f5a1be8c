"""Pretrained weights on any bands, from local files only: nothing here waits for, or needs, a network."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import timm
import torch
import torch.nn.functional as F
from huggingface_hub import constants
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from segmentation_models_pytorch.encoders import encoders as smp_encoders
from torch import Tensor, nn
from torchvision.models import ResNet101_Weights, resnet101

from swath.errors import ConfigError
from swath.nn.model import Classification, build_model
from swath.nn.networks.deeplab import DeepLabV3ResNet101
from swath.nn.networks.pretrained import adapt_stem, answers, build_network, wanted_weights, without_weights
from swath.nn.preprocess.channels import Bands, Fill
from swath.nn.preprocess.normalise import ZScore
from tests.synthetic import PixelNet

WATER = {"water": Classification()}


# ---------------------------------------------------------------------------------------------------------------- stem


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(1, 8), st.integers(0, 9999))
def test_c61_named_channels_keep_their_filters_and_the_rest_get_the_mean(
    data: st.DataObject, channels: int, seed: int
) -> None:
    places = data.draw(st.permutations([*range(channels), None, None]))[:3]
    weight = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(seed))
    made = adapt_stem(weight, channels, places).numpy()
    expected = np.empty((4, channels, 3, 3), np.float32)
    for channel in range(channels):
        kept = [weight.numpy()[:, colour] for colour, place in enumerate(places) if place == channel]
        expected[:, channel] = kept[0] if kept else weight.numpy().mean(axis=1)
    np.testing.assert_allclose(made, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("channels", "kept"), [(1, 0), (2, 0), (3, 3), (4, 3), (6, 3)])
def test_c61_by_default_the_first_three_are_red_green_blue(channels: int, kept: int) -> None:
    weight = torch.randn(5, 3, 7, 7)
    made = adapt_stem(weight, channels)
    assert made.shape == (5, channels, 7, 7)
    assert torch.equal(made[:, :kept], weight[:, :kept])
    for channel in range(kept, channels):
        torch.testing.assert_close(made[:, channel], weight.mean(1))


@pytest.mark.parametrize("stacked", [1, 2])
def test_c61_an_image_that_is_silent_beyond_rgb_is_seen_as_before(stacked: int) -> None:
    """Also by a stem that stacks 2 x 2 pixels, channels fastest."""
    weight, places = torch.randn(4, 3 * stacked**2, 3, 3), [4, 0, 2]
    image = torch.randn(1, 3, 16, 16)
    wide = torch.zeros(1, 6, 16, 16)
    wide[:, places] = image

    def stack(pixels: Tensor) -> Tensor:
        parts = [pixels[..., r::stacked, c::stacked] for r in range(stacked) for c in range(stacked)]
        return torch.cat(parts, dim=1)

    seen, before = F.conv2d(stack(wide), adapt_stem(weight, 6, places)), F.conv2d(stack(image), weight)
    torch.testing.assert_close(seen, before, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("places", [(0, 1, 6), (-1, 0, 1), (0, 1)])
def test_c61_positions_that_are_not_there_are_refused(places: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"rgb=.*0 to 5"):
        adapt_stem(torch.randn(4, 3, 3, 3), 6, places)


# ------------------------------------------------------------------------------------------------ weights in a local file


class Coloured(nn.Module):
    """A network as smp's: weights from `encoder_weights`, a file made on three channels."""

    def __init__(self, in_channels: int, classes: int, encoder_weights: str | None = None) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(in_channels, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1)
        )
        self.head = nn.Conv2d(8, classes, 1)
        if encoder_weights:
            self.encoder.load_state_dict(load_file(encoder_weights))

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.encoder(image))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    encoder = Coloured(3, 2).encoder
    encoder[1].running_mean.uniform_(-1, 1)
    save_file(encoder.state_dict(), tmp_path / "rgb.safetensors")
    return tmp_path / "rgb.safetensors"


@pytest.mark.parametrize(
    ("bands", "rgb", "places"),
    [
        (("nir", "b", "g", "r", "swir"), ("r", "g", "b"), {"r": 3, "g": 2, "b": 1}),
        (("nir", "r", "g", "swir"), ("r", "g", None), {"r": 1, "g": 2}),
        (("b", "g", "r"), ("r", "g", "b"), {"r": 2, "g": 1, "b": 0}),
        (("r", "g", "b", "nir"), None, {"r": 0, "g": 1, "b": 2}),
        (("r", "g", "b"), None, {"r": 0, "g": 1, "b": 2}),
        (("vv", "vh"), None, {}),
    ],
)
def test_c61_a_config_names_the_bands_that_are_red_green_blue(
    file: Path, bands: tuple[str, ...], rgb: tuple[str | None, ...] | None, places: dict[str, int]
) -> None:
    network = partial(Coloured, encoder_weights=str(file))
    model = build_model(bands, partial(Bands), partial(Fill), partial(ZScore), network, WATER, rgb)
    stem, source = model.network.encoder[0].weight, load_file(file)
    filters = source["0.weight"]
    for channel, band in enumerate(bands):
        own = [filters[:, "rgb".index(name)] for name, place in places.items() if place == channel]
        torch.testing.assert_close(stem[:, channel], own[0] if own else filters.mean(1), msg=band)
    for name, tensor in source.items():
        if name != "0.weight":
            assert torch.equal(model.network.encoder.state_dict()[name], tensor), name


def test_c61_a_band_that_is_not_there_is_refused(file: Path) -> None:
    network = partial(Coloured, encoder_weights=str(file))
    with pytest.raises(ConfigError, match=r"rgb: no channel red.*vh, vv"):
        build_model(("vh", "vv"), partial(Bands), partial(Fill), partial(ZScore), network, WATER, ("red", None, None))


def test_c61_an_image_in_colour_gives_what_the_pretrained_network_gives(file: Path) -> None:
    torch.manual_seed(0)
    wide = build_network(partial(Coloured, encoder_weights=str(file)), 5, 2, rgb=(4, 2, 0)).eval()
    plain = Coloured(3, 2, str(file)).eval()
    image, colours = torch.zeros(1, 5, 9, 9), torch.randn(1, 3, 9, 9)
    image[:, [4, 2, 0]] = colours
    with torch.inference_mode():
        torch.testing.assert_close(wide.encoder(image), plain.encoder(colours))


class Grouped(Coloured):
    """Its first convolution sees each channel on its own: there is no filter on red, green and blue together."""

    def __init__(self, in_channels: int, classes: int, encoder_weights: str | None = None) -> None:
        super().__init__(in_channels, classes, encoder_weights)
        self.encoder.insert(0, nn.Conv2d(in_channels, in_channels, 3, padding=1, groups=in_channels))


def test_c61_a_stem_that_cannot_be_adapted_stays_random_with_a_warning(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        network = build_network(partial(Grouped, encoder_weights=str(file)), 5, 2)
    torch.testing.assert_close(network.encoder[1].weight[:, :3], load_file(file)["0.weight"])
    assert "encoder.0.weight" in caplog.text


# ----------------------------------------------------------------------------------------------------- no hub in reach


class Hub:
    """A network factory like smp's: weights are looked for at a hub that cannot be reached."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.asked: list[str | None] = []

    def __call__(self, in_channels: int, classes: int, encoder_weights: str | None = "imagenet") -> nn.Module:
        if encoder_weights is not None:
            self.asked.append(encoder_weights)
            raise self.error
        return PixelNet(in_channels, classes)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No name can be looked up, no library may wait, and caches are empty; returns the hub's cache."""

    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail(f"waits {seconds} s for the hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "hub"


@pytest.mark.parametrize(
    "error",
    [
        OSError("cannot reach the hub"),
        URLError("no route to host"),
        ConnectionError("offline\nsecond line"),
        EOFError(),
    ],
)
@pytest.mark.parametrize("keywords", [{"encoder_weights": "imagenet"}, {}], ids=["asked", "by default"])
def test_c61_without_a_hub_one_warning_and_random_weights(
    offline: Path, error: Exception, keywords: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    hub = Hub(error)
    with caplog.at_level(logging.WARNING):
        network = build_network(partial(hub, **keywords), 3, 2)
    assert isinstance(network, PixelNet)
    assert hub.asked == ["imagenet"]
    assert len(caplog.records) == 1
    assert "imagenet" in caplog.text
    assert (str(error.args[0]) if error.args else "EOFError").splitlines()[0] in caplog.text


@pytest.mark.parametrize(
    "network",
    [
        partial(smp.Unet, "mobilenet_v2", encoder_weights="imagenet"),
        partial(smp.Unet, "mobilenet_v2"),
        partial(smp.Unet, "tu-mobilenetv3_small_050", encoder_weights=True),
        partial(smp.FPN, "dpn92", encoder_weights="imagenet"),
        partial(DeepLabV3ResNet101),
    ],
    ids=["smp", "smp by default", "timm", "no such weights for this encoder", "torchvision"],
)
def test_c61_real_libraries_neither_wait_nor_fail_without_a_network(
    offline: Path, network: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        made = build_network(network, 5, 2)
    with torch.inference_mode():
        assert made.eval()(torch.randn(1, 5, 32, 32)).shape == (1, 2, 32, 32)
    assert len([record for record in caplog.records if record.name == "swath.model"]) == 1
    assert "starting from random weights" in caplog.text
    assert not constants.HF_HUB_OFFLINE


def cached(cache: Path, repository: str, revision: str, tensors: dict[str, Tensor]) -> None:
    """Put weights where Hugging Face's hub keeps files that it has fetched."""
    root = cache / f"models--{repository.replace('/', '--')}"
    snapshot = root / "snapshots" / ("0" * 40 if revision == "main" else revision)
    snapshot.mkdir(parents=True)
    save_file(tensors, snapshot / "model.safetensors")
    (snapshot / "config.json").write_text("{}")
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(snapshot.name)


def test_c61_weights_of_smp_that_were_fetched_before_serve_without_a_network(
    offline: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = smp.Unet("mobilenet_v2", encoder_weights=None).encoder.state_dict()
    found = smp_encoders["mobilenet_v2"]["pretrained_settings"]["imagenet"]
    cached(offline, found["repo_id"], found["revision"], dict(source))
    made = build_network(partial(smp.Unet, "mobilenet_v2", encoder_weights="imagenet"), 5, 2).encoder.state_dict()
    assert not caplog.records
    stem = "features.0.0.weight"
    assert torch.equal(made[stem][:, :3], source[stem])
    torch.testing.assert_close(made[stem][:, 3:], source[stem].mean(1, keepdim=True).expand(-1, 2, -1, -1))
    assert all(torch.equal(made[name], source[name]) for name in source if name != stem)


def test_c61_weights_of_timm_that_were_fetched_before_serve_without_a_network(
    offline: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = timm.create_model("mobilenetv3_small_050", pretrained=False).state_dict()
    repository = timm.get_pretrained_cfg("mobilenetv3_small_050").hf_hub_id
    cached(offline, repository, "main", {n: t.contiguous() for n, t in source.items()})
    network = partial(smp.Unet, "tu-mobilenetv3_small_050", encoder_weights=True)
    made = build_network(network, 4, 2, rgb=(2, 1, 0)).encoder.model.state_dict()
    assert not [record for record in caplog.records if record.name == "swath.model"]
    stem = source["conv_stem.weight"]
    torch.testing.assert_close(made["conv_stem.weight"], torch.cat([stem.flip(1), stem.mean(1, keepdim=True)], dim=1))
    assert all(torch.equal(made[name], source[name]) for name in made if name != "conv_stem.weight")


def test_c61_deeplab_takes_the_weights_of_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    source = resnet101(weights=None).state_dict()
    monkeypatch.setattr("swath.nn.networks.deeplab.answers", lambda url: True)
    monkeypatch.setattr(ResNet101_Weights, "get_state_dict", lambda self, **_: source)
    made = build_network(partial(DeepLabV3ResNet101, encoder_weights="imagenet"), 4, 2).backbone.state_dict()
    assert torch.equal(made["conv1.weight"][:, :3], source["conv1.weight"])
    assert set(source) - set(made) == {"fc.weight", "fc.bias"}
    assert all(torch.equal(made[name], source[name]) for name in made if name != "conv1.weight")


def test_c61_no_weights_wanted_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    hub = Hub(OSError("cannot reach the hub"))
    with caplog.at_level(logging.WARNING):
        for nothing in (None, False):
            build_network(partial(hub, encoder_weights=nothing), 3, 2)
        build_network(partial(PixelNet), 3, 2)
    assert hub.asked == []
    assert not caplog.records
    assert wanted_weights(partial(smp.Unet)) == "imagenet"
    assert wanted_weights(partial(smp.Unet, "resnet18", 5, None)) is None


@pytest.mark.parametrize(
    "network",
    [
        partial(smp.Unet, "mobilenet_v2"),
        partial(smp.Unet, "mobilenet_v2", 5, "imagenet"),
        partial(smp.Unet, encoder_name="mobilenet_v2", encoder_weights="imagenet"),
        smp.Unet,
    ],
    ids=["by default", "by position", "by name", "class"],
)
def test_c61_one_who_brings_weights_asks_for_none(
    network: Any, offline: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bare = without_weights(network)
    assert wanted_weights(network) == "imagenet"
    assert wanted_weights(bare) is None
    with caplog.at_level(logging.WARNING):
        build_network(bare, 2, 2)
    assert not caplog.records
    assert build_network(network, 2, 2).encoder.out_channels == build_network(bare, 2, 2).encoder.out_channels


def test_c61_a_network_that_knows_no_weights_stays_as_it_is() -> None:
    for network in (partial(PixelNet, width=4), partial(smp.Unet, encoder_weights=None)):
        assert without_weights(network) is network


def test_c61_a_mistake_of_the_config_is_not_taken_for_a_missing_hub(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ConfigError, match="no_such_setting"):
        build_network(partial(Hub(OSError("x")), no_such_setting=1), 3, 2)
    with pytest.raises(ConfigError, match="resnet99"):
        build_network(partial(smp.Unet, encoder_name="resnet99"), 3, 2)
    assert not caplog.records


# ------------------------------------------------------------------------------------------------------------- servers


class NotFound(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_error(404)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), NotFound) as running:
        Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_c61_a_server_that_says_anything_answers(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert answers(server, patience=5)


def test_c61_a_server_that_is_silent_or_away_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert not answers(address, patience=0.2)
    assert not answers(address, patience=0.2)
