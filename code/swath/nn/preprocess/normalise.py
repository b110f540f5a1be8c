"""Scaling of filled channels: constants that are given or fitted on training images, or each sample's own range."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from swath.errors import ConfigError

EPS = 1e-6
"""Smallest scale: a constant channel stays finite."""

Constant = float | tuple[float, ...] | None
"""One number for all channels, one per channel, or None: fitted on the training tiles."""

STATISTICS = ("count", "mean", "std", "min", "max", "q01", "q99")

Statistics = Mapping[str, Tensor]
"""`STATISTICS` of the derived channels, (C,) each, over the valid pixels of the training images."""


class Normaliser(nn.Module):
    """(x - `offset`) / `scale` per channel; children say where the two come from. `scale` is at least 1e-6.

    Normalisers take filled channels, and the same ones with NaN in the gaps for those that look at the sample itself.
    """

    offset: Tensor
    scale: Tensor

    def __init__(self, channels: int, offset: Constant = None, scale: Constant = None) -> None:
        super().__init__()
        self.fitted = (offset is None, scale is None)
        self.register_buffer("offset", per_channel(offset, channels))
        self.register_buffer("scale", per_channel(scale, channels, default=1.0).clamp(min=EPS))

    def _set(self, offset: Tensor, scale: Tensor) -> None:
        if self.fitted[0]:
            self.offset.copy_(offset.view_as(self.offset))
        if self.fitted[1]:
            self.scale.copy_(scale.view_as(self.scale).clamp(min=EPS))

    def forward(self, image_BCHW: Tensor, measured_BCHW: Tensor | None = None) -> Tensor:
        return (image_BCHW - self.offset) / self.scale


class ZScore(Normaliser):
    """(x / max_value - mean) / std, as albumentations' Normalize. ``ZScore(mean=0.0, std=5.0)`` is the fixed scaling of
    linear backscatter.

    Given constants are in units of `max_value`; those that are fitted do not depend on it.
    """

    def __init__(self, channels: int, mean: Constant = None, std: Constant = None, max_value: float = 1.0) -> None:
        super().__init__(channels, _times(mean, max_value), _times(std, max_value))
        if not (max_value > 0 and (std is None or (per_channel(std, channels) > 0).all())):
            raise ConfigError(f"normaliser: std={std} and max_value={max_value} must be above 0")

    def fit(self, statistics: Statistics) -> None:
        self._set(statistics["mean"], statistics["std"])


class MinMax(Normaliser):
    """(x - minimum) / (maximum - minimum): training range to [0, 1]."""

    def __init__(self, channels: int, minimum: Constant = None, maximum: Constant = None) -> None:
        super().__init__(channels)
        self.given = {
            name: per_channel(limit, channels).flatten()
            for name, limit in (("min", minimum), ("max", maximum))
            if limit is not None
        }
        if len(self.given) == 2:
            if not (self.given["min"] < self.given["max"]).all():
                raise ConfigError(f"normaliser: minimum={minimum} must be below maximum={maximum}")
            self.fit({})

    def fit(self, statistics: Statistics) -> None:
        limits = {**statistics, **self.given}
        self._set(limits["min"], limits["max"] - limits["min"])


class QuantileClamp(Normaliser):
    """The training quantiles q01 to q99 to [0, 1], values beyond clamped."""

    def fit(self, statistics: Statistics) -> None:
        self._set(statistics["q01"], statistics["q99"] - statistics["q01"])

    def forward(self, image_BCHW: Tensor, measured_BCHW: Tensor | None = None) -> Tensor:
        return super().forward(image_BCHW).clamp(0, 1)


class PerSampleRange(nn.Module):
    """Each sample's own quantiles `low` to `high` (0 to 1: its minimum and maximum) to [0, 1], clamped.

    The range is that of the measured pixels; filled ones have no part in it.
    """

    def __init__(self, channels: int, low: float = 0.0, high: float = 1.0) -> None:
        super().__init__()
        self.low, self.high = low, high

    def fit(self, statistics: Statistics) -> None:
        """Nothing to fit: the range is the sample's own."""

    def forward(self, image_BCHW: Tensor, measured_BCHW: Tensor | None = None) -> Tensor:
        measured = image_BCHW if measured_BCHW is None else measured_BCHW
        low, high = sample_range(measured, self.low, self.high)
        return ((image_BCHW - low) / (high - low).clamp(min=EPS)).clamp(0, 1)


def sample_range(image_BCHW: Tensor, low: float = 0.0, high: float = 1.0) -> tuple[Tensor, Tensor]:
    """Two quantiles of each sample and channel over what is not NaN, (B, C, 1, 1) each; zeros where all is NaN."""
    flat = image_BCHW.flatten(2)
    if (low, high) != (0.0, 1.0):
        return tuple(_nan_quantile(flat, q)[..., None, None] for q in (low, high))  # type: ignore[return-value]
    gap = torch.isnan(flat)
    smallest = flat.masked_fill(gap, math.inf).amin(-1)
    largest = flat.masked_fill(gap, -math.inf).amax(-1)
    full = ~gap.all(-1)
    return torch.where(full, smallest, 0.0)[..., None, None], torch.where(full, largest, 0.0)[..., None, None]


def _nan_quantile(values_BCN: Tensor, q: float) -> Tensor:
    """Quantile over the last axis without NaN, by sorting (torch.nanquantile is limited to 16 million values)."""
    ordered = values_BCN.sort(dim=-1).values  # NaN sorts last
    last = (~torch.isnan(values_BCN)).sum(-1, keepdim=True).clamp(min=1) - 1
    position = q * last
    below = position.floor().long()
    above = torch.minimum(below + 1, last)
    a, b = ordered.gather(-1, below), ordered.gather(-1, above)
    return torch.nan_to_num(a + (b - a) * (position - below)).squeeze(-1)


def per_channel(value: Constant, channels: int, default: float = 0.0) -> Tensor:
    """(1, C, 1, 1) float32 of a number for all channels or one per channel."""
    given = default if value is None else value
    tensor = torch.as_tensor(given, dtype=torch.float32).reshape(-1)
    if len(tensor) not in (1, channels):
        raise ConfigError(f"{len(tensor)} constants for {channels} channels: give one number, or one per channel")
    return tensor.expand(channels).clone().view(1, -1, 1, 1)


def _times(value: Constant, factor: float) -> Constant:
    return tuple(v * factor for v in value) if isinstance(value, tuple) else value if value is None else value * factor
