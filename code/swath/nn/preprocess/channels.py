"""Raw bands to network input, as modules: derived channels, missing pixels, normalisation.

All take and return float32 (batch, channel, height, width) tensors in which NaN means "no measurement"; only `Fill`
ends with finite values everywhere. Constants are buffers, so weights carry them. Channels of radar: `swath.nn.preprocess.sar`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol

import ignite.distributed as idist
import torch
from torch import Tensor, nn

from swath.data.running_statistics import RunningMoments, band_statistics, merge_moments
from swath.errors import ConfigError
from swath.nn.preprocess.normalise import (
    STATISTICS,
    Constant,
    MinMax,
    PerSampleRange,
    QuantileClamp,
    Statistics,
    ZScore,
    per_channel,
)

log = logging.getLogger("swath.channels")

Missing = Sequence[float] | Mapping[str, Sequence[float]]
"""Raw values that are no measurement: for all bands, or by the name of the band."""


class Channels(Protocol):
    """Derived channels: made with ``available=`` the names of the raw bands, called with them.

    In: float32 (B, raw bands, H, W). Out: float32 (B, C, H, W), NaN where a channel has no measurement.
    """

    names: tuple[str, ...]
    """Names of the C channels."""

    def __call__(self, image_BCHW: Tensor) -> Tensor: ...


def band_indices(wanted: Sequence[str], available: Sequence[str]) -> list[int]:
    """Positions of `wanted` bands, in the order wanted. Raises ConfigError that lists the bands there are."""
    unknown = [name for name in wanted if name not in available]
    if unknown:
        raise ConfigError(
            f"channels.bands: the scenes have no band {', '.join(unknown)}. They have: {', '.join(available)}."
        )
    return [list(available).index(name) for name in wanted]


class Bands(nn.Module):
    """Selected raw bands as they are, in the order of `bands` (None: all of `available`).

    Infinite values and those in `missing` become NaN. Declare them here when files hold values such as -32768 or 0 that
    their headers do not call nodata: training, inference and export then agree.
    """

    def __init__(self, available: Sequence[str], bands: tuple[str, ...] | None = None, missing: Missing = ()) -> None:
        super().__init__()
        self.names = tuple(bands or available)
        self.indices = band_indices(self.names, available)
        self.missing = missing_by_band(missing, self.names)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        return without_missing(_taken(image_BCHW, self.indices), self.missing)


def _taken(image_BCHW: Tensor, indices: Sequence[int]) -> Tensor:
    """Bands by position; not by a list as index, which would be sent to a GPU anew each time and waited for."""
    if list(indices) == list(range(image_BCHW.shape[1])):
        return image_BCHW
    return torch.stack([image_BCHW[:, i] for i in indices], dim=1)


def missing_by_band(missing: Missing, bands: Sequence[str]) -> tuple[tuple[float, ...], ...]:
    """The values that are no measurement, per band. Raises ConfigError for a name that is not among `bands`."""
    if isinstance(missing, Mapping):
        band_indices(tuple(missing), bands)
        return tuple(tuple(missing.get(band, ())) for band in bands)
    return (tuple(missing),) * len(bands)


def without_missing(image_BCHW: Tensor, missing: Sequence[Sequence[float]]) -> Tensor:
    """NaN in place of infinities and of each band's `missing` values (as float32)."""
    gap = ~torch.isfinite(image_BCHW)
    for band, values in enumerate(missing):
        for value in values:
            gap[:, band] |= image_BCHW[:, band] == value
    return torch.where(gap, torch.nan, image_BCHW)


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
        missing: Missing = (),
    ) -> None:
        super().__init__(available, bands, missing)
        low, high = _clip_limits(clip, len(self.names))
        self.register_buffer("low", low)
        self.register_buffer("high", high)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        return decibel(super().forward(image_BCHW)).clamp(self.low, self.high)


def decibel(linear: Tensor) -> Tensor:
    """10 log10 of linear backscatter, in dB; NaN where it is not above 0."""
    return 10 * torch.log10(torch.where(linear > 0, linear, torch.nan))


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

    `value` is in the units of the channels, before normalisation, and one for all or one per channel. A constant beyond
    what the training images hold is moved to the nearest value that they do hold, with a warning: a filled pixel shall
    not stand out from all that are measured.
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
        self.register_buffer("value", per_channel(value, channels))

    def fit(self, statistics: Statistics) -> None:
        if self.strategy != "constant":
            self.value.copy_(statistics[self.strategy].view_as(self.value))
            return
        given = self.value.flatten().cpu()
        inside = torch.where(statistics["count"] > 0, given.clamp(statistics["min"], statistics["max"]), given)
        if not torch.equal(inside, given):
            log.warning("fill: %s lies outside what is measured; using %s", given.tolist(), inside.tolist())
            self.value.copy_(inside.view_as(self.value))

    def forward(self, image_BCHW: Tensor) -> Tensor:
        return torch.where(torch.isnan(image_BCHW), self.value, image_BCHW)


class Preprocess(nn.Module):
    """Derived channels, fill, normalisation: raw bands with NaN in, finite network input out."""

    def __init__(
        self, channels: Channels, fill: Fill, normaliser: ZScore | MinMax | QuantileClamp | PerSampleRange
    ) -> None:
        super().__init__()
        self.channels, self.fill, self.normaliser = channels, fill, normaliser

    def forward(self, image_BCHW: Tensor) -> Tensor:
        return self.with_gaps(image_BCHW)[0]

    def with_gaps(self, image_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """The network's input, and bool (B, C, H, W): where a channel has no measurement and was filled."""
        derived = without_missing(self.channels(image_BCHW), ())  # what overflows is no measurement either
        return torch.nan_to_num(self.normaliser(self.fill(derived), derived)), torch.isnan(derived)

    @torch.no_grad()
    def fit(self, images: Iterable[Tensor]) -> None:
        """Set the constants that were left open from training images, each (C, H, W) of raw bands, of any size.

        One pass in bounded memory. With several processes each gives its own share of the images, none twice, and all
        get the same constants; every process has to call.
        """
        device = self.fill.value.device
        statistics = channel_statistics(self.channels(image[None].to(device))[0] for image in images)
        if statistics:
            self.fill.fit(statistics)
            self.normaliser.fit(statistics)


def channel_statistics(images: Iterable[Tensor]) -> dict[str, Tensor]:
    """`STATISTICS` per channel over the finite pixels of (C, H, W) images of all processes, float32 (C,) on the CPU.

    Zeros for a channel without a finite pixel; an empty dict without an image. Mean, std and extremes are those of all
    pixels at once, quantiles are within half a percentile (see `swath.data.running_statistics`).
    """
    running = RunningMoments()
    for image in images:
        running.add(image.detach().cpu().numpy())
    # a dict: objects of any kind are gathered, but numbers and text are not left alone
    gathered: list[dict[str, Any]] = idist.all_gather({"moments": running.total()})  # type: ignore[assignment]
    parts = [part["moments"] for part in gathered if part["moments"]]
    if not parts:
        return {}
    moments = merge_moments(parts)
    table = band_statistics(moments, [str(i) for i in range(len(moments["count"]))]).values()
    return {name: torch.tensor([float(row.get(name, 0.0)) for row in table]) for name in STATISTICS}
