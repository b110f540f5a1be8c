"""Light-weight RefineNet on MobileNetV2: the small network of the flood baseline, 3.3 million values.

Encoder: Sandler et al. 2018, https://arxiv.org/abs/1801.04381, table 2. Decoder: Nekrasov et al. 2018,
https://arxiv.org/abs/1810.03272.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

GROUPS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Groups of MobileNetV2: expansion, output channels, blocks, stride of the first block."""

LEVELS = ((24,), (32,), (64, 96), (160, 320))
"""Channels of the features that meet at 1/4, 1/8, 1/16 and 1/32 of the input's size."""

STEM, WIDTH, STAGES = 32, 256, 4


class InvertedResidual(nn.Module):
    """Pointwise expansion, 3 x 3 depthwise, linear pointwise; the input is added where sizes allow.

    Unlike torchvision's block, expansion 1 has its pointwise convolution, too, as in the baseline's network.
    """

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.adds = stride == 1 and inputs == outputs
        self.layers = nn.Sequential(
            Conv2dNormActivation(inputs, hidden, 1, activation_layer=nn.ReLU6),
            Conv2dNormActivation(hidden, hidden, 3, stride, groups=hidden, activation_layer=nn.ReLU6),
            Conv2dNormActivation(hidden, outputs, 1, activation_layer=None),
        )

    def forward(self, features: Tensor) -> Tensor:
        out: Tensor = self.layers(features)
        return features + out if self.adds else out


class MobileNetV2(nn.Module):
    """Feature maps of MobileNetV2: (B, C, H, W) in, one map per group out, at strides 2, 4, 8, 16, 16, 32, 32."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.stem = Conv2dNormActivation(in_channels, STEM, 3, stride=2, activation_layer=nn.ReLU6)
        self.groups = nn.ModuleList()
        inputs = STEM
        for expansion, outputs, blocks, stride in GROUPS:
            sizes = [(inputs, stride)] + [(outputs, 1)] * (blocks - 1)
            self.groups.append(nn.Sequential(*(InvertedResidual(n, outputs, expansion, s) for n, s in sizes)))
            inputs = outputs

    def forward(self, image_BCHW: Tensor) -> list[Tensor]:
        features = [self.stem(image_BCHW)]
        for group in self.groups:
            features.append(group(features[-1]))
        return features[1:]


class ChainedResidualPooling(nn.Module):
    """A chain of 5 x 5 max pooling and 1 x 1 convolution; the output of every link is added to the input."""

    def __init__(self, channels: int = WIDTH, stages: int = STAGES) -> None:
        super().__init__()
        self.stages = nn.ModuleList(nn.Conv2d(channels, channels, 1, bias=False) for _ in range(stages))
        self.pool = nn.MaxPool2d(5, stride=1, padding=2)

    def forward(self, features: Tensor) -> Tensor:
        link = total = features
        for convolution in self.stages:
            link = convolution(self.pool(link))
            total = total + link
        return total


class RefineLevel(nn.Module):
    """One level of the decoder: features of one size to 256 channels, plus the coarser level, ReLU6, pooling chain."""

    def __init__(self, channels: tuple[int, ...], passes_on: bool) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(c, WIDTH, 1, bias=False) for c in channels)
        self.pooling = ChainedResidualPooling()
        self.adapt = nn.Conv2d(WIDTH, WIDTH, 1, bias=False) if passes_on else nn.Identity()

    def forward(self, features: list[Tensor], coarser: Tensor | None) -> Tensor:
        total = sum((lateral(f) for lateral, f in zip(self.lateral, features, strict=True)), start=0.0)
        if coarser is not None:
            total = total + F.interpolate(coarser, features[0].shape[-2:], mode="bilinear", align_corners=True)
        out: Tensor = self.adapt(self.pooling(F.relu6(total)))  # type: ignore[arg-type]
        return out


class LWRefineNet(nn.Module):
    """float32 (B, in_channels, H, W) to logits (B, classes, H, W) of any size; nothing is pretrained.

    The decoder ends at a quarter of the size and is resized with a bicubic spline. All convolutions start from
    N(0, 0.01). Training one sample at a time needs more than 32 x 32 pixels (batch norm of the coarsest features).
    """

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__()
        self.encoder = MobileNetV2(in_channels)
        self.decoder = nn.ModuleList(RefineLevel(channels, passes_on=i > 0) for i, channels in enumerate(LEVELS))
        self.head = nn.Conv2d(WIDTH, classes, 3, padding=1)
        self.apply(_initialise)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        _, *features = self.encoder(image_BCHW)
        coarser: Tensor | None = None
        for level, channels in zip(reversed(self.decoder), reversed(LEVELS), strict=True):
            own = [features.pop() for _ in channels][::-1]
            coarser = level(own, coarser)
        return F.interpolate(self.head(coarser), image_BCHW.shape[-2:], mode="bicubic", align_corners=False)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, std=0.01)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
