"""Region losses: one minus how well the predicted and the true area of each class overlap.

Logits (B, K, H, W) of any float dtype, K >= 2; targets (B, H, W), uint8 or int64, 255 = ignore; a float32 scalar comes
out. Areas are sums over all labelled pixels of the batch, so one tile without the class is no miss, and the pixels of
two tiles count as if they lay in one. `classes` names the classes that count: ``(1,)`` is the foreground alone, which
for two classes is the binary form, since the softmax of two logits is the sigmoid of their difference.

segmentation_models_pytorch has Jaccard, Dice and Tversky as well. They are not used because a class that is absent
from a batch costs nothing there, however much of it is predicted, and because its power of the loss has an infinite
gradient at 0. Its Lovász losses are used.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from segmentation_models_pytorch.losses import LovaszLoss
from torch import Tensor, nn

from swath.errors import ConfigError
from swath.labels import IGNORE
from swath.nn.losses.labelled import EPS, Labelled, labelled, power


class Areas(NamedTuple):
    """Sums of p y, p and y over the labelled pixels of a batch, each (classes,)."""

    intersection: Tensor
    predicted: Tensor
    true: Tensor


def areas(logits_BKHW: Tensor, target_BHW: Tensor, classes: tuple[int, ...] | None = None) -> Areas:
    """Areas of each class, or of `classes`; p is the softmax probability. Raises ConfigError for classes that are none."""
    pixels = labelled(logits_BKHW, target_BHW)
    numbers = torch.arange(pixels.classes, device=target_BHW.device)[:, None, None]
    truth = (pixels.labels[:, None] == numbers) & pixels.valid[:, None]
    return sums(pixels, truth.float(), classes)


def sums(pixels: Labelled, truth_BKHW: Tensor, classes: tuple[int, ...] | None = None) -> Areas:
    """`areas` for truth of any kind: shares (B, K, H, W) of the classes, 0 at ignored pixels."""
    chosen = chosen_classes(classes, pixels.classes)
    probability = torch.where(pixels.valid[:, None], pixels.logits.softmax(1), 0.0)
    axes = (0, 2, 3)
    both = (probability * truth_BKHW).sum(axes)
    found = torch.stack([both, probability.sum(axes), truth_BKHW.sum(axes)])
    return Areas(*(found if classes is None else found[:, list(chosen)]))


def chosen_classes(classes: tuple[int, ...] | None, count: int) -> tuple[int, ...]:
    """`classes`, or all of a head with `count` of them. Raises ConfigError for classes that it does not have."""
    chosen = tuple(range(count)) if classes is None else tuple(classes)
    if not chosen or not set(chosen) <= set(range(count)):
        raise ConfigError(f"classes={classes}: the head has the classes 0 to {count - 1}. Name one or more of them.")
    return chosen


class Tversky(nn.Module):
    """1 - mean over classes of I / (I + alpha FP + beta FN): Salehi et al. 2017, arXiv:1706.05721.

    I = sum p y, FP = sum p (1 - y), FN = sum (1 - p) y. `alpha` is the price of false alarms, `beta` that of misses.
    `smooth`, above 0, is added to numerator and denominator: with 1 in place of 1e-7, predicting a class that is absent
    from the batch has a gradient that is felt.
    """

    def __init__(
        self, alpha: float = 0.3, beta: float = 0.7, classes: tuple[int, ...] | None = None, smooth: float = EPS
    ) -> None:
        super().__init__()
        if smooth <= 0:
            raise ConfigError(f"smooth={smooth}: must be above 0, or batches without a labelled pixel give 0 / 0.")
        self.alpha, self.beta, self.classes, self.smooth = alpha, beta, classes, smooth

    def index(self, logits_BKHW: Tensor, target_BHW: Tensor) -> Tensor:
        """The overlap in [0, 1] of each class, (classes,); 1 for a class that is neither there nor predicted."""
        return self._ratio(self._areas(logits_BKHW, target_BHW))

    def _areas(self, logits_BKHW: Tensor, target_BHW: Tensor) -> Areas:
        return areas(logits_BKHW, target_BHW, self.classes)

    def _ratio(self, found: Areas) -> Tensor:
        both, predicted, true = found
        price = self.alpha * (predicted - both) + self.beta * (true - both)
        return (both + self.smooth) / (both + price + self.smooth)

    def forward(self, logits_BKHW: Tensor, target_BHW: Tensor) -> Tensor:
        return 1 - self.index(logits_BKHW, target_BHW).mean()


class SoftJaccard(Tversky):
    """1 - mean over classes of I / U with U = p + y - p y: Tversky with alpha = beta = 1.

    With `pooled`, classes are summed as well before dividing: 1 - mean(I) / mean(U) over batch and class, the UNOSAT
    pipeline's Jaccard loss.
    """

    def __init__(self, classes: tuple[int, ...] | None = None, pooled: bool = False, smooth: float = EPS) -> None:
        super().__init__(1.0, 1.0, classes, smooth)
        self.pooled = pooled

    def forward(self, logits_BKHW: Tensor, target_BHW: Tensor) -> Tensor:
        found = self._areas(logits_BKHW, target_BHW)
        return 1 - self._ratio(Areas(*(values.sum() for values in found)) if self.pooled else found).mean()


class Dice(Tversky):
    """1 - mean over classes of 2 I / (p + y): Tversky with alpha = beta = 1/2 (Milletari et al. 2016, without squares)."""

    def __init__(self, classes: tuple[int, ...] | None = None, smooth: float = EPS) -> None:
        super().__init__(0.5, 0.5, classes, smooth)


class LogCoshDice(Dice):
    """log cosh of the Dice loss: Jadon 2020, arXiv:2006.14822. Flat near 0, at most log cosh 1 = 0.434."""

    def forward(self, logits_BKHW: Tensor, target_BHW: Tensor) -> Tensor:
        return super().forward(logits_BKHW, target_BHW).cosh().log()


class FocalTversky(Tversky):
    """Mean over classes of (1 - Tversky index) ** (1 / gamma): Abraham and Khan 2018, arXiv:1810.07842.

    The paper sums over classes, takes gamma in [1, 3] and calls the price of misses alpha; here that is `beta`.
    """

    def __init__(
        self, alpha: float = 0.3, beta: float = 0.7, gamma: float = 4 / 3, classes: tuple[int, ...] | None = None,
        smooth: float = EPS,
    ) -> None:  # fmt: skip
        super().__init__(alpha, beta, classes, smooth)
        self.gamma = gamma

    def forward(self, logits_BKHW: Tensor, target_BHW: Tensor) -> Tensor:
        return power(1 - self.index(logits_BKHW, target_BHW), 1 / self.gamma).mean()


class Lovasz(nn.Module):
    """Lovász-Softmax of Berman et al. 2018, arXiv:1705.08790: a convex stand-in for 1 - IoU of the classes in the batch.

    segmentation_models_pytorch's; here batches without a labelled pixel give 0 as well.
    """

    def __init__(self) -> None:
        super().__init__()
        self.loss = LovaszLoss(mode="multiclass", ignore_index=IGNORE)

    def forward(self, logits_BKHW: Tensor, target_BHW: Tensor) -> Tensor:
        pixels = labelled(logits_BKHW, target_BHW)
        loss: Tensor = self.loss(pixels.logits, target_BHW).sum()  # an empty tensor when all is ignored
        return loss


class LovaszHinge(nn.Module):
    """Lovász hinge of Berman et al. 2018 for the foreground of two classes, on the difference of their logits.

    segmentation_models_pytorch's. 0 once every labelled pixel is right by a margin of 1. Raises ConfigError for K != 2.
    """

    def __init__(self) -> None:
        super().__init__()
        self.loss = LovaszLoss(mode="binary", ignore_index=IGNORE, per_image=False)

    def forward(self, logits_BKHW: Tensor, target_BHW: Tensor) -> Tensor:
        pixels = labelled(logits_BKHW, target_BHW)
        if pixels.classes != 2:
            raise ConfigError(f"LovaszHinge is for two classes, the head has {pixels.classes}: use Lovasz.")
        loss: Tensor = self.loss(pixels.logits[:, 1] - pixels.logits[:, 0], target_BHW.long())
        return loss
