"""U-Nets: sizes, depth, gates, and one decoder per task."""

from __future__ import annotations

from functools import partial

import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from torch import nn

from swath.errors import ConfigError
from swath.nn.networks.decoders import TaskDecoders
from swath.nn.networks.lwrefinenet import LWRefineNet
from swath.nn.networks.unet import AttentionGate, CrossAttention, SelfAttention, TransposedUp, UNet, positions

TRANSFORMER = {"skip": partial(CrossAttention, heads=2, side=4), "middle": partial(SelfAttention, heads=2, side=4)}


@pytest.mark.parametrize("filters", [(4, 6), (4, 6, 8, 8), (2, 2, 4, 4, 4, 4, 4, 4)])
@pytest.mark.parametrize(
    "parts",
    [{}, {"up": TransposedUp}, {"skip": AttentionGate}, TRANSFORMER],
    ids=["plain", "deconv", "gates", "transformer"],
)
def test_c58_any_depth_any_size(filters: tuple[int, ...], parts: dict[str, object]) -> None:
    net = UNet(3, 5, filters, **parts).eval()  # type: ignore[arg-type]
    side = 2 ** (len(filters) - 1)
    for shape in ((side, side), (side + 1, 2 * side + 1), (2 * side - 1, side + 3)):
        assert net(torch.rand(2, 3, *shape)).shape == (2, 5, *shape)


def test_c58_convolutions_by_filters_and_levels() -> None:
    net = UNet(24, 12, (16, 32, 32, 32))
    down = [tuple(c.weight.shape[:2]) for c in net.encoder.modules() if isinstance(c, nn.Conv2d)]
    assert down == [(16, 24), (16, 16), (32, 16), (32, 32), (32, 32), (32, 32), (32, 32), (32, 32)]
    with pytest.raises(ConfigError, match="two levels"):
        UNet(3, 2, (8,))


@pytest.mark.parametrize("parts", [{}, {"skip": AttentionGate}, TRANSFORMER], ids=["plain", "gates", "transformer"])
def test_c58_c59_every_parameter_learns(parts: dict[str, object]) -> None:
    torch.manual_seed(0)
    net = UNet(3, 2, (4, 8, 8), **parts)  # type: ignore[arg-type]
    net(torch.rand(2, 3, 32, 40)).square().sum().backward()
    still = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert [name for name in still if not name.endswith("attention.in_proj_bias")] == []


def test_c59_open_gates_are_the_plain_network() -> None:
    torch.manual_seed(0)
    gated, plain = UNet(3, 2, (4, 8, 8), skip=AttentionGate).eval(), UNet(3, 2, (4, 8, 8)).eval()
    plain.load_state_dict({k: v for k, v in gated.state_dict().items() if ".skips." not in k})
    image = torch.rand(1, 3, 24, 28)
    assert not torch.equal(gated(image), plain(image))
    for gate in gated.decoder.skips:
        nn.init.zeros_(gate.psi.weight)
        nn.init.constant_(gate.psi.bias, 100.0)
    assert torch.equal(gated(image), plain(image))


def test_c59_a_gate_weighs_each_pixel_as_the_formula_says() -> None:
    torch.manual_seed(0)
    gate, skip, deep = AttentionGate(4, 6).eval(), torch.rand(1, 4, 5, 5), torch.rand(1, 6, 5, 5)
    inner = F.relu(gate.of_skip(skip) + gate.of_deep(deep))
    weight = (inner * gate.psi.weight).sum(1, keepdim=True) + gate.psi.bias
    torch.testing.assert_close(gate(skip, deep), skip / (1 + torch.exp(-weight)))


def test_c58_positions_differ_from_cell_to_cell() -> None:
    code = positions(8, 6, 7).flatten(1).T
    assert torch.unique(code, dim=0).shape == (42, 8)
    assert float(code.abs().max()) <= 1.0


@pytest.mark.parametrize(
    "network",
    [partial(UNet, filters=(4, 8, 8)), partial(smp.Unet, encoder_name="resnet18", encoder_weights=None)],
    ids=["own", "smp"],
)
def test_c60_one_decoder_per_task_on_one_encoder(network: partial[nn.Module]) -> None:
    torch.manual_seed(0)
    sizes = {"SIC": 1, "SOD": 6, "FLOE": 7}
    net = TaskDecoders(4, sizes, network).eval()
    image = torch.rand(1, 4, 64, 64)
    parts = dict(zip(sizes, net(image).split(list(sizes.values()), dim=1), strict=True))
    parts["SOD"].sum().backward()
    touched = {name for name, p in net.named_parameters() if p.grad is not None and p.grad.any()}
    assert any(name.startswith("encoder.") for name in touched)
    assert all(".SOD." in name for name in touched if not name.startswith("encoder."))
    fewer = TaskDecoders(4, {"SIC": 1, "FLOE": 7}, network).eval()
    fewer.load_state_dict({k: v for k, v in net.state_dict().items() if ".SOD." not in k})
    assert torch.equal(fewer(image), torch.cat([parts["SIC"], parts["FLOE"]], dim=1))


def test_c60_networks_of_other_parts_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"network=LWRefineNet\): it has no segmentation_head"):
        TaskDecoders(3, {"a": 2}, LWRefineNet)


def test_c58_a_bridge_is_one_more_level() -> None:
    net = UNet(3, 2, (4, 6, 8), bridge=True)
    plain = UNet(3, 2, (4, 6, 8, 8))
    assert {name: p.shape for name, p in net.named_parameters()} == {
        name: p.shape for name, p in plain.named_parameters()
    }
