"""Heads that give one number per pixel: their loss, and the class of an ordinal target that the number stands for."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from swath.errors import ConfigError
from swath.labels import IGNORE


class MeanSquaredError(nn.Module):
    """sum m (p - y)^2 / sum m over the labelled pixels (m = 1), 0 without any.

    Values (B, 1, H, W) of any float dtype; targets (B, H, W), integer or float. Pixels with target 255, or NaN, are
    ignored, so 255 is no value that a target can have. Raises ConfigError when the shapes do not fit.
    """

    def forward(self, values_B1HW: Tensor, target_BHW: Tensor) -> Tensor:
        values_BHW = _only_channel(values_B1HW)
        if values_BHW.shape != target_BHW.shape:
            raise ConfigError(f"values {tuple(values_B1HW.shape)} and target {tuple(target_BHW.shape)} do not fit.")
        target = target_BHW.float()
        valid = (target != IGNORE) & ~torch.isnan(target)
        error = torch.where(valid, values_BHW.float(), 0.0) - torch.where(valid, target, 0.0)
        return error.square().sum() / valid.sum().clamp(min=1)


def ordinal_classes(values_B1HW: Tensor, classes: int) -> Tensor:
    """int64 (B, H, W): values rounded (halves to the even neighbour), then clamped to 0..`classes` - 1.

    -1.2 is class 0, never the 255 that a cast to uint8 would make of it.
    """
    return _only_channel(values_B1HW).float().round().clamp(0, classes - 1).long()


def _only_channel(values_B1HW: Tensor) -> Tensor:
    if values_B1HW.ndim != 4 or values_B1HW.shape[1] != 1:
        raise ConfigError(
            f"values of shape {tuple(values_B1HW.shape)}: a regression head has one channel, (batch, 1, height, width)."
        )
    return values_B1HW[:, 0]
