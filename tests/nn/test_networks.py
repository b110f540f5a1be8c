"""Every network that configs name: any bands, any size, and errors that say what to do."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import nn
from torchvision.models.segmentation import deeplabv3_resnet101

from swath.errors import ConfigError, SwathError, TrainingError
from swath.nn.model import Classification, SegmentationModel, build_model
from swath.nn.networks.deeplab import DeepLabV3ResNet101
from swath.nn.networks.lwrefinenet import LWRefineNet
from swath.nn.networks.pretrained import build_network, check_network
from swath.nn.preprocess.channels import Bands, Fill
from swath.nn.preprocess.normalise import ZScore

WATER = {"water": Classification()}
ARCHITECTURES = (
    smp.Unet, smp.UnetPlusPlus, smp.FPN, smp.PSPNet, smp.Linknet, smp.MAnet, smp.DeepLabV3, smp.DeepLabV3Plus,
    smp.Segformer, smp.UPerNet, smp.PAN,
)  # fmt: skip
ENCODERS = ("resnet18", "mobilenet_v2", "efficientnet-b0", "mit_b0", "tu-mobilenetv3_small_050")
IMPOSSIBLE = {(smp.UnetPlusPlus, "mit_b0"), (smp.Linknet, "mit_b0")}
POOLED = (smp.DeepLabV3, smp.DeepLabV3Plus, smp.UPerNet)
BANDS, SHAPES = (1, 3, 5, 6), ((33, 40), (65, 97))
"""In turn over the cases: every architecture meets all of them."""
CASES = list(itertools.product(ARCHITECTURES, ENCODERS))


def model_of(network: Any, bands: int = 3) -> SegmentationModel:
    torch.manual_seed(0)
    names = tuple(f"band_{i}" for i in range(bands))
    return build_model(names, partial(Bands), partial(Fill), partial(ZScore, mean=0.0, std=1.0), network, WATER)


def require_sizes(model: SegmentationModel, bands: int, shapes: list[tuple[int, int]]) -> None:
    with torch.inference_mode():
        for shape in shapes:
            out = model.eval()(torch.randn(1, bands, *shape))["water"]
            assert out.shape == (1, 2, *shape)
            assert torch.isfinite(out).all()
            assert float(out.std()) > 0


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    ("architecture", "encoder", "bands", "shape"),
    [(*case, BANDS[i % 4], SHAPES[i % 2]) for i, case in enumerate(CASES) if case not in IMPOSSIBLE],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_c57_every_architecture_answers_in_the_size_of_its_input(
    architecture: Any, encoder: str, bands: int, shape: tuple[int, int]
) -> None:
    model = model_of(partial(architecture, encoder_name=encoder, encoder_weights=None), bands)
    require_sizes(model, bands, [(129, 140)] if architecture is smp.PAN else [shape])


@pytest.mark.parametrize(
    ("architecture", "encoder", "bands"),
    [
        (smp.FPN, "se_resnext50_32x4d", 5),
        (smp.FPN, "efficientnet-b4", 3),
        (smp.FPN, "dpn92", 3),
        (smp.Unet, "resnet50", 3),
        (smp.Unet, "efficientnet-b3", 3),
        (smp.Linknet, "densenet121", 3),
        (smp.Linknet, "se_resnext50_32x4d", 3),
        (smp.PSPNet, "resnet50", 3),
        (smp.Unet, "tu-convnext_atto", 4),
    ],
)
def test_c57_networks_of_the_flood_baselines_and_a_newer_one(architecture: Any, encoder: str, bands: int) -> None:
    require_sizes(model_of(partial(architecture, encoder_name=encoder, encoder_weights=None), bands), bands, [(33, 40)])


@pytest.mark.parametrize("bands", [3, 5])
def test_c57_lwrefinenet_by_config(bands: int) -> None:
    require_sizes(model_of(partial(LWRefineNet), bands), bands, [(33, 40), (65, 97)])


# ------------------------------------------------------------------------------------------------------------- deeplab


@pytest.fixture(scope="module")
def deeplab() -> DeepLabV3ResNet101:
    torch.manual_seed(0)
    return DeepLabV3ResNet101(in_channels=5, classes=3, encoder_weights=None).eval()


def test_c57_deeplab_answers_in_the_size_of_its_input(deeplab: DeepLabV3ResNet101) -> None:
    with torch.inference_mode():
        for shape in [(33, 40), (65, 97)]:
            assert deeplab(torch.randn(1, 5, *shape)).shape == (1, 3, *shape)


def test_c57_deeplab_is_that_of_torchvision(deeplab: DeepLabV3ResNet101) -> None:
    """Same names, same output; with bands 4 and 5 silent, the first three are torchvision's RGB."""
    theirs = deeplabv3_resnet101(weights=None, weights_backbone=None, num_classes=3, aux_loss=False).eval()
    ours = {name: tensor for name, tensor in deeplab.state_dict().items() if name != "backbone.conv1.weight"}
    stem = deeplab.backbone.conv1.weight
    theirs.load_state_dict(ours | {"backbone.conv1.weight": stem[:, :3]})
    image = torch.randn(1, 5, 40, 48)
    image[:, 3:] = 0
    with torch.inference_mode():
        torch.testing.assert_close(deeplab(image), theirs(image[:, :3])["out"])


def test_c57_deeplab_with_other_weights_is_refused() -> None:
    with pytest.raises(ConfigError, match="coco"):
        DeepLabV3ResNet101(3, 2, encoder_weights="coco")


# ---------------------------------------------------------------------------------------------- too little to train on


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda a: a.__name__)
def test_c57_one_sample_trains_or_says_what_to_do(architecture: Any) -> None:
    model = model_of(partial(architecture, encoder_name="resnet18", encoder_weights=None)).train()
    if architecture in (*POOLED, smp.PAN):
        with pytest.raises(TrainingError, match=r"1 sample of 128 x 128 pixels.*data\.batch"):
            model(torch.randn(1, 3, 128, 128))
    else:
        assert torch.isfinite(model(torch.randn(1, 3, 128, 128))["water"]).all()
    assert torch.isfinite(model(torch.randn(2, 3, 128, 128))["water"]).all()


@pytest.mark.parametrize("network", [partial(LWRefineNet), partial(DeepLabV3ResNet101, encoder_weights=None)])
def test_c57_one_small_sample_says_what_to_do(network: Any) -> None:
    with pytest.raises(TrainingError, match=r"1 sample of 32 x 32 pixels.*data\.batch.*data\.crop"):
        model_of(network).train()(torch.randn(1, 3, 20, 30))


def test_c57_pan_says_how_much_it_needs() -> None:
    model = model_of(partial(smp.PAN, encoder_name="resnet18", encoder_weights=None)).eval()
    with pytest.raises(TrainingError, match=r"96 x 96 pixels.*128"):
        model(torch.randn(1, 3, 96, 96))


class Broken(nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("something else")


def test_c57_other_errors_of_a_network_are_left_as_they_are() -> None:
    model = SegmentationModel(nn.Identity(), Broken(), WATER)
    with pytest.raises(RuntimeError, match=r"^something else$") as caught:
        model(torch.zeros(1, 1, 4, 4))
    assert not isinstance(caught.value, SwathError)


# ------------------------------------------------------------------------------------------------- mistakes of a config


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"encoder_name": "resnet81"}, r"encoder_name=resnet81.*resnet18"),
        ({"encoder_name": "se_resnext50"}, r"encoder_name=se_resnext50.*se_resnext50_32x4d"),
        ({"encoder_name": "efficientnet_b3"}, r"efficientnet_b3.*efficientnet-b3"),
        ({"encoder_name": "convnext_tiny"}, r"convnext_tiny.*tu-convnext_tiny"),
        ({"encoder_name": "tu-convnext_tny"}, r"tu-convnext_tny.*tu-convnext_tiny"),
        ({"encoder_name": "tu-resnet18.a1_in1"}, r"tu-resnet18\.a1_in1:.*tu-resnet18\.a1_in1k"),
        ({"encoder_name": "resnet18", "encoder_weights": "imagnet"}, r"'imagnet'.*imagenet, ssl, swsl"),
        ({"encoder_name": "resnet18", "encoder_depth": 4}, r"encoder_depth=4.*4 instead of 5"),
        ({"encoder_name": "resnet18", "decoder_channels": (64, 32)}, r"encoder_depth=5.*\(64, 32\).*5 instead of 2"),
        ({"encoder_name": "resnet18", "decoder_chanels": 3}, r"decoder_chanels.*decoder_channels"),
    ],
)
def test_c57_a_mistake_of_the_config_is_named_before_anything_is_built(settings: Any, message: str) -> None:
    network = partial(smp.Unet, **({"encoder_weights": None} | settings))
    with pytest.raises(ConfigError, match=message):
        check_network(network)
    with pytest.raises(ConfigError, match=message):
        build_network(network, 3, 2)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (
            partial(smp.Unet, encoder_name="resnet18", encoder_depth=6, decoder_channels=(8,) * 6),
            r"Unet\(resnet18\).*6",
        ),
        (partial(smp.UnetPlusPlus, encoder_name="mit_b0"), r"UnetPlusPlus\(mit_b0\)"),
        (partial(smp.Linknet, encoder_name="mit_b0"), r"Linknet\(mit_b0\)"),
        (partial(smp.DeepLabV3, encoder_name="densenet121"), r"DeepLabV3\(densenet121\).*dilated"),
        (partial(smp.DeepLabV3, encoder_name="tu-hrnet_w18_small"), r"DeepLabV3\(tu-hrnet_w18_small\).*combination"),
        (partial(smp.FPN, encoder_name="tu-resnet18", no_such=1), r"FPN\(tu-resnet18\).*no_such"),
        (partial(smp.FPN, encoder_name="resnet18", decoder_merge_policy="max"), r"FPN\(resnet18\).*max"),
    ],
)
def test_c57_what_a_network_refuses_is_an_error_of_the_config(network: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_network(partial(network, encoder_weights=None), 3, 2)


@pytest.mark.parametrize(
    "name", ["resnet18", "tu-resnet18", "tu-resnet18.a1_in1k", "timm-res2net50_26w_4s", "timm-efficientnet-b0"]
)
def test_c57_encoders_that_exist_pass(name: str) -> None:
    check_network(partial(smp.Unet, name, encoder_weights=None))
    check_network(partial(smp.Linknet, encoder_name=name, encoder_depth=4))
    check_network(partial(LWRefineNet))


class Faulty(nn.Module):
    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__()
        self.weights = in_channels + None


def test_c57_a_fault_in_a_network_of_ones_own_keeps_its_traceback() -> None:
    with pytest.raises(TypeError, match="unsupported operand"):
        build_network(partial(Faulty), 3, 2)
