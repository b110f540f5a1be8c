"""Losses that weigh a mistake by its distance from the labels: for borders, and for outlines that
lie a little off.

Logits (B, K, H, W) and targets (B, H, W), 255 = ignore; a float32 scalar comes out. Distances are
in pixels, and each tile's own: what lies beyond its edge is not known. Ignored pixels belong to no
class.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from swath.errors import ConfigError
from swath.nn.losses.labelled import Labelled, labelled
from swath.nn.losses.overlap import chosen_classes


class _OverClasses(nn.Module, ABC):
    """Mean over labelled pixels and `classes` (None: all) of a term of each class."""

    def __init__(self, classes: tuple[int, ...] | None = None) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, logits_BKHW: Tensor, target_BHW: Tensor) -> Tensor:
        pixels = labelled(logits_BKHW, target_BHW)
        probability = pixels.logits.softmax(1)
        chosen = chosen_classes(self.classes, pixels.classes)
        terms = [self._term(pixels, probability[:, k], k) for k in chosen]
        return pixels.mean(torch.stack(terms).mean(0))

    @abstractmethod
    def _term(self, pixels: Labelled, probability_BHW: Tensor, k: int) -> Tensor:
        """float32 (B, H, W): what class `k` adds at each pixel."""


class Boundary(_OverClasses):
    """Mean over labelled pixels and `classes` of p phi, moved by a constant so that 0 is best:
    Kervadec et al. 2019, arXiv:1812.07032.

    phi is the signed distance of a pixel from the class (`signed_distance`): a false alarm costs
    its distance to the class, a miss its depth in it, and both next to nothing at the border. Made
    for a sum with a loss of regions, such as ``WeightedSum({"dice": Dice, "boundary": Boundary},
    {"boundary": 0.1})``: alone, it finds nothing in tiles without the class, where phi is 0.
    """

    def _term(self, pixels: Labelled, probability_BHW: Tensor, k: int) -> Tensor:
        inside = pixels.valid & (pixels.labels == k)
        outside = pixels.valid & (pixels.labels != k)
        error = probability_BHW - inside.float()
        return error * signed_distance(inside, outside)


class Hausdorff(_OverClasses):
    """Mean over labelled pixels and `classes` of (p - y)^2 (d_p^2 + d_y^2): Karimi and Salcudean
    2019, arXiv:1904.10030, with alpha = 2.

    d_y is a pixel's distance from the border of the class in the labels, on either side, and d_p
    that in the map of p > 1/2; 0 where a tile has no border. Distances have no gradient.
    """

    def _term(self, pixels: Labelled, probability_BHW: Tensor, k: int) -> Tensor:
        true = pixels.labels == k
        found = probability_BHW.detach() > 0.5
        square = _from_border(pixels, true) + _from_border(pixels, found)
        return (probability_BHW - true.float()).square() * square


class StudentT(nn.Module):
    """Mean over tiles of (nu + D) / (2 D) log(1 + e^2 / nu) for a tile of D labelled pixels with
    the squared error e^2 = 1/2 sum (p - y)^2 over pixels and classes: the T-loss of
    Gonzalez-Jimenez et al. 2023, arXiv:2306.00753, for a fixed nu and equal scales, per pixel and
    moved by a constant so that 0 is best.

    A tile whose labels are wrong throughout has less of a gradient than with squared errors. For
    two classes, e^2 is that of the foreground alone.
    """

    def __init__(self, nu: float = 1.0) -> None:
        super().__init__()
        if nu <= 0:
            raise ConfigError(f"nu={nu}: must be above 0")
        self.nu = nu

    def forward(self, logits_BKHW: Tensor, target_BHW: Tensor) -> Tensor:
        pixels = labelled(logits_BKHW, target_BHW)
        numbers = torch.arange(pixels.classes, device=target_BHW.device)[:, None, None]
        truth = pixels.labels[:, None] == numbers
        error = torch.where(pixels.valid[:, None], pixels.logits.softmax(1) - truth.float(), 0.0)
        square_B = error.square().sum((1, 2, 3)) / 2
        count_B = pixels.valid.sum((1, 2)).clamp(min=1)
        return ((self.nu + count_B) / (2 * count_B) * torch.log1p(square_B / self.nu)).mean()


# ---------------------------------------------------------------------------------------------------------- distances


def signed_distance(inside_BHW: Tensor, outside_BHW: Tensor) -> Tensor:
    """float32 (B, H, W): outside, the distance to the nearest pixel inside; inside, 1 minus that to
    the nearest pixel outside, so that pixels at the border have 0; 0 elsewhere, and in tiles that
    lack either.

    bool masks (B, H, W) that share no pixel. The convention of the authors of the boundary loss.
    """
    to_inside = _known(squared_distance(inside_BHW)).sqrt()
    to_outside = _known(squared_distance(outside_BHW)).sqrt()
    depth = torch.where(inside_BHW & (to_outside > 0), 1 - to_outside, 0.0)
    return torch.where(outside_BHW, to_inside, depth)


def squared_distance(on_BHW: Tensor) -> Tensor:
    """float32 (B, H, W): square of the Euclidean distance of each pixel to the nearest one that is
    on; infinite in tiles without any.

    Exact while squares are below 2^24. Along rows by running maxima; along columns by erosions with
    growing costs 1, 3, 5, ..., of which the first n add up to n^2: Huang and Mitchell 1994, IEEE
    PAMI 16(3). A device is never waited for.
    """
    square = _along_rows(on_BHW).square()
    for step in range(1, on_BHW.shape[-2]):
        cost = 2 * step - 1
        before = square
        square = before.clone()
        square[:, 1:] = torch.minimum(square[:, 1:], before[:, :-1] + cost)
        square[:, :-1] = torch.minimum(square[:, :-1], before[:, 1:] + cost)
    return square


def _along_rows(on_BHW: Tensor) -> Tensor:
    """Distance to the nearest pixel of the same row that is on; infinite in rows without any."""
    place = torch.arange(on_BHW.shape[-1], device=on_BHW.device, dtype=torch.float32)
    last = torch.where(on_BHW, place, -torch.inf).cummax(-1).values
    following = -torch.where(on_BHW, -place, -torch.inf).flip(-1).cummax(-1).values.flip(-1)
    return torch.minimum(place - last, following - place)


def _known(square: Tensor) -> Tensor:
    return torch.where(torch.isfinite(square), square, 0.0)


def _from_border(pixels: Labelled, inside_BHW: Tensor) -> Tensor:
    """Squared distance of each labelled pixel to the nearest one on the other side; 0 in tiles
    without a border."""
    inside = pixels.valid & inside_BHW
    outside = pixels.valid & ~inside_BHW
    return torch.where(inside, _known(squared_distance(outside)), _known(squared_distance(inside)))
