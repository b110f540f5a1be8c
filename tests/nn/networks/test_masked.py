"""Masked image modelling: what is hidden, what counts, what an encoder may see, and what a training takes from it."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from swath.errors import ConfigError
from swath.nn.networks.decoders import TaskDecoders
from swath.nn.networks.masked import (
    Guess,
    MaskedModel,
    MaskedPyramid,
    MaskedTransformer,
    Reconstruction,
    draw_hidden,
    from_patches,
    to_patches,
)
from swath.nn.preprocess.channels import Bands, Fill, Preprocess
from swath.nn.preprocess.normalise import ZScore
from swath.training.config import DataConfig
from swath.training.learner import Learner, parameter_groups
from swath.training.pretrain_config import PretrainConfig
from swath.training.transfer import for_channels
from tests.synthetic import TINY_VIT


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def preprocess(bands: int) -> Preprocess:
    made = Preprocess(Bands([f"b{i}" for i in range(bands)]), Fill(bands), ZScore(bands, mean=0.0, std=1.0))
    return made.eval()


def vit(bands: int = 2) -> nn.Module:
    return TINY_VIT(in_channels=bands, classes=1).encoder


# ------------------------------------------------------------------------------------------------------ what is hidden


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 5), st.integers(2, 80), st.floats(0.01, 0.99), st.integers(0, 1000))
def test_c63_every_sample_hides_exactly_the_share_that_is_asked_for(
    samples: int, patches: int, ratio: float, seed: int
) -> None:
    hidden = draw_hidden(samples, patches, ratio, generator(seed))
    assert set(hidden.sum(1).tolist()) == {min(max(round(ratio * patches), 1), patches - 1)}
    assert torch.equal(hidden, draw_hidden(samples, patches, ratio, generator(seed)))


def test_c63_all_choices_of_patches_are_equally_likely() -> None:
    hidden = draw_hidden(6000, 4, 0.5, generator())
    _, counts = np.unique(hidden.numpy() @ np.array([1, 2, 4, 8]), return_counts=True)
    assert len(counts) == 6
    assert abs(counts / 1000 - 1).max() < 0.15


@pytest.mark.parametrize("ratio", [0.0, 1.0, -0.5, 2.0])
def test_c63_a_ratio_that_hides_nothing_or_all_is_refused(ratio: float) -> None:
    with pytest.raises(ConfigError, match="between 0 and 1"):
        MaskedModel(preprocess(2), MaskedPyramid(TinyPyramid(2), 2), ratio)


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.integers(1, 4))
@settings(max_examples=25, deadline=None)
def test_c63_patches_and_images_are_two_views_of_the_same(channels: int, rows: int, cols: int, patch: int) -> None:
    image = torch.randn(2, channels, rows * patch, cols * patch)
    patches = to_patches(image, patch)
    assert torch.equal(from_patches(patches, patch, rows, cols), image)
    for n in range(rows * cols):  # by hand
        r, c = divmod(n, cols)
        cut = image[:, :, r * patch : (r + 1) * patch, c * patch : (c + 1) * patch]
        assert torch.equal(patches[:, n], cut.reshape(2, -1))


# ---------------------------------------------------------------------------------------------------------- what counts


class TinyPyramid(nn.Module):
    """An encoder of two steps."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(in_channels, 6, 2, stride=2), nn.Conv2d(6, 8, 2, stride=2)

    def forward(self, image: Tensor) -> list[Tensor]:
        first = self.one(image)
        return [image, first, self.two(torch.relu(first))]


def by_hand(found: Guess, normalised: bool) -> float:
    """The loss, value by value."""
    total, count = 0.0, 0
    for b in range(len(found.wanted)):
        for n in range(found.wanted.shape[1]):
            values = found.wanted[b, n][found.valid[b, n]].double().numpy()
            for p in range(found.wanted.shape[2]):
                if found.hidden[b, n] and found.valid[b, n, p]:
                    wanted = float(found.wanted[b, n, p])
                    if normalised:
                        wanted = (wanted - values.mean()) / np.sqrt(values.var() + 1e-6)
                    total += (found.guessed[b, n, p].item() - wanted) ** 2
                    count += 1
    return total / max(count, 1)


def dull_by_hand(found: Guess, normalised: bool) -> float:
    """Squared errors of the mean of each sample's and channel's visible values."""
    wanted, total = (Reconstruction().scaled(found)[0] if normalised else found.wanted).numpy(), 0.0
    each = wanted.shape[2] // 2
    for values, valid, hidden in zip(wanted, found.valid.numpy(), found.hidden.numpy(), strict=True):
        for c in (slice(0, each), slice(each, None)):
            mean = values[~hidden][:, c][valid[~hidden][:, c]].mean()
            total += float(((values[hidden][:, c] - mean)[valid[hidden][:, c]] ** 2).sum())
    return total


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("shape", [(16, 16), (13, 18)])
def test_c63_loss_is_that_of_hidden_and_measured_values_only(normalised: bool, shape: tuple[int, int]) -> None:
    torch.manual_seed(1)
    model = MaskedModel(preprocess(2), MaskedPyramid(TinyPyramid(2), 2, width=8), 0.5)
    image = torch.randn(2, 2, *shape)
    image[0, 0, :5] = torch.nan
    image[1, :, 4:8, 4:8] = torch.nan
    found = model(image, generator(3))
    losses = Reconstruction(normalised)
    loss = losses.of(model, image, {}, generator(3))["loss"]
    assert loss.item() == pytest.approx(by_hand(found, normalised), rel=1e-4)
    assert int(found.valid.sum()) == int(torch.isfinite(image).sum())  # neither gaps nor the rim

    assert losses.constant(found, 2).item() == pytest.approx(dull_by_hand(found, normalised), rel=1e-4)

    free = found.guessed.detach().clone().requires_grad_()
    error, count = losses(found._replace(guessed=free))
    (error / count).backward()
    assert torch.equal(free.grad != 0, found.valid & found.hidden[..., None])


@pytest.mark.system
def test_c63_the_head_s_units_outlive_the_first_steps() -> None:
    """Units that die leave one guess for every image: its loss looks learnt, and no gradient reaches the encoder."""
    torch.manual_seed(0)
    encoder = smp.encoders.get_encoder("resnet18", in_channels=1, weights=None)
    model = MaskedModel(preprocess(1), MaskedPyramid(encoder, 1, patch=32, width=64), 0.5)
    optimizer, losses = torch.optim.AdamW(model.parameters(), lr=1e-3), Reconstruction(normalised=False)
    levels = torch.linspace(-1, 1, 8).reshape(8, 1, 1, 1)  # what is visible tells what is hidden
    for step in range(30):
        optimizer.zero_grad()
        image = levels[torch.randperm(8)] + torch.randn(8, 1, 96, 96)
        losses.of(model, image, {}, generator(step))["loss"].backward()
        optimizer.step()
    found = model(levels + torch.randn(8, 1, 96, 96), generator(99))
    guessed = torch.stack([sample[hidden].mean() for sample, hidden in zip(found.guessed, found.hidden, strict=True)])
    assert torch.corrcoef(torch.stack([guessed, levels.flatten()]))[0, 1] > 0.8
    assert guessed.std() > 0.1


def test_c63_no_valid_value_is_no_loss_and_no_gradient_that_is_not_finite() -> None:
    model = MaskedModel(preprocess(2), MaskedPyramid(TinyPyramid(2), 2, width=8), 0.5)
    loss = Reconstruction().of(model, torch.full((1, 2, 16, 16), torch.nan), {}, generator())["loss"]
    loss.backward()
    assert loss.item() == 0
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


# ------------------------------------------------------------------------------------------------- what an encoder sees


@pytest.mark.parametrize("kind", ["pyramid", "transformer"])
def test_c63_what_is_hidden_cannot_be_seen(kind: str) -> None:
    """Other values in hidden patches change no guess; other values in visible ones do."""
    torch.manual_seed(0)
    network = (
        MaskedPyramid(TinyPyramid(2), 2, patch=16, width=8)
        if kind == "pyramid"
        else MaskedTransformer(vit(), 2, width=16, depth=1, heads=2)
    ).eval()
    image, hidden = torch.randn(2, 2, 32, 48), draw_hidden(2, 6, 0.5, generator())
    covered = from_patches(hidden[..., None].expand(-1, -1, 512).float(), 16, 2, 3).bool()
    with torch.no_grad():
        guess = network(image, hidden)
        assert torch.allclose(guess, network(torch.where(covered, 7.0, image), hidden), atol=1e-5)
        assert not torch.allclose(guess, network(torch.where(covered, image, 7.0), hidden), atol=1e-2)
    assert guess.shape == (2, 6, 512)


def test_c63_a_transformer_with_everything_visible_is_the_encoder_itself() -> None:
    """Features of the masked way in are those of timm's own forward pass where nothing is hidden."""
    torch.manual_seed(0)
    network = MaskedTransformer(vit(), 2, width=16, depth=1, heads=2).eval()
    image = torch.randn(2, 2, 32, 48)
    own = network.embed(network.encoder.model.forward_features(image))
    assert torch.allclose(network.encode(image, torch.arange(6).expand(2, -1)), own, atol=1e-6)


def test_c63_every_weight_of_a_pretraining_has_a_gradient() -> None:
    """Processes that train together wait for the gradient of every weight."""
    for network in (MaskedTransformer(vit(), 2, width=16, depth=1, heads=2), MaskedPyramid(TinyPyramid(2), 2)):
        model = MaskedModel(preprocess(2), network, 0.5)
        Reconstruction().of(model, torch.randn(2, 2, 48, 48), {}, generator())["loss"].backward()
        assert [name for name, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("name", ["tu-convnext_atto", "resnet18"])
def test_c63_encoders_of_smp_and_timm_guess_images_of_any_size(name: str) -> None:
    encoder = smp.Unet(name, encoder_weights=None, in_channels=4, classes=1).encoder
    before = {key: tensor.clone() for key, tensor in encoder.state_dict().items()}
    model = MaskedModel(preprocess(4), MaskedPyramid(encoder, 4, patch=64, width=8), 0.5)
    assert all(
        torch.equal(before[key], tensor) for key, tensor in encoder.state_dict().items()
    )  # a trial leaves no trace
    loss = Reconstruction().of(model, torch.randn(2, 4, 120, 70), {}, generator())["loss"]
    loss.backward()
    assert torch.isfinite(loss)
    assert [key for key, p in model.named_parameters() if p.grad is None] == []


def test_c67_c63_positions_tokens_and_vectors_do_not_decay() -> None:
    model = MaskedModel(preprocess(2), MaskedTransformer(vit(), 2, width=16, depth=1, heads=2), 0.5)
    config = PretrainConfig(data=DataConfig(tiles_path=""), model=TINY_VIT, no_decay=True)
    names = {id(p): name for name, p in model.named_parameters()}
    decay, free = ({names[id(p)] for p in group["params"]} for group in parameter_groups(model, config))
    tokens = {"network.mask_token", "network.encoder.model.pos_embed", "network.encoder.model.cls_token"}
    assert free == tokens | {name for name, p in model.named_parameters() if p.ndim <= 1}
    assert decay == set(names.values()) - free


@pytest.mark.parametrize("kind", ["pyramid", "transformer"])
def test_c69_c63_no_step_waits_for_the_device(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On tensors without values: whoever asks for one fails, as on a GPU he would wait."""
    monkeypatch.setattr(Learner, "_autocast", lambda self: contextlib.nullcontext())
    network = (
        MaskedPyramid(TinyPyramid(2), 2, width=8)
        if kind == "pyramid"
        else MaskedTransformer(vit(), 2, width=16, depth=1, heads=2)
    )
    config = PretrainConfig(data=DataConfig(tiles_path=""), model=TINY_VIT, device="meta")
    learner = Learner(config, MaskedModel(preprocess(2), network, 0.5), config.losses(), torch.device("meta"), 10)
    batch = {"image": torch.randn(2, 2, 32, 32), "target": {}, "key": ["a", "b"]}
    values = [learner.step(batch, iteration) for iteration in (1, 2)]
    assert set(values[1]) == {"training/loss", "training/lr"}
    with pytest.raises(RuntimeError, match="meta"):  # the oracle is able to fail
        float(values[1]["training/loss"])


def test_c63_an_encoder_that_does_not_fit_the_method_is_refused() -> None:
    with pytest.raises(ConfigError, match="no ViT of timm"):
        MaskedTransformer(TinyPyramid(2), 2)
    with pytest.raises(ConfigError, match="is a transformer"):
        MaskedPyramid(vit(), 2)
    with pytest.raises(ConfigError, match="multiple of the encoder's stride, 4"):
        MaskedPyramid(TinyPyramid(2), 2, patch=6)


# ------------------------------------------------------------------------------------------------------ what is taken


def test_c63_c61_channels_are_found_by_name() -> None:
    weight = torch.randn(5, 3, 2, 2)
    made = for_channels({"stem": weight, "other": weight}, ["stem"], ["a", "b", "c"], ["c", "new", "a", "other"])
    assert torch.equal(made["stem"][:, 0], weight[:, 2])
    assert torch.equal(made["stem"][:, 2], weight[:, 0])
    for new in (1, 3):
        assert torch.allclose(made["stem"][:, new], weight.mean(1))
    assert made["other"] is weight


def test_c60_c63_tasks_share_a_vision_transformer() -> None:
    torch.manual_seed(0)
    network = TaskDecoders(3, {"sic": 2, "sod": 3}, TINY_VIT).eval()
    alone = TaskDecoders(3, {"sod": 3}, TINY_VIT).eval()
    alone.load_state_dict({k: v for k, v in network.state_dict().items() if ".sic." not in k})
    image = torch.randn(1, 3, 32, 64)
    with torch.no_grad():
        both = network(image)
        assert both.shape == (1, 5, 32, 64)
        assert torch.equal(both[:, 2:], alone(image))
