"""The size at which a network sees its input: with a margin, or enlarged; its output comes back to
the input's pixels.

Loss, scores and maps are those of the input's own pixels, whatever the network sees.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from swath.config.ranges import Pixels, Range
from swath.errors import ConfigError

Size = tuple[int, int]
"""(height, width) in pixels."""

Interpolation = Literal["nearest", "bilinear", "bicubic"]


@dataclass(frozen=True, kw_only=True)
class Pad:
    """A margin of zeros around the normalised input, up to the next multiple of `multiple` pixels.

    The input is in the middle; of an odd margin, the larger half is below and on the right. The
    output is cropped to the input again: `restore` is the exact inverse of `apply`.
    """

    multiple: Pixels = 32
    """What height and width of the padded input are multiples of, in pixels."""

    def apply(self, image_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) with its margin."""
        height, width = image_BCHW.shape[-2:]
        padded = (height + -height % self.multiple, width + -width % self.multiple)
        return pad(image_BCHW, padded)

    def restore(self, output_BKHW: Tensor, size: Size) -> Tensor:
        """The network's output without the margin: (B, K, *size)."""
        return unpad(output_BKHW, size)


@dataclass(frozen=True, kw_only=True)
class Resize:
    """The normalised input on `factor` times as many rows and columns; the output on the input's
    again.

    Small objects become larger than what the strides of an encoder skip. Time and memory grow with
    factor squared. A tile of 350 px is seen at 768 px with ``factor=768 / 350``, and so is every
    window of that size of a larger scene.
    """

    factor: Annotated[float, Range(0.1, 16)] = 2.0
    """Rows and columns that the network sees for each of the input; below 1 it sees fewer."""
    mode: Interpolation = "bilinear"
    """How values between pixels come about, there and back. What shrinks is smoothed, except with
    ``nearest``."""

    def apply(self, image_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) at the size that the network sees, a pixel at least."""
        height, width = (max(1, round(self.factor * side)) for side in image_BCHW.shape[-2:])
        return resize_image(image_BCHW, (height, width), self.mode)

    def restore(self, output_BKHW: Tensor, size: Size) -> Tensor:
        """The network's output on the input's pixels: (B, K, *size)."""
        return resize_image(output_BKHW, size, self.mode)


Resizing = Pad | Resize
"""What can decide the size at which a network sees its input."""


def pad(tensor: Tensor, size: Size, value: float = 0.0) -> Tensor:
    """(..., H, W) in the middle of `size`, `value` around it; odd rests go below and right.

    Raises ConfigError when `size` is smaller than the tensor.
    """
    top, bottom, left, right = _margins((tensor.shape[-2], tensor.shape[-1]), size)
    return F.pad(tensor, (left, right, top, bottom), value=value)


def unpad(tensor: Tensor, size: Size) -> Tensor:
    """The inverse of `pad`: the middle (..., `size`) of a padded tensor, exactly the pixels that
    were padded."""
    top, _, left, _ = _margins(size, (tensor.shape[-2], tensor.shape[-1]))
    return tensor[..., top : top + size[0], left : left + size[1]]


def _margins(inner: Size, outer: Size) -> tuple[int, int, int, int]:
    """Rows above and below, columns left and right."""
    rows, cols = outer[0] - inner[0], outer[1] - inner[1]
    if rows < 0 or cols < 0:
        raise ConfigError(f"padding: {inner} pixels do not fit into {outer}; choose a size that is at least as large")
    return rows // 2, rows - rows // 2, cols // 2, cols - cols // 2


def resize_image(image_BCHW: Tensor, size: Size, mode: Interpolation = "bilinear") -> Tensor:
    """Finite images or logits on `size` pixels; smoothed before they shrink, except with
    ``nearest``."""
    if mode == "nearest":
        return _nearest(image_BCHW, size)
    return F.interpolate(image_BCHW, size, mode=mode, align_corners=False, antialias=True)


def _nearest(tensor: Tensor, size: Size) -> Tensor:
    """The pixel that holds the middle of each new one, in whole numbers: torch's own is off by
    rounding at ties."""
    rows, cols = (
        (2 * torch.arange(new, device=tensor.device) + 1) * old // (2 * new)
        for new, old in zip(size, tensor.shape[-2:], strict=True)
    )
    return tensor[..., rows[:, None], cols]
