"""LWRefineNet: torchvision's MobileNetV2 and plain functions as oracles, sizes, gradients, initial values."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import mobilenet_v2

from swath.nn.model import count_parameters
from swath.nn.networks.lwrefinenet import ChainedResidualPooling, LWRefineNet, MobileNetV2

TABLE = [(1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4), (6, 96, 3), (6, 160, 3), (6, 320, 1)]


def counted(in_channels: int, classes: int) -> int:
    """Values of the network by arithmetic: convolutions without bias, two values per channel of each batch norm."""
    total, inputs = in_channels * 32 * 9 + 2 * 32, 32
    for expansion, outputs, blocks in TABLE:
        for _ in range(blocks):
            hidden = inputs * expansion
            total += inputs * hidden + 2 * hidden + 9 * hidden + 2 * hidden + hidden * outputs + 2 * outputs
            inputs = outputs
    lateral = (24 + 32 + 64 + 96 + 160 + 320) * 256
    return total + lateral + (4 * 4 + 3) * 256 * 256 + 256 * classes * 9 + classes


@pytest.mark.parametrize(("in_channels", "classes"), [(3, 2), (1, 1), (6, 5)])
def test_c57_lwrefinenet_has_as_many_values_as_the_table_says(in_channels: int, classes: int) -> None:
    assert count_parameters(LWRefineNet(in_channels, classes)) == counted(in_channels, classes)


def test_c57_lwrefinenet_levels_have_the_strides_of_the_table() -> None:
    with torch.inference_mode():
        features = MobileNetV2(5).eval()(torch.randn(1, 5, 96, 160))
    assert [f.shape[1] for f in features] == [outputs for _, outputs, _ in TABLE]
    assert [(96 // f.shape[2], 160 // f.shape[3]) for f in features] == [(s, s) for s in (2, 4, 8, 16, 16, 32, 32)]


def test_c57_lwrefinenet_encoder_computes_what_torchvision_computes() -> None:
    """With the pointwise convolution that torchvision leaves out in the first block set to the identity."""
    torch.manual_seed(0)
    theirs, ours = mobilenet_v2(weights=None).features[:-1].eval(), MobileNetV2(3).eval()
    for layer in theirs.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.running_mean, -0.2, 0.2)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    extra = ours.groups[0][0].layers[0]
    with torch.no_grad():
        extra[0].weight.copy_(torch.eye(32)[..., None, None])
        extra[1].weight.fill_((1 + extra[1].eps) ** 0.5)
    added = {f"groups.0.0.layers.0.{name}" for name in extra.state_dict()}
    names = [name for name in ours.state_dict() if name not in added]
    ours.load_state_dict(dict(zip(names, theirs.state_dict().values(), strict=True)), strict=False)
    image = torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        torch.testing.assert_close(ours(image)[-1], theirs(image), rtol=1e-4, atol=1e-5)


def test_c57_chained_residual_pooling_is_the_sum_of_its_chain() -> None:
    block = ChainedResidualPooling(channels=3)
    image = torch.randn(1, 3, 9, 11)
    link = total = image[0].double().numpy()
    for convolution in block.stages:
        pooled = scipy.ndimage.maximum_filter(link, size=(1, 5, 5), mode="constant", cval=-np.inf)
        link = np.einsum("oi,ihw->ohw", convolution.weight[:, :, 0, 0].detach().double().numpy(), pooled)
        total = total + link
    assert len(block.stages) == 4
    np.testing.assert_allclose(block(image)[0].detach().numpy(), total, rtol=1e-4, atol=1e-5)


def by_hand(network: LWRefineNet, image: Tensor) -> Tensor:
    """The decoder of the paper, written out from fine names to coarse ones."""
    _, l3, l4, l5, l6, l7, l8 = network.encoder(image)
    one, two, three, four = network.decoder

    def up(features: Tensor, like: Tensor) -> Tensor:
        return F.interpolate(features, like.shape[-2:], mode="bilinear", align_corners=True)

    x = four.adapt(four.pooling(F.relu6(four.lateral[0](l7) + four.lateral[1](l8))))
    x = three.adapt(three.pooling(F.relu6(three.lateral[0](l5) + three.lateral[1](l6) + up(x, l6))))
    x = two.adapt(two.pooling(F.relu6(two.lateral[0](l4) + up(x, l4))))
    x = one.pooling(F.relu6(one.lateral[0](l3) + up(x, l3)))
    return F.interpolate(network.head(x), image.shape[-2:], mode="bicubic", align_corners=False)


def test_c57_lwrefinenet_joins_its_levels_as_in_the_paper() -> None:
    torch.manual_seed(0)
    network = LWRefineNet(3, 2).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    image = torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        out = network(image)
        torch.testing.assert_close(out, by_hand(network, image))
    assert float(out.std()) > 0


@pytest.mark.parametrize("shape", [(65, 97), (33, 40), (1, 1), (31, 64), (96, 128)])
def test_c57_lwrefinenet_answers_in_the_size_of_any_input(shape: tuple[int, int]) -> None:
    with torch.inference_mode():
        out = LWRefineNet(5, 3).eval()(torch.randn(2, 5, *shape))
    assert out.shape == (2, 3, *shape)
    assert torch.isfinite(out).all()


def test_c57_lwrefinenet_gradients_reach_every_value() -> None:
    torch.manual_seed(0)
    network = LWRefineNet(4, 2).train()
    out = network(torch.randn(2, 4, 96, 96))
    F.cross_entropy(out, torch.randint(0, 2, (2, 96, 96))).backward()
    without = [n for n, p in network.named_parameters() if p.grad is None or not bool((p.grad != 0).any())]
    assert not without


def test_c57_lwrefinenet_starts_from_a_normal_distribution_of_width_one_hundredth() -> None:
    torch.manual_seed(0)
    network = LWRefineNet(3, 2)
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    for layer in layers:
        spread = layer.weight.numel() ** -0.5
        assert float(layer.weight.detach().std()) == pytest.approx(0.01, rel=4 * spread)
        assert abs(float(layer.weight.detach().mean())) < 5 * 0.01 * spread
    weights = torch.cat([layer.weight.detach().flatten() for layer in layers])[::50].double().numpy()
    assert scipy.stats.kstest(weights / 0.01, "norm").pvalue > 1e-3
    assert network.head.bias is not None
    assert not bool(network.head.bias.any())
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert all(bool((n.weight == 1).all()) and not bool(n.bias.any()) for n in norms)


def test_c57_lwrefinenet_learns_in_half_precision_too() -> None:
    torch.manual_seed(0)
    network = LWRefineNet(3, 2).train()
    with torch.autocast("cpu", torch.bfloat16):
        loss = F.cross_entropy(network(torch.randn(2, 3, 64, 64)).float(), torch.randint(0, 2, (2, 64, 64)))
    loss.backward()
    assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in network.parameters())
