"""Masked image modelling: hide patches of an image, guess them from the rest, and so learn an encoder without labels.

`MaskedTransformer` is the masked autoencoder of He et al. 2022 (the encoder sees visible patches only, a small
transformer guesses the rest), `MaskedPyramid` the scheme of Xie et al. 2022 (SimMIM) for convolutional encoders (hidden
pixels get a learned value per channel, a head on the deepest features guesses). Patches are counted row by row; B
samples of N patches with P = channels x patch x patch values each. Images are the network's input: normalised channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from timm.layers import build_sincos2d_pos_embed
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from swath.errors import ConfigError
from swath.nn.preprocess.channels import Preprocess

# ------------------------------------------------------------------------------------------------------------- patches


def to_patches(image_BCHW: Tensor, patch: int) -> Tensor:
    """(B, C, H, W), H and W multiples of `patch`, to (B, N, P); channel by channel, each row by row."""
    return F.pixel_unshuffle(image_BCHW, patch).flatten(2).transpose(1, 2)


def from_patches(patches_BNP: Tensor, patch: int, rows: int, cols: int) -> Tensor:
    """The inverse of `to_patches` for an image of `rows` x `cols` patches."""
    return F.pixel_shuffle(patches_BNP.transpose(1, 2).unflatten(2, (rows, cols)), patch)


def hidden_count(patches: int, ratio: float) -> int:
    """How many of `patches` are hidden: `ratio` of them, rounded, but at least one is hidden and one visible.

    Raises ConfigError for a ratio outside (0, 1) and for a single patch.
    """
    if not 0 < ratio < 1 or patches < 2:
        raise ConfigError(
            f"ratio={ratio} of {patches} patches: give a ratio between 0 and 1, and samples of at least two patches "
            "(a larger data.crop)."
        )
    return min(max(round(ratio * patches), 1), patches - 1)


def draw_hidden(samples: int, patches: int, ratio: float, generator: torch.Generator) -> Tensor:
    """bool (samples, patches) on the CPU: `hidden_count` patches of each sample, every choice equally likely."""
    order = torch.rand(samples, patches, generator=generator).argsort(dim=1)
    return order.argsort(dim=1) < hidden_count(patches, ratio)


# ------------------------------------------------------------------------------------------------------------ networks


class MaskedPyramid(nn.Module):
    """An encoder of segmentation-models-pytorch, or the like, with a head that guesses hidden pixels.

    `encoder` takes images and returns features of falling resolution, a list; the deepest are used. Hidden pixels get
    a learned value of their channel. `patch` is the side of what is hidden, a multiple of the encoder's stride (None:
    the stride itself, 32 mostly). `width` channels lie between features and guess. Raises ConfigError otherwise.
    """

    def __init__(self, encoder: nn.Module, channels: int, patch: int | None = None, width: int = 256) -> None:
        super().__init__()
        deepest, self.stride = _deepest(encoder, channels)
        self.patch = patch or self.stride
        if self.patch % self.stride:
            raise ConfigError(f"method.patch={patch}: give a multiple of the encoder's stride, {self.stride}.")
        self.encoder = encoder
        self.mask_token = nn.Parameter(torch.zeros(1, channels, 1, 1))
        # features are all positive, so without a norm the first steps push every unit below 0, where GELU holds it for good
        self.decoder = nn.Sequential(
            nn.Conv2d(deepest, width, 3, padding=1), nn.GroupNorm(1, width), nn.GELU(),
            nn.Conv2d(width, channels * self.stride**2, 1),
        )  # fmt: skip

    def no_weight_decay(self) -> set[str]:
        """Names that an optimiser leaves out of the decay."""
        return {"mask_token"}

    def forward(self, image_BCHW: Tensor, hidden_BN: Tensor) -> Tensor:
        """The guess of all patches, (B, N, P), also of those that are not hidden; `hidden_BN` is bool on the CPU."""
        hidden_BN = hidden_BN.to(image_BCHW.device, non_blocking=True)
        rows, cols = (side // self.patch for side in image_BCHW.shape[-2:])
        covered = hidden_BN.view(-1, 1, rows, cols).repeat_interleave(self.patch, 2).repeat_interleave(self.patch, 3)
        features = self.encoder(torch.where(covered, self.mask_token.to(image_BCHW.dtype), image_BCHW))
        return to_patches(F.pixel_shuffle(self.decoder(features[-1]), self.stride), self.patch)


def _deepest(encoder: nn.Module, channels: int) -> tuple[int, int]:
    """(channels, stride) of an encoder's deepest features, found by a trial that leaves no trace."""
    mode = encoder.training
    with torch.no_grad():
        found = encoder.eval()(torch.zeros(1, channels, 64, 64))
    encoder.train(mode)
    if isinstance(found, tuple):
        raise ConfigError("method=MaskedPyramid: this encoder is a transformer. Use method=partial(MaskedTransformer).")
    if not isinstance(found, list):
        raise ConfigError("method=MaskedPyramid: the encoder gives no list of features. Use one of smp or timm.")
    return int(found[-1].shape[1]), 64 // int(found[-1].shape[-1])


class MaskedTransformer(nn.Module):
    """A masked autoencoder: the ViT sees visible patches only; `depth` blocks of `width` channels guess the others.

    `encoder` is a `TimmViTEncoder` of segmentation-models-pytorch (that of its DPT), whose ``model`` is a timm
    ``VisionTransformer``; build it with ``dynamic_img_size=True`` for images of other sizes than its own. Raises
    ConfigError for other encoders.
    """

    def __init__(self, encoder: nn.Module, channels: int, width: int = 256, depth: int = 4, heads: int = 8) -> None:
        super().__init__()
        vit = getattr(encoder, "model", None)
        if not isinstance(vit, VisionTransformer):
            raise ConfigError(
                "method=MaskedTransformer: the encoder is no ViT of timm. Use "
                "model=partial(smp.DPT, encoder_name='tu-vit_small_patch16_224', ...), or method=partial(MaskedPyramid)."
            )
        if width % 4 or width % heads:
            raise ConfigError(f"method.width={width}: give a multiple of 4 and of heads={heads}.")
        self.encoder, self.prefix = encoder, vit.num_prefix_tokens
        self.patch = int(vit.patch_embed.patch_size[0])
        self.embed = nn.Sequential(nn.LayerNorm(vit.embed_dim), nn.Linear(vit.embed_dim, width))
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        nn.init.normal_(self.mask_token, std=0.02)
        self.decoder = nn.Sequential(*(Block(width, heads, qkv_bias=True) for _ in range(depth)), nn.LayerNorm(width))
        self.guess = nn.Linear(width, channels * self.patch**2)

    def no_weight_decay(self) -> set[str]:
        """Names that an optimiser leaves out of the decay."""
        return {"mask_token"}

    def forward(self, image_BCHW: Tensor, hidden_BN: Tensor) -> Tensor:
        """The guess of all patches, (B, N, P); only visible ones reach the ViT.

        `hidden_BN` is bool on the CPU, with as many True in every sample.
        """
        visible = (~hidden_BN).nonzero()[:, 1].view(len(hidden_BN), -1)  # ascending within each sample
        visible = visible.to(image_BCHW.device, non_blocking=True)
        prefix, seen = self.encode(image_BCHW, visible).split([self.prefix, visible.shape[1]], dim=1)
        tokens = self.mask_token.to(seen.dtype).expand(*hidden_BN.shape, -1)
        tokens = tokens.scatter(1, _index(visible, seen), seen)
        rows, cols = (side // self.patch for side in image_BCHW.shape[-2:])
        place = build_sincos2d_pos_embed([rows, cols], tokens.shape[-1], device=tokens.device)
        decoded = self.decoder(torch.cat([prefix, tokens + place.to(tokens.dtype)], dim=1))
        out: Tensor = self.guess(decoded[:, self.prefix :])
        return out

    def encode(self, image_BCHW: Tensor, visible_BM: Tensor) -> Tensor:
        """(B, prefix + M, width): what the ViT makes of the patches with numbers `visible_BM`, alone."""
        vit = self.encoder.get_submodule("model")
        tokens = vit._pos_embed(vit.patch_embed(image_BCHW))  # type: ignore[operator]
        prefix, patches = tokens[:, : self.prefix], tokens[:, self.prefix :]
        kept = patches.gather(1, _index(visible_BM, patches))
        found = vit.norm_pre(torch.cat([prefix, kept], dim=1))  # type: ignore[operator]
        out: Tensor = self.embed(vit.norm(vit.blocks(found)))  # type: ignore[operator]
        return out


def _index(numbers_BM: Tensor, tokens_BNW: Tensor) -> Tensor:
    return numbers_BM[..., None].expand(-1, -1, tokens_BNW.shape[-1])


# --------------------------------------------------------------------------------------------------------------- model


class Guess(NamedTuple):
    """What was asked and what was answered, patch by patch."""

    guessed: Tensor
    """(B, N, P)."""
    wanted: Tensor
    """(B, N, P): the network's input itself."""
    valid: Tensor
    """bool (B, N, P): a measurement, not a filled gap and not the rim that enlarges an image to whole patches."""
    hidden: Tensor
    """bool (B, N)."""


class MaskedModel(nn.Module):
    """Raw bands in, a `Guess` out: preprocessing, the drawing of what is hidden, and the network.

    Modules have the names that they have in a `SegmentationModel`: ``preprocess``, ``network.encoder``.
    """

    def __init__(self, preprocess: Preprocess, network: MaskedPyramid | MaskedTransformer, ratio: float) -> None:
        super().__init__()
        self.preprocess, self.network, self.ratio = preprocess, network, ratio
        hidden_count(2, ratio)  # refuses a wrong one

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of patches that cover an image."""
        return math.ceil(height / self.network.patch), math.ceil(width / self.network.patch)

    def forward(self, image_BCHW: Tensor, generator: torch.Generator) -> Guess:
        """float32 (B, bands, H, W) of any size, NaN where nodata; the draw comes from a generator of the CPU."""
        height, width = image_BCHW.shape[-2:]
        (rows, cols), patch = self.grid(height, width), self.network.patch
        hidden = draw_hidden(len(image_BCHW), rows * cols, self.ratio, generator)
        inputs, gaps = self.preprocess.with_gaps(image_BCHW)
        rim = (0, cols * patch - width, 0, rows * patch - height)
        inputs, valid = F.pad(inputs, rim, mode="replicate"), F.pad(~gaps, rim, value=False)
        guessed = self.network(inputs, hidden)
        hidden = hidden.to(inputs.device, non_blocking=True)
        return Guess(guessed, to_patches(inputs, patch), to_patches(valid.float(), patch) > 0, hidden)


class Reconstruction(nn.Module):
    """Mean squared error over values that are hidden and valid; 0 when there is none.

    With `normalised`, each patch is wanted with mean 0 and variance 1 over its valid values of all channels.
    """

    def __init__(self, normalised: bool = True) -> None:
        super().__init__()
        self.normalised = normalised

    @property
    def names(self) -> list[str]:
        """Names of the values that `of` returns."""
        return ["loss"]

    def of(
        self, model: Callable[..., Guess], image_BCHW: Tensor, targets: object, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """What a training step lessens."""
        error, count = self(model(image_BCHW, generator))
        return {"loss": error / count.clamp(min=1)}

    def forward(self, found: Guess) -> tuple[Tensor, Tensor]:
        """(sum of squared errors, number of values), scalars."""
        counted = found.valid & found.hidden[..., None]
        return self._error(found, found.guessed.float(), counted), counted.sum()

    def constant(self, found: Guess, channels: int) -> Tensor:
        """Sum of squared errors of the dullest guess: of each sample and channel, the mean of what is visible and valid."""
        hidden = found.hidden[..., None]
        wanted, visible = (part.unflatten(2, (channels, -1)) for part in (self._wanted(found), found.valid & ~hidden))
        total = torch.where(visible, wanted, 0.0).sum((1, 3), keepdim=True)
        mean = total / visible.sum((1, 3), keepdim=True).clamp(min=1)
        return self._error(found, mean.expand_as(wanted).flatten(2), found.valid & hidden)

    def _error(self, found: Guess, guessed: Tensor, counted: Tensor) -> Tensor:
        """Sum of squared errors over the values that are `counted`."""
        return torch.where(counted, guessed - self._wanted(found), 0.0).square().sum()

    def _wanted(self, found: Guess) -> Tensor:
        return self.scaled(found)[0] if self.normalised else found.wanted.float()

    def scaled(self, found: Guess) -> tuple[Tensor, Tensor, Tensor]:
        """(wanted values (B, N, P) as they are guessed; mean and deviation (B, N, 1) of each patch) in float32."""
        wanted, count = found.wanted.float(), found.valid.sum(-1, keepdim=True).clamp(min=1)
        mean = torch.where(found.valid, wanted, 0.0).sum(-1, keepdim=True) / count
        centred = torch.where(found.valid, wanted - mean, 0.0)
        deviation = (centred.square().sum(-1, keepdim=True) / count + 1e-6).sqrt()
        return (wanted - mean) / deviation, mean, deviation

    def pictures(self, found: Guess) -> Tensor:
        """(B, N, P): the image with its hidden patches as they were guessed, in the units of the input."""
        guessed = found.guessed.float()
        if self.normalised:
            _, mean, deviation = self.scaled(found)
            guessed = guessed * deviation + mean
        return torch.where(found.hidden[..., None], guessed, found.wanted.float())
