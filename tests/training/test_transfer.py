"""Warm starts and frozen parts: what is taken, what is told, what must not move."""

from __future__ import annotations

import copy
import logging
from functools import partial
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from swath import config
from swath.errors import ConfigError
from swath.nn.model import Classification, SegmentationModel, build_model
from swath.nn.networks.decoders import TaskDecoders
from swath.nn.networks.unet import AttentionGate, TransposedUp, UNet
from swath.nn.preprocess.channels import Bands, Fill
from swath.nn.preprocess.normalise import ZScore
from swath.training.checkpoint import read_tensors, save_state, save_weights, warm_start
from swath.training.transfer import WRAPPERS, Freezing, bare_name, freeze, load_matching, unfreeze
from tests.synthetic import echoes, labels


class Halves(nn.Module):
    """An encoder and a head, both with batch norm; the encoder with dropout and a norm without weights, too."""

    def __init__(self, in_channels: int, classes: int, width: int = 8) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(in_channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout2d(0.1),
            nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width, affine=False), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Sequential(nn.Conv2d(width, width, 1), nn.BatchNorm2d(width), nn.Conv2d(width, classes, 1))

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.encoder(image))


def made(seed: int, bands: int = 3, classes: int = 2, width: int = 8, mean: float = 0.0) -> SegmentationModel:
    torch.manual_seed(seed)
    task = {"water": Classification(classes=tuple(f"class {i}" for i in range(classes)))}
    names = tuple(f"band_{i}" for i in range(bands))
    normaliser = partial(ZScore, mean=mean, std=1.0)
    model = build_model(names, partial(Bands), partial(Fill), normaliser, partial(Halves, width=width), task)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.running_mean)
            layer.num_batches_tracked.fill_(seed + 5)
    return model


def network_of(model: SegmentationModel) -> dict[str, Tensor]:
    return {name: t.clone() for name, t in model.state_dict().items() if name.startswith("network.")}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# ---------------------------------------------------------------------------------------------------------- warm start


@pytest.mark.parametrize(
    "prefix", ["", "module.", "model.", "network.", "module.model.", "model.network.", "_orig_mod."]
)
@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth", ".ckpt"])
def test_c62_all_that_fits_is_loaded_whatever_the_prefix(tmp_path: Path, prefix: str, suffix: str) -> None:
    source, model = made(1), made(2, mean=3.0)
    wanted = network_of(source)
    assert not same(network_of(model), wanted)
    tensors = {prefix + name.removeprefix("network."): tensor for name, tensor in wanted.items()}
    file = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(tensors, file)
    else:
        torch.save({"state_dict": tensors, "epoch": 3} if suffix == ".ckpt" else tensors, file)
    found = warm_start(model, file)
    assert same(network_of(model), wanted)
    assert set(found.loaded) == set(wanted)
    assert set(found.skipped.values()) == {"excluded"}
    assert not found.unused
    assert float(model.preprocess.normaliser.offset.max()) == 3  # the config's, not that of the weights


def test_c62_own_files_serve(tmp_path: Path) -> None:
    source = made(1)
    save_weights(tmp_path / "w.safetensors", source)
    save_state(tmp_path / "state.pt", {"model": source.state_dict(), "optimizer": {"state": {}}, "iteration": 7})
    for name in ("w.safetensors", "state.pt"):
        model = made(2)
        warm_start(model, tmp_path / name)
        assert same(network_of(model), network_of(source))


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_c62_each_tensor_is_loaded_or_reported_with_its_reason(data: st.DataObject) -> None:
    """Any share of the tensors missing, any share in another shape, some strangers: nothing else changes."""
    source, model = made(1), made(2)
    before, given = network_of(model), network_of(source)
    names = sorted(given)
    fate = {name: data.draw(st.sampled_from(["fits", "fits", "missing", "shape"])) for name in names[:-1]}
    fate[names[-1]] = "fits"
    tensors = {name: t if fate[name] == "fits" else t[None] for name, t in given.items() if fate[name] != "missing"}
    found = load_matching(model, tensors | {"stranger.weight": torch.zeros(2)})
    after = network_of(model)
    assert set(found.loaded) == {name for name in names if fate[name] == "fits"}
    for name in names:
        assert torch.equal(after[name], given[name] if fate[name] == "fits" else before[name]), name
        if fate[name] != "fits":
            assert {"missing": "missing", "shape": f"shape {tuple(given[name][None].shape)}"}[
                fate[name]
            ] in found.skipped[name]
    assert set(found.unused) == {"stranger.weight", *(name for name in names if fate[name] == "shape")}
    assert found.loaded[0] not in str(found).split()
    assert "stranger.weight" in str(found)


def test_c62_another_number_of_bands_and_classes_leaves_both_ends(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source, model = made(1), made(2, bands=5, classes=4)
    save_weights(tmp_path / "w.safetensors", source)
    with caplog.at_level(logging.INFO):
        found = warm_start(model, tmp_path / "w.safetensors")
    reasons = {name: why for name, why in found.skipped.items() if why != "excluded"}
    assert reasons == {
        "network.encoder.0.weight": "shape (8, 3, 3, 3) in the weights, (8, 5, 3, 3) in the model",
        "network.head.2.weight": "shape (2, 8, 1, 1) in the weights, (4, 8, 1, 1) in the model",
        "network.head.2.bias": "shape (2,) in the weights, (4,) in the model",
    }
    assert "network.encoder.0.weight: shape (8, 3, 3, 3)" in caplog.text
    assert torch.equal(model.network.encoder[1].running_mean, source.network.encoder[1].running_mean)
    assert int(model.network.encoder[1].num_batches_tracked) == 6


def test_c62_weights_of_an_encoder_alone(tmp_path: Path) -> None:
    source, model = made(1), made(2)
    head = copy.deepcopy(model.network.head.state_dict())
    torch.save({f"module.{n}": t for n, t in source.network.encoder.state_dict().items()}, tmp_path / "encoder.pt")
    found = warm_start(model, tmp_path / "encoder.pt", part="network.encoder")
    assert not found.skipped
    assert same(model.network.encoder.state_dict(), source.network.encoder.state_dict())
    assert same(model.network.head.state_dict(), head)
    with pytest.raises(ConfigError, match=r"'network\.enc'.*network\.encoder"):
        warm_start(model, tmp_path / "encoder.pt", part="network.enc")


def unet(filters: tuple[int, ...], seed: int, **parts: object) -> nn.Module:
    torch.manual_seed(seed)
    return UNet(3, 2, filters, **parts)  # type: ignore[arg-type]


@pytest.mark.parametrize("parts", [{}, {"up": TransposedUp}, {"skip": AttentionGate}], ids=["plain", "deconv", "gates"])
@pytest.mark.parametrize("wrapper", ["", "network."])
def test_c62_a_shallower_network_becomes_the_outer_blocks_of_a_deeper_one(
    parts: dict[str, object], wrapper: str
) -> None:
    """The first blocks of the way down and the last ones of the way up, as each works at the same resolution."""
    shallow, deep = unet((4, 6, 6), 1, **parts), unet((4, 6, 6, 6, 6), 2, **parts)
    before = {name: t.clone() for name, t in deep.state_dict().items()}
    found = load_matching(deep, {wrapper + name: t for name, t in shallow.state_dict().items()})
    expected = dict(before)
    for name, tensor in shallow.state_dict().items():
        parts_of_name = name.split(".")
        if parts_of_name[0] == "decoder":  # two levels of the shallow one, four of the deep one
            parts_of_name[2] = str(int(parts_of_name[2]) + 2)
        expected[".".join(parts_of_name)] = tensor
    assert same(deep.state_dict(), expected)
    assert not found.unused
    assert set(found.skipped) == {name for name in before if torch.equal(expected[name], before[name])} - set(
        found.loaded
    )


def test_c62_a_deeper_network_gives_its_outer_blocks_to_a_shallower_one() -> None:
    shallow, deep = unet((4, 6, 6), 1), unet((4, 6, 6, 6), 2)
    found = load_matching(shallow, deep.state_dict())
    for number in (0, 1):
        given = deep.decoder.get_submodule(f"levels.{number + 1}").state_dict()
        assert same(shallow.decoder.get_submodule(f"levels.{number}").state_dict(), given)
    assert {name.split(".")[:3][0] for name in found.unused} == {"encoder", "decoder"}
    assert {".".join(name.split(".")[:3]) for name in found.unused} == {"encoder.levels.3", "decoder.levels.0"}


@pytest.mark.parametrize("network", [smp.Unet, smp.Linknet, smp.MAnet])
def test_c62_decoders_of_smp_are_matched_by_resolution(network: type[nn.Module]) -> None:
    """The two networks have equal channels at equal resolution: an outer block fits its own place alone."""
    given = {"encoder_name": "resnet18", "encoder_weights": None}
    channels = {} if network is smp.Linknet else {"decoder_channels": (128, 64, 32, 16)}
    more = {} if network is smp.Linknet else {"decoder_channels": (256, 128, 64, 32, 16)}
    shallow, deep = network(**given, encoder_depth=4, **channels), network(**given, **more)
    found = load_matching(deep, shallow.state_dict())
    for number in range(1, 4):
        own = deep.decoder.get_submodule(f"blocks.{number + 1}").state_dict()
        theirs = shallow.decoder.get_submodule(f"blocks.{number}").state_dict()
        assert same(own, theirs), number
    assert found.loaded


def test_c62_each_tasks_decoder_takes_its_outer_blocks() -> None:
    shallow, deep = (
        TaskDecoders(3, {"a": 2, "b": 1}, partial(UNet, filters=filters)) for filters in ((4, 6, 6), (4, 6, 6, 6))
    )
    load_matching(deep, shallow.state_dict())
    for task in ("a", "b"):
        assert same(deep.decoders[task].levels[2].state_dict(), shallow.decoders[task].levels[1].state_dict())


def test_c62_what_is_excluded_stays() -> None:
    source, model = made(1), made(2)
    head = copy.deepcopy(model.network.head.state_dict())
    found = load_matching(model, source.state_dict(), exclude=("preprocess.", "network.head"))
    assert same(model.network.head.state_dict(), head)
    assert found.skipped["network.head.0.weight"] == "excluded"
    assert same(model.network.encoder.state_dict(), source.network.encoder.state_dict())


def test_c62_an_exact_name_goes_before_one_without_prefix() -> None:
    model = nn.ModuleDict({"a": nn.Linear(1, 1)})
    load_matching(model, {"a.weight": torch.ones(1, 1), "module.a.weight": torch.zeros(1, 1)})
    assert torch.equal(model["a"].weight, torch.ones(1, 1))


@given(st.lists(st.sampled_from(WRAPPERS), max_size=4))
def test_c62_prefixes_go_in_any_order_and_number(prefixes: list[str]) -> None:
    assert bare_name("".join(prefixes) + "encoder.model.weight") == "encoder.model.weight"


def test_c62_weights_of_another_network_are_an_error(tmp_path: Path) -> None:
    model = made(1)
    before = network_of(model)
    with pytest.raises(ConfigError, match=r"none of 1 tensors.*fc\.weight.*network\.encoder\.0\.weight"):
        load_matching(model, {"fc.weight": torch.zeros(3)})
    with pytest.raises(
        ConfigError, match=r"none of.*shape \(16, 3, 3, 3\) in the weights, \(8, 3, 3, 3\) in the model"
    ):
        load_matching(model, {"network.encoder.0.weight": torch.zeros(16, 3, 3, 3)})
    assert same(network_of(model), before)


def test_c62_files_that_hold_no_weights_are_an_error(tmp_path: Path) -> None:
    for name, content in {"plain.pt": {"epoch": 3}, "list.pt": [1, 2], "model.pt": nn.Linear(1, 1)}.items():
        torch.save(content, tmp_path / name)
        with pytest.raises(ConfigError, match=name):
            read_tensors(tmp_path / name)
    for name in ("broken.pt", "broken.safetensors", "empty.pt"):
        (tmp_path / name).write_bytes(b"" if name == "empty.pt" else b"no weights")
        with pytest.raises(ConfigError, match=name):
            read_tensors(tmp_path / name)
    with pytest.raises(ConfigError, match=r"none\.pt"):
        read_tensors(tmp_path / "none.pt")


# -------------------------------------------------------------------------------------------------------------- freeze


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.5)


def train_epoch(model: SegmentationModel, optimizer: torch.optim.Optimizer, epoch: int, steps: int = 2) -> None:
    """As the trainer does: training mode before every step, an evaluation after the epoch; seeded by the epoch."""
    torch.manual_seed(100 + epoch)
    for step in range(steps):
        model.train()
        optimizer.zero_grad(set_to_none=True)
        logits = model(echoes((4, 3, 8, 8), seed=10 * epoch + step))["water"]
        F.cross_entropy(logits, labels((4, 8, 8), ignored=0, seed=10 * epoch + step).long()).backward()
        optimizer.step()
    model.eval()


def split(model: SegmentationModel) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    return copy.deepcopy(model.network.encoder.state_dict()), copy.deepcopy(model.network.head.state_dict())


def test_c62_a_frozen_encoder_does_not_move_and_the_head_does() -> None:
    """Weights, running statistics and counters: bit for bit, against weight decay and batches in training mode."""
    model = made(0)
    optimizer = optimizer_of(model)
    assert Freezing(epochs=2).apply(model, 0)
    encoder, head = split(model)
    for epoch in range(2):
        train_epoch(model, optimizer, epoch)
    frozen, moved = split(model)
    assert same(frozen, encoder)
    assert all(not torch.equal(moved[name], head[name]) for name in head)


def test_c62_after_unfreezing_everything_moves() -> None:
    model = made(0)
    optimizer = optimizer_of(model)
    freezing = Freezing(epochs=1)
    changes = []
    for epoch in range(3):
        before = split(model)[0]
        changes.append(freezing.apply(model, epoch))
        train_epoch(model, optimizer, epoch)
        after = split(model)[0]
        assert all(torch.equal(after[name], before[name]) == (epoch == 0) for name in before)
    assert changes == [True, True, False]


def test_c62_never_frozen_trains_as_without() -> None:
    one, other = made(0), made(0)
    for model, freezing in ((one, Freezing(epochs=0)), (other, None)):
        optimizer = optimizer_of(model)
        for epoch in range(2):
            if freezing:
                assert not freezing.apply(model, epoch)
            train_epoch(model, optimizer, epoch)
    assert same(network_of(one), network_of(other))


def test_c62_frozen_features_are_those_of_evaluation() -> None:
    model = made(0)
    for layer in model.network.encoder:
        if isinstance(layer, nn.Dropout2d):
            layer.p = 0.0
    freeze(model)
    image = echoes((4, 3, 8, 8))
    model.eval()
    wanted = model.network.encoder(image)
    model.train()
    assert model.training
    assert model.network.head[1].training
    assert model.network.encoder[3].training  # dropout is not part of it
    assert torch.equal(model.network.encoder(image), wanted)


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_c62_a_resumed_training_is_where_it_was(stop: int) -> None:
    freezing = Freezing(epochs=2)
    whole = made(0)
    optimizer = optimizer_of(whole)
    for epoch in range(4):
        freezing.apply(whole, epoch)
        train_epoch(whole, optimizer, epoch)
        if epoch + 1 == stop:
            state = copy.deepcopy((whole.state_dict(), optimizer.state_dict()))
    again = made(9)
    optimizer = optimizer_of(again)
    again.load_state_dict(state[0])
    optimizer.load_state_dict(state[1])
    for epoch in range(stop, 4):
        freezing.apply(again, epoch)
        train_epoch(again, optimizer, epoch)
    assert same(network_of(again), network_of(whole))


@given(st.integers(0, 5) | st.none(), st.lists(st.integers(0, 8), max_size=4))
@settings(max_examples=15, deadline=None)
def test_c62_the_state_depends_on_the_epoch_only(epochs: int | None, path: list[int]) -> None:
    model, freezing = made(0), Freezing(epochs=epochs)
    for epoch in [*path, 3]:
        freezing.apply(model, epoch)
    held = epochs is None or epochs > 3
    assert [p.requires_grad for p in model.network.encoder.parameters()] == [not held] * 6
    assert all(p.requires_grad for p in model.network.head.parameters())
    model.train()
    assert [layer.training for layer in model.network.encoder] == [not (held and i in (1, 5)) for i in range(7)]


def test_c62_parts_in_one_another_stay_frozen() -> None:
    model = made(0)
    freeze(model, "encoder.0")
    freeze(model, "network.encoder")
    unfreeze(model, "encoder")
    assert not any(p.requires_grad for p in model.network.encoder[0].parameters())
    assert all(p.requires_grad for p in model.network.encoder[4].parameters())
    unfreeze(model, "encoder.0")
    assert all(p.requires_grad for p in model.parameters())


def test_c62_freezing_takes_effect_at_once() -> None:
    model = made(0).train()
    freeze(model)
    assert not model.network.encoder[1].training
    unfreeze(model)
    assert model.network.encoder[1].training


def test_c62_a_copy_stays_frozen() -> None:
    model = made(0)
    freeze(model)
    twin = copy.deepcopy(model).train()
    assert not twin.network.encoder[1].training
    unfreeze(twin)
    assert twin.train().network.encoder[1].training
    assert not model.train().network.encoder[1].training


def test_c62_a_part_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'backbone'.*network\.encoder, network\.head"):
        freeze(made(0), "backbone")
    with pytest.raises(ConfigError, match=r"epochs=-1"):
        Freezing(epochs=-1)


def test_c62_freezing_is_a_value_of_a_config() -> None:
    value = Freezing(part="encoder.layer1", epochs=3)
    assert config.build(config.resolve(value)) == value
    assert config.override(value, "epochs", "None") == Freezing(part="encoder.layer1")
