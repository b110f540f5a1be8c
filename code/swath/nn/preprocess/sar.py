"""Channel sets of dual-polarisation radar: formulas on VH and VV in linear backscatter (sigma or gamma nought).

Each set is made with ``available=`` the names of the scene's bands and finds its two by name, so it serves scenes of
(vv, vh) as well as 3-band scenes of (vh, vv, mean), whose third band it computes itself. A polarisation that is NaN,
infinite, among `missing`, or not above 0 has no measurement, and neither has any channel that needs it: NaN. The
formulas are those of the UNOSAT pipeline (configs and `dataflow/datasets.py`), in its order of bands.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from swath.errors import ConfigError
from swath.nn.preprocess.channels import Missing, band_indices, decibel, missing_by_band, without_missing
from swath.nn.preprocess.normalise import sample_range


class Polarisations(nn.Module):
    """What the sets share: VH and VV by name in, `formula` of the two out, stacked as `names`."""

    names: tuple[str, ...]

    def __init__(self, available: Sequence[str], vh: str = "vh", vv: str = "vv", missing: Missing = ()) -> None:
        """`vh`, `vv`: names of the two raw bands. Raises ConfigError that lists the bands there are."""
        super().__init__()
        self.indices = band_indices((vh, vv), available)
        self.missing = missing_by_band(missing, (vh, vv))

    def forward(self, image_BCHW: Tensor) -> Tensor:
        both = without_missing(image_BCHW[:, self.indices], self.missing)
        vh, vv = torch.where(both > 0, both, torch.nan).unbind(1)
        return torch.stack(self.formula(vh, vv), dim=1)

    def formula(self, vh: Tensor, vv: Tensor) -> list[Tensor]:
        """Channels (B, H, W) in the order of `names`, from linear backscatter above 0 or NaN."""
        raise NotImplementedError


class Linear3(Polarisations):
    """VH, VV and their mean: the bands of a 3-band scene."""

    names = ("vh", "vv", "mean")

    def formula(self, vh: Tensor, vv: Tensor) -> list[Tensor]:
        return [vh, vv, 0.5 * (vh + vv)]


class Decibel3(Polarisations):
    """10 log10 of VH, VV and their mean, in dB."""

    names = ("vh_db", "vv_db", "mean_db")

    def formula(self, vh: Tensor, vv: Tensor) -> list[Tensor]:
        return [decibel(band) for band in (vh, vv, 0.5 * (vh + vv))]


class LogSquare3(Polarisations):
    """ln(x^2) of VH, VV and their mean, as 2 ln(x), which does not underflow."""

    names = ("vh_log2", "vv_log2", "mean_log2")

    def formula(self, vh: Tensor, vv: Tensor) -> list[Tensor]:
        return [2 * torch.log(band) for band in (vh, vv, 0.5 * (vh + vv))]


class Linear5(Polarisations):
    """VH, VV, their mean, VV - VH and sqrt(VH^2 + VV^2)."""

    names = ("vh", "vv", "mean", "difference", "norm")

    def formula(self, vh: Tensor, vv: Tensor) -> list[Tensor]:
        return [vh, vv, 0.5 * (vh + vv), vv - vh, torch.hypot(vh, vv)]


class Linear6(Polarisations):
    """VH, VV, their mean, VV VH, (VV + 0.01) / (VH + 0.01) and sqrt(VH^2 + VV^2)."""

    names = ("vh", "vv", "mean", "product", "ratio", "norm")

    def formula(self, vh: Tensor, vv: Tensor) -> list[Tensor]:
        return [vh, vv, 0.5 * (vh + vv), vv * vh, (vv + 0.01) / (vh + 0.01), torch.hypot(vh, vv)]


class Decibel5(Polarisations):
    """VH, VV and their mean in dB, their product VV_dB VH_dB, and (VV_dB + 1) / (VH_dB + 1).

    The ratio has a pole at VH = -1 dB. Where the divisor is closer to 0 than `guard` dB, it is taken as `guard`, with
    its sign (0: plus): the ratio stays below |VV_dB + 1| / `guard`, and is the exact formula everywhere else.
    """

    names = ("vh_db", "vv_db", "mean_db", "product_db", "ratio_db")

    def __init__(
        self, available: Sequence[str], vh: str = "vh", vv: str = "vv", missing: Missing = (), guard: float = 0.01
    ) -> None:
        super().__init__(available, vh, vv, missing)
        if not guard > 0:
            raise ConfigError(f"channels.guard={guard}: must be above 0 dB")
        self.guard = guard

    def formula(self, vh: Tensor, vv: Tensor) -> list[Tensor]:
        vh_db, vv_db, mean_db = (decibel(band) for band in (vh, vv, 0.5 * (vh + vv)))
        divisor = vh_db + 1
        pole = torch.where(divisor < 0, -self.guard, self.guard)
        ratio = (vv_db + 1) / torch.where(divisor.abs() < self.guard, pole, divisor)
        return [vh_db, vv_db, mean_db, vv_db * vh_db, ratio]


class RootRange3(Polarisations):
    """VH, VV and their mean, each scaled by the sample's own minimum and maximum to [0, 1], then x^0.2 - 0.5.

    Only measured pixels count in the range. A constant channel gives -0.5. Combine with ``ZScore(mean=0.0, std=1.0)``.
    """

    names = ("vh_root", "vv_root", "mean_root")

    def formula(self, vh: Tensor, vv: Tensor) -> list[Tensor]:
        bands = torch.stack([vh, vv, 0.5 * (vh + vv)], dim=1)
        low, high = sample_range(bands)
        share = (bands - low) / torch.where(high > low, high - low, 1.0)
        return list((share**0.2 - 0.5).unbind(1))
