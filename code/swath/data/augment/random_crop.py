"""Random crops of batches to one size, each sample its own, image and labels together.

Transforms as in `swath.data.augment.transforms`; what a crop takes from outside the tile is NaN in images and 255 in labels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from swath.data.augment.resampling import Targets, box, warp
from swath.errors import ConfigError
from swath.labels import IGNORE

Box = tuple[float, float, float, float]
"""(row, col, height, width) in pixels of the tile."""


def class_dominance(labels: NDArray[np.integer]) -> float:
    """Share of the commonest class among labelled pixels, in (0, 1]; 1 where there is no label, or one class only."""
    counts = np.unique(labels[labels != IGNORE], return_counts=True)[1]
    return float(counts.max() / counts.sum()) if counts.size else 1.0


@dataclass(frozen=True, kw_only=True)
class RandomCrop:
    """Crops of `size` x `size` px at random places, of the tile as it is or enlarged by a random `zoom` first.

    With `cat_max_ratio` below 1, up to `tries` places are drawn until no class of the first task, or of `task`, has that
    share of the labelled pixels or more; if none is found, the place with the least dominant class is taken (the rule of
    mmsegmentation, which takes the last). Without a zoom, pixels are copied exactly.
    """

    size: int
    """Side of the crops in pixels."""
    zoom: tuple[float, float] = (1.0, 1.0)
    """Factor by which the tile is enlarged, uniform in this range."""
    cat_max_ratio: float = 1.0
    """Largest share of one class among the labelled pixels, not reached; 1 takes the first place."""
    tries: int = 10
    """Places that are drawn at most for each sample."""
    task: str | None = None
    """Task whose classes are counted; None: the first one."""

    def __post_init__(self) -> None:
        if not (self.size > 0 and 0 < self.zoom[0] <= self.zoom[1] and 0 < self.cat_max_ratio <= 1 and self.tries > 0):
            raise ConfigError(f"{self}: needs size, tries > 0, 0 < zoom in rising order, 0 < cat_max_ratio <= 1")

    def __call__(self, image_BCHW: Tensor, targets: Targets, generator: torch.Generator) -> tuple[Tensor, Targets]:
        judged = self._judged(targets)
        shape = (image_BCHW.shape[-2], image_BCHW.shape[-1])
        boxes = [self._place(shape, None if judged is None else judged[i], generator) for i in range(len(image_BCHW))]
        if self.zoom == (1.0, 1.0):
            cut = _copy(image_BCHW, boxes, self.size, torch.nan)
            return cut, {task: _copy(target, boxes, self.size, IGNORE) for task, target in targets.items()}
        return warp(image_BCHW, targets, box(torch.tensor(boxes), shape), (self.size, self.size))

    def _judged(self, targets: Targets) -> NDArray[np.integer] | None:
        if self.cat_max_ratio >= 1 or not targets:
            return None
        if self.task is not None and self.task not in targets:
            raise ConfigError(f"RandomCrop.task={self.task}: no such task. There are: {', '.join(targets)}.")
        return targets[self.task or next(iter(targets))].cpu().numpy()

    def _place(self, shape: tuple[int, int], labels: NDArray[np.integer] | None, generator: torch.Generator) -> Box:
        low, high = self.zoom
        zoom = low + (high - low) * float(torch.rand((), generator=generator))
        places: list[tuple[float, Box]] = []
        for _ in range(self.tries if labels is not None else 1):
            place = _random_box(shape, self.size, zoom, generator)
            dominance = 0.0 if labels is None else class_dominance(labels[_slices(place)])
            places.append((dominance, place))
            if dominance < self.cat_max_ratio:
                break
        return min(places)[1]


def _random_box(shape: tuple[int, int], size: int, zoom: float, generator: torch.Generator) -> Box:
    """A window of `size` px of the enlarged tile, in pixels of the tile itself; at the start of a side that is shorter."""
    corner, extent = [], []
    for side in shape:
        enlarged = max(1, round(side * zoom))
        offset = int(torch.randint(0, max(0, enlarged - size) + 1, (), generator=generator))
        corner.append(offset * side / enlarged)
        extent.append(size * side / enlarged)
    return corner[0], corner[1], extent[0], extent[1]


def _slices(place: Box) -> tuple[slice, slice]:
    row, col, height, width = place
    return slice(round(row), round(row + height)), slice(round(col), round(col + width))


def _copy(batch: Tensor, boxes: list[Box], size: int, outside: float) -> Tensor:
    """The pixels of each box, `size` x `size`; `outside` where the tile is smaller."""
    out = batch.new_full((*batch.shape[:-2], size, size), outside)
    for sample, cut, place in zip(batch, out, boxes, strict=True):
        rows, cols = _slices(place)
        part = sample[..., rows, cols]
        cut[..., : part.shape[-2], : part.shape[-1]] = part
    return out


@dataclass(frozen=True, kw_only=True)
class RandomResizedCrop:
    """A box of random area and shape at a random place, resized to `size` x `size` px; boxes are drawn as torchvision does.

    Bilinear, without smoothing before a box shrinks: meant for factors around 1.
    """

    size: int
    """Side of the crops in pixels."""
    scale: tuple[float, float] = (0.7, 1.0)
    """Share of the tile's area, uniform in this range."""
    ratio: tuple[float, float] = (0.9, 1.1)
    """Width / height of the box, log-uniform in this range."""

    TRIES = 10

    def __post_init__(self) -> None:
        if not (self.size > 0 and 0 < self.scale[0] <= self.scale[1] <= 1 and 0 < self.ratio[0] <= self.ratio[1]):
            raise ConfigError(f"{self}: needs size > 0, 0 < scale <= 1 and 0 < ratio, both in rising order")

    def __call__(self, image_BCHW: Tensor, targets: Targets, generator: torch.Generator) -> tuple[Tensor, Targets]:
        shape = (image_BCHW.shape[-2], image_BCHW.shape[-1])
        boxes = self.boxes(len(image_BCHW), shape, generator)
        return warp(image_BCHW, targets, box(boxes.float(), shape), (self.size, self.size))

    def boxes(self, count: int, shape: tuple[int, int], generator: torch.Generator) -> Tensor:
        """int64 (count, 4): row, col, height, width. The first of ten draws that fits, else the largest in the middle."""
        height, width = shape
        draws = torch.rand(4, count, self.TRIES, generator=generator, dtype=torch.float64)
        area = height * width * (self.scale[0] + (self.scale[1] - self.scale[0]) * draws[0])
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        ratio = torch.exp(low + (high - low) * draws[1])
        sizes = torch.stack([torch.sqrt(area / ratio), torch.sqrt(area * ratio)], -1).round().long()
        rest = torch.tensor([height, width]) - sizes
        fits = ((rest >= 0) & (sizes > 0)).all(-1)
        corners = (draws[2:].movedim(0, -1) * (rest + 1)).long().clamp(min=0)
        first = fits.long().argmax(-1)
        drawn = torch.cat([corners, sizes], -1)[torch.arange(count), first]
        return torch.where(fits.any(-1, keepdim=True), drawn, torch.tensor(self._largest(shape)))

    def _largest(self, shape: tuple[int, int]) -> list[int]:
        """The largest box of an allowed ratio, in the middle."""
        height, width = shape
        ratio = min(max(width / height, self.ratio[0]), self.ratio[1])
        h, w = (round(width / ratio), width) if ratio > width / height else (height, round(height * ratio))
        return [(height - h) // 2, (width - w) // 2, h, w]
