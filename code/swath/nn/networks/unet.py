"""U-Nets of any depth, plain, with attention gates on the skips, or with transformers; any number of input channels.

Level i has `filters[i]` channels at 1 / 2^i of the resolution; each is two 3 x 3 convolutions with batch norm and
ReLU. The way up enlarges bilinearly or by a transposed convolution, joins the skip and convolves again. Odd sizes
work: the enlarged features take the size of the skip.

Sources: Ronneberger et al. 2015 (U-Net), Oktay et al. 2018 (attention gates), Petit et al. 2021 (self-attention at the
deepest level, cross-attention on the skips). The AutoICE starter kit's network is ``UNet(filters=(16, 32, 32, 32),
bridge=True)``; the winners' is ``UNet(filters=(32, 32, 64, 64, 64), up=partial(TransposedUp))``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swath.config import Factory
from swath.errors import ConfigError


def double_convolution(inputs: int, outputs: int) -> nn.Sequential:
    """Two 3 x 3 convolutions (zero padding, no bias), each with batch norm and ReLU."""
    layers: list[nn.Module] = []
    for source in (inputs, outputs):
        layers += [nn.Conv2d(source, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


# ---------------------------------------------------------------------------------------------------------------- up


class BilinearUp(nn.Module):
    """Enlarge (B, C, h, w) to the size of the skip, corners aligned; channels stay."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, deep: Tensor, size: Sequence[int]) -> Tensor:
        return F.interpolate(deep, size=list(size), mode="bilinear", align_corners=True)


class TransposedUp(nn.Module):
    """Double (B, C, h, w) by a transposed 2 x 2 convolution to `outputs` channels; the last row or column is repeated."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.channels = outputs
        self.layer = nn.ConvTranspose2d(channels, outputs, 2, stride=2)

    def forward(self, deep: Tensor, size: Sequence[int]) -> Tensor:
        big: Tensor = self.layer(deep)
        return F.pad(big, (0, size[1] - big.shape[-1], 0, size[0] - big.shape[-2]), mode="replicate")


# -------------------------------------------------------------------------------------------------------------- skips


class PlainSkip(nn.Module):
    """The skip as it is."""

    def __init__(self, skip: int, deep: int) -> None:
        super().__init__()

    def forward(self, skip: Tensor, deep: Tensor) -> Tensor:
        return skip


class AttentionGate(nn.Module):
    """Additive attention: skip x sigmoid(psi(ReLU(W_x skip + W_g deep))), one factor in (0, 1) per pixel.

    `deep` has the size of `skip` already. The gate has `skip` / 2 channels inside. With psi's weight 0 and a large
    bias, every factor is 1, and the network is the plain U-Net.
    """

    def __init__(self, skip: int, deep: int) -> None:
        super().__init__()
        inner = max(1, skip // 2)
        self.of_skip = nn.Sequential(nn.Conv2d(skip, inner, 1, bias=False), nn.BatchNorm2d(inner))
        self.of_deep = nn.Sequential(nn.Conv2d(deep, inner, 1, bias=False), nn.BatchNorm2d(inner))
        self.psi = nn.Conv2d(inner, 1, 1)

    def forward(self, skip: Tensor, deep: Tensor) -> Tensor:
        found = self.psi(F.relu(self.of_skip(skip) + self.of_deep(deep)))
        return skip * torch.sigmoid(found)


class CrossAttention(nn.Module):
    """Transformer on a skip: each pixel of the skip asks the deep features, and the answer weighs the skip.

    Attention is computed on at most `side` x `side` cells (averages), so that its cost does not grow with the image;
    position is told by sines and cosines. The answer, enlarged and through a sigmoid, multiplies the skip.
    """

    def __init__(self, skip: int, deep: int, heads: int = 4, side: int = 32) -> None:
        super().__init__()
        self.side = side
        width = _divisible(skip, heads)
        self.query, self.memory = nn.Conv2d(skip, width, 1), nn.Conv2d(deep, width, 1)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.gate = nn.Conv2d(width, skip, 1)

    def forward(self, skip: Tensor, deep: Tensor) -> Tensor:
        query, memory = (layer(_cells(x, self.side)) for layer, x in ((self.query, skip), (self.memory, deep)))
        asked, shape = _tokens(query), query.shape
        answer, _ = self.attention(asked, _tokens(memory), _tokens(memory), need_weights=False)
        gate = self.gate(answer.transpose(1, 2).reshape(shape))
        return skip * torch.sigmoid(F.interpolate(gate, size=skip.shape[-2:], mode="bilinear", align_corners=False))


# -------------------------------------------------------------------------------------------------------------- depth


class SelfAttention(nn.Module):
    """Transformer at the deepest level: x + attention(x) over at most `side` x `side` cells, with positions."""

    def __init__(self, channels: int, heads: int = 4, side: int = 32) -> None:
        super().__init__()
        self.side = side
        width = _divisible(channels, heads)
        self.inner, self.outer = nn.Conv2d(channels, width, 1), nn.Conv2d(width, channels, 1)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        cells = self.inner(_cells(x_BCHW, self.side))
        tokens = _tokens(cells)
        answer, _ = self.attention(tokens, tokens, tokens, need_weights=False)
        found = self.outer(answer.transpose(1, 2).reshape(cells.shape))
        return x_BCHW + F.interpolate(found, size=x_BCHW.shape[-2:], mode="bilinear", align_corners=False)


def _divisible(channels: int, heads: int) -> int:
    """The smallest width for `heads` heads, each of an even number of channels, that holds `channels`."""
    return -(-channels // (2 * heads)) * 2 * heads


def _cells(x_BCHW: Tensor, side: int) -> Tensor:
    """Averages on a grid of at most `side` x `side` cells."""
    height, width = x_BCHW.shape[-2:]
    return (
        x_BCHW if max(height, width) <= side else F.adaptive_avg_pool2d(x_BCHW, (min(height, side), min(width, side)))
    )


def _tokens(x_BCHW: Tensor) -> Tensor:
    """(B, H W, C), with the position added."""
    return (x_BCHW + positions(x_BCHW.shape[1], x_BCHW.shape[2], x_BCHW.shape[3]).to(x_BCHW)).flatten(2).transpose(1, 2)


def positions(channels: int, height: int, width: int) -> Tensor:
    """float32 (channels, height, width): sines and cosines of the row (first half) and of the column (second half).

    Frequencies fall from 1 to 1 / 10000 (Vaswani et al. 2017). An even number of channels.
    """
    half = channels // 2
    rate = torch.exp(torch.arange(0, half, 2) * (-math.log(10000.0) / max(half, 1)))

    def code(length: int, count: int) -> Tensor:
        angle = torch.arange(length)[None] * rate[:, None]
        return torch.stack([angle.sin(), angle.cos()], dim=1).flatten(0, 1)[:count]

    rows = code(height, half)[:, :, None].expand(-1, height, width)
    cols = code(width, channels - half)[:, None, :].expand(-1, height, width)
    return torch.cat([rows, cols])


# ---------------------------------------------------------------------------------------------------------------- net


class Encoder(nn.Module):
    """The way down: (B, C, H, W) to one tensor per level, the first of full size; `middle` works on the last one."""

    def __init__(self, in_channels: int, filters: Sequence[int], middle: nn.Module) -> None:
        super().__init__()
        sizes = (in_channels, *filters)
        self.levels = nn.ModuleList(double_convolution(a, b) for a, b in pairwise(sizes))
        self.middle = middle

    def forward(self, image_BCHW: Tensor) -> list[Tensor]:
        found = [self.levels[0](image_BCHW)]
        for level in self.levels[1:]:
            found.append(level(F.max_pool2d(found[-1], 2)))
        return [*found[:-1], self.middle(found[-1])]


class Decoder(nn.Module):
    """The way up: levels of an `Encoder` to (B, filters[0], H, W)."""

    outermost_last = ("ups", "skips", "levels")
    """Lists of modules that start at the deepest level: a deeper network has its new ones in front."""

    def __init__(self, filters: Sequence[int], up: Factory, skip: Factory) -> None:
        super().__init__()
        self.ups, self.skips, self.levels = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for deep, shallow in zip(filters[:0:-1], filters[-2::-1], strict=True):
            rise = up(deep, shallow)
            self.ups.append(rise)
            risen: int = rise.channels
            self.skips.append(skip(shallow, risen))
            self.levels.append(double_convolution(risen + shallow, shallow))

    def forward(self, found: Sequence[Tensor]) -> Tensor:
        deep = found[-1]
        for up, gate, level, skip in zip(self.ups, self.skips, self.levels, found[-2::-1], strict=True):
            risen = up(deep, skip.shape[-2:])
            deep = level(torch.cat([risen, gate(skip, risen)], dim=1))
        return deep


class UNet(nn.Module):
    """(B, in_channels, H, W) to (B, classes, H, W). Parts are named as in segmentation-models-pytorch.

    `middle` works on the deepest level: ``middle=partial(SelfAttention), skip=partial(CrossAttention)`` is the
    transformer U-Net, ``skip=partial(AttentionGate)`` alone the attention U-Net. `bridge` adds one more level below
    `filters`, with as many filters as the last one: a U-Net of n levels then halves the image n times, as that of the
    AutoICE starter kit does. Raises ConfigError for fewer than two levels.
    """

    def __init__(
        self, in_channels: int, classes: int, filters: Sequence[int] = (16, 32, 32, 32), up: Factory = BilinearUp,
        skip: Factory = PlainSkip, middle: Factory = nn.Identity, bridge: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        if len(filters) < 2 or min(filters) < 1:
            raise ConfigError(
                f"filters={tuple(filters)}: a U-Net needs two levels or more, with one filter or more each."
            )
        levels = (*filters, filters[-1]) if bridge else tuple(filters)
        self.encoder = Encoder(in_channels, levels, middle(levels[-1]))
        self.decoder = Decoder(levels, up, skip)
        self.segmentation_head = nn.Conv2d(filters[0], classes, 1)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        found: Tensor = self.segmentation_head(self.decoder(self.encoder(image_BCHW)))
        return found
