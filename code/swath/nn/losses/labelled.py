"""What every loss does first: leave out the pixels that nobody has labelled."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from swath.errors import ConfigError
from swath.labels import IGNORE

EPS = 1e-7
"""Keeps ratios and powers finite; far below what a single pixel adds."""


class Labelled(NamedTuple):
    """Logits and targets with everything that does not count set to 0."""

    logits: Tensor
    """float32 (B, K, H, W), 0 at ignored pixels: not even NaN there reaches a value or a gradient."""
    labels: Tensor
    """int64 (B, H, W) in 0..K-1, 0 at ignored pixels."""
    valid: Tensor
    """bool (B, H, W), False at ignored pixels."""

    @property
    def classes(self) -> int:
        return self.logits.shape[1]

    def mean(self, values_BHW: Tensor) -> Tensor:
        """Mean over the labelled pixels, 0 when there is none."""
        return torch.where(self.valid, values_BHW, 0.0).sum() / self.valid.sum().clamp(min=1)


def labelled(logits_BKHW: Tensor, target_BHW: Tensor) -> Labelled:
    """Split off the ignored pixels (255) of a batch.

    Raises ConfigError when the shapes differ or, on the CPU, a label is not among the K classes of the head.
    """
    if logits_BKHW.ndim != 4 or target_BHW.shape != logits_BKHW[:, 0].shape:
        raise ConfigError(
            f"logits {tuple(logits_BKHW.shape)} and target {tuple(target_BHW.shape)} do not fit: expected (batch, class, "
            "height, width) and (batch, height, width)."
        )
    valid = target_BHW != IGNORE
    labels = torch.where(valid, target_BHW, 0).long()
    if labels.device.type == "cpu":  # elsewhere a look at values would wait for the device at every step
        require_classes(labels, logits_BKHW.shape[1])
    return Labelled(torch.where(valid[:, None], logits_BKHW.float(), 0.0), labels, valid)


def require_classes(target: Tensor, classes: int) -> None:
    """Raise ConfigError when a label is neither one of so many classes nor 255. Fast on the CPU, before a transfer."""
    least, most = (int(value) for value in torch.aminmax(torch.where(target == IGNORE, 0, target)))
    if least < 0 or most >= classes:
        raise ConfigError(
            f"label {least if least < 0 else most} is not among the {classes} classes of the head (255 = "
            "ignore). Name all classes in the config's tasks, or correct the labels."
        )


def power(base: Tensor, exponent: float) -> Tensor:
    """base ** exponent for base >= 0; below 1e-7 it is 0 with gradient 0, where exponents below 1 have an infinite one."""
    return torch.where(base > EPS, base.clamp(min=EPS) ** exponent, 0.0)
