"""Augmentation of batches, image and labels together, each sample with its own draw from an explicit generator.

A transform is called as ``transform(image_BCHW, targets, generator)`` and returns both anew, on the device of the batch;
the generator is one of the CPU. Places that enter from outside a sample become NaN in images and 255 in labels, never
class 0; gaps neither grow nor shrink (see `swath.data.augment.resampling`). Random crops: `swath.data.augment.random_crop`.

What is usual in the field: rotation by any angle, ``RandomAffine(degrees=90, p=0.5)``; shift, scale and rotate,
``RandomAffine(shift=0.0625, scale=(0.9, 1.1), degrees=45)``; one of several, ``OneOf(transforms=(RandomRotate90(),
RandomFlip()))``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from swath.data.augment.resampling import Targets, affine, warp
from swath.errors import ConfigError
from swath.labels import IGNORE

Transform = Callable[[Tensor, Targets, torch.Generator], tuple[Tensor, Targets]]


@dataclass(frozen=True, kw_only=True)
class D4:
    """Flips and quarter turns: one of the eight symmetries of the square, equally likely. Exact.

    On oblong inputs one of the four symmetries of the rectangle: flips and the half turn.
    """

    def __call__(self, image_BCHW: Tensor, targets: Targets, generator: torch.Generator) -> tuple[Tensor, Targets]:
        moves = torch.randint(0, 8, (len(image_BCHW),), generator=generator)
        return _apply(image_BCHW, targets, moves if _is_square(image_BCHW) else 2 * (moves // 2))


@dataclass(frozen=True, kw_only=True)
class RandomRotate90:
    """With probability `p`, 0 to 3 quarter turns, equally likely; on oblong inputs none or a half turn. Exact."""

    p: float = 1.0
    """Share of samples for which a turn is drawn."""

    def __call__(self, image_BCHW: Tensor, targets: Targets, generator: torch.Generator) -> tuple[Tensor, Targets]:
        turns = torch.randint(0, 4, (len(image_BCHW),), generator=generator)
        drawn = torch.rand(len(image_BCHW), generator=generator) < self.p
        return _apply(image_BCHW, targets, drawn * (turns if _is_square(image_BCHW) else 2 * (turns // 2)))


@dataclass(frozen=True, kw_only=True)
class RandomFlip:
    """Left-right and up-down flips, each drawn for itself. Exact, any shape."""

    horizontal: float = 0.5
    """Share of samples that are flipped left to right."""
    vertical: float = 0.5
    """Share of samples that are flipped upside down."""

    def __call__(self, image_BCHW: Tensor, targets: Targets, generator: torch.Generator) -> tuple[Tensor, Targets]:
        draws = torch.rand(2, len(image_BCHW), generator=generator)
        across, down = (draws[0] < self.horizontal).long(), (draws[1] < self.vertical).long()
        # a vertical flip is a half turn and a horizontal flip: numbers of `symmetry`
        return _apply(image_BCHW, targets, 2 * down + 4 * (across ^ down))


def _is_square(batch: Tensor) -> bool:
    return batch.shape[-2] == batch.shape[-1]


def _apply(image_BCHW: Tensor, targets: Targets, moves_B: Tensor) -> tuple[Tensor, Targets]:
    moves = moves_B.tolist()
    return _each(image_BCHW, moves), {task: _each(target, moves) for task, target in targets.items()}


def _each(batch: Tensor, moves: list[int]) -> Tensor:
    return torch.stack([symmetry(sample, move) for sample, move in zip(batch, moves, strict=True)])


def symmetry(sample: Tensor, move: int) -> Tensor:
    """Quarter turns (move % 4), then a horizontal flip for moves above 3, over the last two axes."""
    turned = torch.rot90(sample, move % 4, dims=(-2, -1))
    return turned.flip(-1) if move >= 4 else turned


@dataclass(frozen=True, kw_only=True)
class OneOf:
    """One of several transforms for each sample, drawn by `weights`; with probability 1 - `p` none.

    The transforms have to keep the size of the input, or to agree on another one with `p` = 1.
    """

    transforms: tuple[Any, ...]
    """Transforms, or partials of their classes."""
    weights: tuple[float, ...] | None = None
    """Relative frequency of each; None: equally often."""
    p: float = 1.0
    """Share of samples that are transformed."""

    def __post_init__(self) -> None:
        """Raises ConfigError when the weights do not fit the transforms."""
        built = tuple(t() if isinstance(t, partial) else t for t in self.transforms)
        object.__setattr__(self, "transforms", built)
        weights = self.weights or (1.0,) * len(built)
        if not built or len(weights) != len(built) or min(weights) < 0 or not sum(weights) > 0:
            raise ConfigError(f"OneOf: {len(built)} transforms with weights={self.weights}; give each a weight >= 0")

    def __call__(self, image_BCHW: Tensor, targets: Targets, generator: torch.Generator) -> tuple[Tensor, Targets]:
        count = len(image_BCHW)
        weights = torch.tensor(self.weights or (1.0,) * len(self.transforms), dtype=torch.float32)
        chosen = torch.multinomial(weights, count, replacement=True, generator=generator)
        chosen[torch.rand(count, generator=generator) >= self.p] = -1
        parts, order = [], []
        for number in range(-1, len(self.transforms)):
            members = torch.nonzero(chosen == number).flatten()
            if len(members):
                where = members.to(image_BCHW.device, non_blocking=True)
                part = image_BCHW[where], {task: target[where] for task, target in targets.items()}
                parts.append(part if number < 0 else self.transforms[number](*part, generator))
                order.append(members)
        return _joined(parts, torch.cat(order).argsort().to(image_BCHW.device, non_blocking=True))


def _joined(parts: list[tuple[Tensor, Targets]], order: Tensor) -> tuple[Tensor, Targets]:
    """Parts of a batch as one, in `order`."""
    sizes = {tuple(image.shape[-2:]) for image, _ in parts}
    if len(sizes) > 1:
        raise ConfigError(
            f"OneOf: its transforms leave different sizes {sorted(sizes)}; crop before or after it instead"
        )
    tasks = parts[0][1]
    image = torch.cat([part[0] for part in parts])[order]
    return image, {task: torch.cat([part[1][task] for part in parts])[order] for task in tasks}


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
        shape = (image_BCHW.shape[-2], image_BCHW.shape[-1])
        theta = self._matrices(len(image_BCHW), generator, shape)
        still = (theta == torch.eye(2, 3)).flatten(1).all(1)[:, None, None].to(image_BCHW.device, non_blocking=True)
        image, labels = warp(image_BCHW, targets, theta)
        # who does not move stays exact, to the last bit
        image = torch.where(still[:, None], image_BCHW, image)
        return image, {task: torch.where(still, target, labels[task]) for task, target in targets.items()}

    def _matrices(self, count: int, generator: torch.Generator, shape: tuple[int, int]) -> Tensor:
        draws = torch.rand(6, count, generator=generator)
        spread = 2 * draws - 1
        low, high = (math.log(s) for s in self.scale)
        zoom = torch.exp(low + (high - low) * draws[1])
        stretch = torch.exp(0.5 * math.log(self.stretch) * spread[2])
        theta = affine(torch.deg2rad(self.degrees * spread[0]), zoom, stretch, self.shift * spread[3:5].T, shape)
        return torch.where((draws[5] < self.p)[:, None, None], theta, torch.eye(2, 3))


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
        return image_BCHW * (10 ** (db / 10)).to(image_BCHW, non_blocking=True)[:, :, None, None], targets


@dataclass(frozen=True, kw_only=True)
class CoarseDropout:
    """Cut `holes` squares of `size` px out of each image (NaN); labels stay, so that context has to answer."""

    holes: int = 4
    """Squares per sample; they may overlap."""
    size: int = 32
    """Side of the squares in pixels."""
    ignore_labels: bool = False
    """Set labels in the holes to 255, so that nothing is asked there."""

    def __call__(self, image_BCHW: Tensor, targets: Targets, generator: torch.Generator) -> tuple[Tensor, Targets]:
        height, width = image_BCHW.shape[-2:]
        hole = torch.zeros(len(image_BCHW), height, width, dtype=torch.bool)
        for sample in hole:
            for _ in range(self.holes):
                row = int(torch.randint(0, max(1, height - self.size + 1), (1,), generator=generator))
                col = int(torch.randint(0, max(1, width - self.size + 1), (1,), generator=generator))
                sample[row : row + self.size, col : col + self.size] = True
        hole = hole.to(image_BCHW.device, non_blocking=True)
        image = image_BCHW.masked_fill(hole[:, None], torch.nan)
        if not self.ignore_labels:
            return image, targets
        return image, {task: target.masked_fill(hole, IGNORE) for task, target in targets.items()}
