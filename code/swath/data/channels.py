"""Raw bands to network input, as modules: derived channels, missing pixels, normalisation.

All take and return float32 (batch, channel, height, width) tensors in which NaN means "no measurement"; only `Fill`
ends with finite values everywhere. Constants are buffers, so weights carry them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from swath.errors import ConfigError

STATISTICS = ("mean", "std", "min", "max", "q01", "q99")
EPS = 1e-6

Constant = float | tuple[float, ...] | None
"""One number for all channels, one per channel, or None: fitted on the training tiles."""


def band_indices(wanted: Sequence[str], available: Sequence[str]) -> list[int]:
    """Positions of `wanted` bands, in the order wanted. Raises ConfigError that lists the bands there are."""
    unknown = [name for name in wanted if name not in available]
    if unknown:
        raise ConfigError(
            f"channels.bands: the scenes have no band {', '.join(unknown)}. They have: {', '.join(available)}."
        )
    return [list(available).index(name) for name in wanted]


class Bands(nn.Module):
    """Selected raw bands as they are, in the order of `bands` (None: all of `available`)."""

    def __init__(self, available: Sequence[str], bands: tuple[str, ...] | None = None) -> None:
        super().__init__()
        self.names = tuple(bands or available)
        self.indices = band_indices(self.names, available)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        return image_BCHW[:, self.indices]


Range = tuple[float, float]


class Decibel(Bands):
    """10 log10 of selected bands of linear backscatter, in dB, clipped to `clip` = (low, high), one or one per band.

    Values of 0 and below are no measurement and become NaN: they never turn into 0 dB, brighter than land. Clipping
    the dark end keeps a network from telling apart what only noise tells apart.
    """

    low: Tensor
    high: Tensor

    def __init__(
        self,
        available: Sequence[str],
        bands: tuple[str, ...] | None = None,
        clip: Range | tuple[Range, ...] | None = None,
    ) -> None:
        super().__init__(available, bands)
        low, high = _clip_limits(clip, len(self.names))
        self.register_buffer("low", low)
        self.register_buffer("high", high)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        linear = super().forward(image_BCHW)
        db = 10 * torch.log10(torch.where(linear > 0, linear, torch.nan))
        return db.clamp(self.low, self.high)


def _clip_limits(clip: Range | tuple[Range, ...] | None, bands: int) -> tuple[Tensor, Tensor]:
    """Lowest and highest dB per band, (1, C, 1, 1) each; infinite without clipping."""
    limits = (-math.inf, math.inf) if clip is None else clip
    pairs = torch.tensor(limits, dtype=torch.float32).reshape(-1, 2)
    if len(pairs) not in (1, bands) or not (pairs[:, 0] < pairs[:, 1]).all():
        raise ConfigError(f"channels.clip={clip}: give (low, high) in dB, or one such pair for each of {bands} bands")
    low, high = pairs.expand(bands, 2).T.contiguous()
    return low.reshape(1, -1, 1, 1), high.reshape(1, -1, 1, 1)


class Fill(nn.Module):
    """Replace NaN after channels are derived: by the training ``mean`` or ``min`` of the channel, or a ``constant``.

    `value` is in the units of the channels, before normalisation, and one for all or one per channel.
    """

    value: Tensor

    def __init__(
        self, channels: int, strategy: Literal["mean", "min", "constant"] = "mean", value: Constant = None
    ) -> None:
        super().__init__()
        if (strategy == "constant") != (value is not None):
            raise ConfigError(
                f"fill: strategy={strategy!r} with value={value!r}; a value belongs to `constant`, and only there"
            )
        self.strategy = strategy
        self.register_buffer("value", _per_channel(value, channels))

    def fit(self, statistics: Mapping[str, Tensor]) -> None:
        if self.strategy != "constant":
            self.value.copy_(statistics[self.strategy].view_as(self.value))

    def forward(self, image_BCHW: Tensor) -> Tensor:
        return torch.where(torch.isnan(image_BCHW), self.value, image_BCHW)


class Normaliser(nn.Module):
    """(x - `offset`) / `scale` per channel; children say where the two come from. `scale` is at least 1e-6."""

    offset: Tensor
    scale: Tensor

    def __init__(self, channels: int, offset: Constant = None, scale: Constant = None) -> None:
        super().__init__()
        self.fitted = (offset is None, scale is None)
        self.register_buffer("offset", _per_channel(offset, channels))
        self.register_buffer("scale", _per_channel(scale, channels, default=1.0).clamp(min=EPS))

    def _set(self, offset: Tensor, scale: Tensor) -> None:
        if self.fitted[0]:
            self.offset.copy_(offset.view_as(self.offset))
        if self.fitted[1]:
            self.scale.copy_(scale.view_as(self.scale).clamp(min=EPS))

    def forward(self, image_BCHW: Tensor) -> Tensor:
        return (image_BCHW - self.offset) / self.scale


class ZScore(Normaliser):
    """(x - mean) / std. ``ZScore(mean=0.0, std=5.0)`` is the fixed scaling of linear backscatter."""

    def __init__(self, channels: int, mean: Constant = None, std: Constant = None) -> None:
        super().__init__(channels, mean, std)

    def fit(self, statistics: Mapping[str, Tensor]) -> None:
        self._set(statistics["mean"], statistics["std"])


class MinMax(Normaliser):
    """(x - minimum) / (maximum - minimum): training range to [0, 1]."""

    def __init__(self, channels: int, minimum: Constant = None, maximum: Constant = None) -> None:
        super().__init__(channels)
        self.given = {
            name: _per_channel(limit, channels).flatten()
            for name, limit in (("min", minimum), ("max", maximum))
            if limit is not None
        }
        if len(self.given) == 2:
            self.fit({})

    def fit(self, statistics: Mapping[str, Tensor]) -> None:
        limits = {**statistics, **self.given}
        self._set(limits["min"], limits["max"] - limits["min"])


class QuantileClamp(Normaliser):
    """The training quantiles q01 to q99 to [0, 1], values beyond clamped."""

    def fit(self, statistics: Mapping[str, Tensor]) -> None:
        self._set(statistics["q01"], statistics["q99"] - statistics["q01"])

    def forward(self, image_BCHW: Tensor) -> Tensor:
        return super().forward(image_BCHW).clamp(0, 1)


class PerSampleRange(nn.Module):
    """Each sample's own quantiles `low` to `high` (0 to 1: its minimum and maximum) to [0, 1], clamped."""

    def __init__(self, channels: int, low: float = 0.0, high: float = 1.0) -> None:
        super().__init__()
        self.low, self.high = low, high

    def fit(self, statistics: Mapping[str, Tensor]) -> None:
        """Nothing to fit: the range is the sample's own."""

    def forward(self, image_BCHW: Tensor) -> Tensor:
        flat = image_BCHW.flatten(2)
        low, high = (_nan_quantile(flat, q)[..., None, None] for q in (self.low, self.high))
        return ((image_BCHW - low) / (high - low).clamp(min=EPS)).clamp(0, 1)


def _nan_quantile(values_BCN: Tensor, q: float) -> Tensor:
    """Quantile over the last axis without NaN, by sorting (torch.nanquantile is limited to 16 million values)."""
    ordered = values_BCN.sort(dim=-1).values  # NaN sorts last
    last = (~torch.isnan(values_BCN)).sum(-1, keepdim=True).clamp(min=1) - 1
    position = q * last
    below = position.floor().long()
    above = torch.minimum(below + 1, last)
    a, b = ordered.gather(-1, below), ordered.gather(-1, above)
    return torch.nan_to_num(a + (b - a) * (position - below)).squeeze(-1)


def _per_channel(value: Constant, channels: int, default: float = 0.0) -> Tensor:
    """(1, C, 1, 1) float32 of a number for all channels or one per channel."""
    given = default if value is None else value
    tensor = torch.as_tensor(given, dtype=torch.float32).reshape(-1)
    if len(tensor) not in (1, channels):
        raise ConfigError(f"{len(tensor)} constants for {channels} channels: give one number, or one per channel")
    return tensor.expand(channels).clone().view(1, -1, 1, 1)


class Preprocess(nn.Module):
    """Derived channels, fill, normalisation: raw bands with NaN in, finite network input out."""

    def __init__(
        self, channels: Bands, fill: Fill, normaliser: ZScore | MinMax | QuantileClamp | PerSampleRange
    ) -> None:
        super().__init__()
        self.channels, self.fill, self.normaliser = channels, fill, normaliser

    def forward(self, image_BCHW: Tensor) -> Tensor:
        return torch.nan_to_num(self.normaliser(self.fill(self.channels(image_BCHW))))

    def fit(self, images: Sequence[Tensor]) -> None:
        """Set the constants that were left open from training images, each (C, H, W) of raw bands."""
        if images:
            statistics = channel_statistics([self.channels(image[None])[0] for image in images])
            self.fill.fit(statistics)
            self.normaliser.fit(statistics)


def channel_statistics(images: Sequence[Tensor]) -> dict[str, Tensor]:
    """Per channel over the valid pixels of all images: mean, std, min, max, q01, q99; zeros where nothing is valid."""
    columns = []
    for channel in range(images[0].shape[0]):
        values = torch.cat([image[channel][torch.isfinite(image[channel])] for image in images]).double()
        columns.append(_statistics(values))
    return {name: torch.stack([column[name] for column in columns]).float() for name in STATISTICS}


def _statistics(values: Tensor) -> dict[str, Tensor]:
    if not len(values):
        return {name: torch.zeros((), dtype=torch.float64) for name in STATISTICS}
    ordered = values.sort().values
    at = {
        name: ordered[round(q * (len(ordered) - 1))]
        for name, q in (("q01", 0.01), ("q99", 0.99), ("min", 0.0), ("max", 1.0))
    }
    return {"mean": values.mean(), "std": values.std(correction=0), **at}
