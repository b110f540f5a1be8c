"""Other sizes and back: padding with an exact inverse, resizing that keeps labels and gaps."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from swath.data.augment.resampling import by_weight
from swath.errors import ConfigError

Size = tuple[int, int]
"""(height, width) in pixels."""


def pad(tensor: Tensor, size: Size, value: float) -> Tensor:
    """(..., H, W) in the middle of `size`, `value` around it (NaN for images, 255 for labels); odd rests go below and right.

    Raises ConfigError when `size` is smaller than the tensor.
    """
    top, bottom, left, right = _margins((tensor.shape[-2], tensor.shape[-1]), size)
    return F.pad(tensor, (left, right, top, bottom), value=value)


def unpad(tensor: Tensor, size: Size) -> Tensor:
    """The inverse of `pad`: the middle (..., `size`) of a padded tensor, exactly the pixels that were padded."""
    top, _, left, _ = _margins(size, (tensor.shape[-2], tensor.shape[-1]))
    return tensor[..., top : top + size[0], left : left + size[1]]


def _margins(inner: Size, outer: Size) -> tuple[int, int, int, int]:
    """Rows above and below, columns left and right."""
    rows, cols = outer[0] - inner[0], outer[1] - inner[1]
    if rows < 0 or cols < 0:
        raise ConfigError(f"padding: {inner} pixels do not fit into {outer}; choose a size that is at least as large")
    return rows // 2, rows - rows // 2, cols // 2, cols - cols // 2


def resize_image(
    image_BCHW: Tensor, size: Size, mode: Literal["nearest", "bilinear", "bicubic"] = "bilinear"
) -> Tensor:
    """Images, probabilities or logits on `size` pixels; smoothed before they shrink, except with ``nearest``.

    Missing pixels have no weight; NaN where less than half of the weight is measured.
    """
    if mode == "nearest":
        return _nearest(image_BCHW, size)
    measured = torch.isfinite(image_BCHW)
    if measured.all():
        return _smooth(image_BCHW, size, mode)
    total = _smooth(torch.where(measured, image_BCHW, 0), size, mode)
    return by_weight(total, _smooth(measured.to(image_BCHW), size, mode))


def resize_labels(target_BHW: Tensor, size: Size) -> Tensor:
    """Labels on `size` pixels, each that of the nearest pixel; dtype and values stay."""
    return _nearest(target_BHW, size)


def _nearest(tensor: Tensor, size: Size) -> Tensor:
    """The pixel that holds the middle of each new one, in whole numbers: torch's own is off by rounding at ties."""
    rows, cols = (
        (2 * torch.arange(new, device=tensor.device) + 1) * old // (2 * new)
        for new, old in zip(size, tensor.shape[-2:], strict=True)
    )
    return tensor[..., rows[:, None], cols]


def _smooth(image_BCHW: Tensor, size: Size, mode: str) -> Tensor:
    return F.interpolate(image_BCHW, size, mode=mode, align_corners=False, antialias=True)
