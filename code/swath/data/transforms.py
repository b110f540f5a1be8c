"""Augmentation of batches, image and labels together, each sample with its own draw from an explicit generator.

A transform is called as ``transform(image_BCHW, targets, generator)`` and returns both anew. Places that enter from
outside a sample become NaN in images and 255 in labels, never class 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from swath.labels import IGNORE

Targets = dict[str, Tensor]
Transform = Callable[[Tensor, Targets, torch.Generator], tuple[Tensor, Targets]]


@dataclass(frozen=True, kw_only=True)
class D4:
    """Flips and quarter turns: one of the eight symmetries of the square, equally likely. Exact, square inputs only."""

    def __call__(self, image_BCHW: Tensor, targets: Targets, generator: torch.Generator) -> tuple[Tensor, Targets]:
        moves = torch.randint(0, 8, (len(image_BCHW),), generator=generator).tolist()
        return _each(image_BCHW, moves), {task: _each(target, moves) for task, target in targets.items()}


def _each(batch: Tensor, moves: list[int]) -> Tensor:
    return torch.stack([symmetry(sample, move) for sample, move in zip(batch, moves, strict=True)])


def symmetry(sample: Tensor, move: int) -> Tensor:
    """Quarter turns (move % 4), then a horizontal flip for moves above 3, over the last two axes."""
    turned = torch.rot90(sample, move % 4, dims=(-2, -1))
    return turned.flip(-1) if move >= 4 else turned


@dataclass(frozen=True, kw_only=True)
class RandomAffine:
    """Rotation, zoom, stretch and shift with probability `p` per sample; bilinear for images, nearest for labels.

    Random resized crop: set `scale` and `stretch`. Shift-scale-rotate: set `shift`, `scale` and `degrees`.
    """

    degrees: float = 0.0
    """Rotation in [-degrees, degrees]."""
    scale: tuple[float, float] = (1.0, 1.0)
    """Zoom factor, log-uniform in this range; above 1 enlarges."""
    stretch: float = 1.0
    """Ratio of the two axes' zoom, log-uniform in [1 / stretch, stretch]."""
    shift: float = 0.0
    """Shift in [-shift, shift] of each side."""
    p: float = 1.0
    """Share of samples that are moved."""

    def __call__(self, image_BCHW: Tensor, targets: Targets, generator: torch.Generator) -> tuple[Tensor, Targets]:
        theta = self._matrices(len(image_BCHW), generator, image_BCHW.shape[-2:]).to(image_BCHW.device)
        still = (theta == torch.eye(2, 3).to(theta)).flatten(1).all(1)[:, None, None]  # moves nothing: stays exact
        grid = F.affine_grid(theta, list(image_BCHW.shape), align_corners=False)
        outside = (grid.abs() > 1).any(-1)
        moved = F.grid_sample(image_BCHW, grid, mode="bilinear", padding_mode="border", align_corners=False)
        image = torch.where(still[:, None], image_BCHW, torch.where(outside[:, None], torch.nan, moved))
        labels = {task: _move_labels(target, grid, outside) for task, target in targets.items()}
        return image, {task: torch.where(still, target, labels[task]) for task, target in targets.items()}

    def _matrices(self, count: int, generator: torch.Generator, shape: torch.Size) -> Tensor:
        draws = torch.rand(6, count, generator=generator)
        spread = 2 * draws - 1
        angle = torch.deg2rad(self.degrees * spread[0])
        low, high = (math.log(s) for s in self.scale)
        zoom = torch.exp(low + (high - low) * draws[1])
        stretch = torch.exp(0.5 * math.log(self.stretch) * spread[2])
        aspect = shape[0] / shape[1]
        cos, sin = torch.cos(angle), torch.sin(angle)
        rows = [
            torch.stack([cos / (zoom * stretch), -sin * aspect / (zoom * stretch), 2 * self.shift * spread[3]], dim=-1),
            torch.stack([sin / aspect * stretch / zoom, cos * stretch / zoom, 2 * self.shift * spread[4]], dim=-1),
        ]
        return torch.where((draws[5] < self.p)[:, None, None], torch.stack(rows, dim=1), torch.eye(2, 3))


def _move_labels(target_BHW: Tensor, grid: Tensor, outside: Tensor) -> Tensor:
    labels = target_BHW[:, None].float()
    moved = F.grid_sample(labels, grid, mode="nearest", padding_mode="border", align_corners=False)[:, 0]
    return torch.where(outside, IGNORE, moved.round()).to(target_BHW.dtype)


@dataclass(frozen=True, kw_only=True)
class RadiometricJitter:
    """Multiply linear backscatter by a random gain per sample and band: 10 ** (dB / 10), normal in dB.

    Stands for what differs between scenes: moisture, incidence angle, wind and calibration.
    """

    common: float = 0.0
    """Standard deviation of the gain that all bands of a sample share, in dB."""
    per_band: float = 0.0
    """Standard deviation of each band's own gain, in dB."""

    def __call__(self, image_BCHW: Tensor, targets: Targets, generator: torch.Generator) -> tuple[Tensor, Targets]:
        count, bands = image_BCHW.shape[:2]
        db = self.common * torch.randn(count, 1, generator=generator) + self.per_band * torch.randn(
            count, bands, generator=generator
        )
        return image_BCHW * (10 ** (db / 10)).to(image_BCHW)[:, :, None, None], targets


@dataclass(frozen=True, kw_only=True)
class CoarseDropout:
    """Cut `holes` squares of `size` px out of each image (NaN); labels stay, so that context has to answer."""

    holes: int = 4
    size: int = 32

    def __call__(self, image_BCHW: Tensor, targets: Targets, generator: torch.Generator) -> tuple[Tensor, Targets]:
        image = image_BCHW.clone()
        height, width = image.shape[-2:]
        for sample in image:
            for _ in range(self.holes):
                row = int(torch.randint(0, max(1, height - self.size + 1), (1,), generator=generator))
                col = int(torch.randint(0, max(1, width - self.size + 1), (1,), generator=generator))
                sample[:, row : row + self.size, col : col + self.size] = torch.nan
        return image, targets
