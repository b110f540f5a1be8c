"""Resampling of batches: bilinear for images, nearest for labels, missing pixels neither spread nor lost.

A sample between measured and missing pixels is the mean of the measured ones by their bilinear weights, where these are
at least half of all weight, and NaN elsewhere: gaps keep their size and place. What lies outside the source is NaN in
images and 255 in labels. All runs on the device of the batch.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from swath.labels import IGNORE

Targets = dict[str, Tensor]

MEASURED_SHARE = 0.5 - 1e-4
"""Least weight of measured pixels of a measured sample; just below a half, so that rounding does not decide ties."""


def warp(
    image_BCHW: Tensor, targets: Targets, theta_B23: Tensor, size: tuple[int, int] | None = None
) -> tuple[Tensor, Targets]:
    """Images and labels as seen through `theta`, on (height, width) = `size` pixels (None: those of the image).

    `theta` takes places of the output to places of the source, both as (x, y) from -1 to 1 between the outer edges
    (`torch.nn.functional.affine_grid`, align_corners=False). Dtypes stay.
    """
    count, bands = image_BCHW.shape[:2]
    shape = [count, bands, *(size or image_BCHW.shape[-2:])]
    grid = F.affine_grid(theta_B23.to(image_BCHW, non_blocking=True), shape, align_corners=False)
    outside = (grid.abs() > 1).any(-1)
    labels = {task: _labels(target, grid, outside) for task, target in targets.items()}
    return torch.where(outside[:, None], torch.nan, _image(image_BCHW, grid)), labels


def _image(image_BCHW: Tensor, grid: Tensor) -> Tensor:
    measured = torch.isfinite(image_BCHW)
    if measured.device.type == "cpu" and measured.all():  # to ask a GPU would be to wait for it
        return _bilinear(image_BCHW, grid)
    weight = _bilinear(measured.to(image_BCHW), grid)
    return by_weight(_bilinear(torch.where(measured, image_BCHW, 0), grid), weight)


def by_weight(total: Tensor, weight: Tensor) -> Tensor:
    """Weighted means from sums over measured pixels and their weight (of 1); NaN where too little is measured."""
    return torch.where(weight >= MEASURED_SHARE, total / weight, torch.nan)


def _bilinear(image_BCHW: Tensor, grid: Tensor) -> Tensor:
    return F.grid_sample(image_BCHW, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _labels(target_BHW: Tensor, grid: Tensor, outside: Tensor) -> Tensor:
    labels = target_BHW[:, None].to(grid)
    moved = F.grid_sample(labels, grid, mode="nearest", padding_mode="border", align_corners=False)[:, 0]
    return torch.where(outside, IGNORE, moved.round()).to(target_BHW.dtype)


def affine(angle_B: Tensor, zoom_B: Tensor, stretch_B: Tensor, shift_B2: Tensor, shape: tuple[int, int]) -> Tensor:
    """(B, 2, 3) matrices for `warp` on rasters of `shape`: turn by `angle` (radians), enlarge, shift.

    x is enlarged by zoom x stretch and y by zoom / stretch; `shift` = (x, y) moves the point of view, in sides.
    Distances are those of pixels also on oblong rasters.
    """
    aspect = shape[0] / shape[1]
    cos, sin, wide = torch.cos(angle_B), torch.sin(angle_B), zoom_B * stretch_B
    x = torch.stack([cos / wide, -sin * aspect / wide, 2 * shift_B2[:, 0]], dim=-1)
    y = torch.stack([sin / aspect * stretch_B / zoom_B, cos * stretch_B / zoom_B, 2 * shift_B2[:, 1]], dim=-1)
    return torch.stack([x, y], dim=1)


def box(boxes_B4: Tensor, shape: tuple[int, int]) -> Tensor:
    """(B, 2, 3) matrices for `warp` that cut boxes (row, col, height, width) in pixels out of rasters of `shape`."""
    row, col, height, width = boxes_B4.unbind(-1)
    zero = torch.zeros_like(row)
    x = torch.stack([width / shape[1], zero, (2 * col + width) / shape[1] - 1], dim=-1)
    y = torch.stack([zero, height / shape[0], (2 * row + height) / shape[0] - 1], dim=-1)
    return torch.stack([x, y], dim=1)
