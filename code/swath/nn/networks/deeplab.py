"""torchvision's DeepLabV3 (Chen et al. 2017, https://arxiv.org/abs/1706.05587) for any number of bands and classes."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import ResNet101_Weights
from torchvision.models.segmentation import deeplabv3_resnet101
from torchvision.models.segmentation.deeplabv3 import DeepLabV3

from swath.errors import ConfigError
from swath.nn.networks.pretrained import answers


class DeepLabV3ResNet101(DeepLabV3):
    """float32 (B, in_channels, H, W) to logits (B, classes, H, W) of any size; no auxiliary head.

    Names of weights are torchvision's (``backbone.``, ``classifier.``). `encoder_weights`: ``"imagenet"``
    (torchvision's IMAGENET1K_V1, with 3 channels only; `build_network` adapts them to others) or None. Raises
    ConfigError for other names and OSError when the weights are neither at hand nor to be had.
    """

    def __init__(self, in_channels: int, classes: int, encoder_weights: str | None = "imagenet") -> None:
        if encoder_weights not in ("imagenet", None):
            raise ConfigError(f"encoder_weights={encoder_weights!r}: DeepLabV3ResNet101 takes 'imagenet' or None")
        whole = deeplabv3_resnet101(weights=None, weights_backbone=None, num_classes=classes, aux_loss=False)
        super().__init__(whole.backbone, whole.classifier)
        if in_channels != 3:
            self.backbone.conv1 = _first_convolution(in_channels)
        if encoder_weights:
            self.backbone.load_state_dict(_imagenet(), strict=False)  # without the classifier of 1000 classes

    def forward(self, image_BCHW: Tensor) -> Tensor:
        out: Tensor = super().forward(image_BCHW)["out"]
        return out


def _first_convolution(in_channels: int) -> nn.Conv2d:
    made = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
    nn.init.kaiming_normal_(made.weight, mode="fan_out", nonlinearity="relu")
    return made


def _imagenet() -> dict[str, Tensor]:
    """torchvision waits for its server without limit, so ask first whether it answers."""
    weights = ResNet101_Weights.IMAGENET1K_V1
    if not Path(torch.hub.get_dir(), "checkpoints", Path(weights.url).name).is_file() and not answers(weights.url):
        raise OSError(f"{weights.url} does not answer, and there is no copy in {torch.hub.get_dir()}")
    tensors: dict[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True)
    return tensors
