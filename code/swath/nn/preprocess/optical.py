"""Spectral indices as channels: formulas on named optical bands, computed inside the model.

All indices of a set are one program (`swath.data.indices.program`): bands are split once, and what
formulas share, such as N - R, is computed once per batch. An index has no measurement, NaN, where a
band that it needs has none, where the formula is undefined or infinite, and where a mask says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from swath.data.indices.band_formulas import band_of_symbol
from swath.data.indices.catalogue import BAND_NAMES, SpectralIndex, find_index
from swath.data.indices.expression import Expression, symbols_of
from swath.data.indices.program import Program, finite
from swath.errors import ConfigError
from swath.nn.preprocess.channels import Missing, band_indices, missing_by_band

BLOCK = 1 << 15
"""Pixels that a CPU takes at a time: what the indices of a block need in between then stays in its
cache."""

Scaling = tuple[float, float] | Mapping[str, tuple[float, float]]
"""(factor, offset) of raw values for all optical bands, or by the name of the band."""


class Indices(nn.Module):
    """Raw bands as they are, then spectral indices: (B, bands + indices, H, W), in the order given.

    Config: ``partial(Indices, indices=("NDVI", "GNDVI"), bands=("R", "G", "B", "NIR"))``. Names are
    those of `swath.data.indices.catalogue.INDICES`, of spyndex where it is installed, and of
    `formulas`.
    """

    table: ClassVar[Mapping[str, SpectralIndex]] = {}
    """Indices of a subclass, which stand before those of the same names in general use."""

    def __init__(
        self,
        available: Sequence[str],
        indices: tuple[str, ...],
        bands: tuple[str, ...] | None = None,
        formulas: Mapping[str, str] | None = None,
        constants: Mapping[str, float] | None = None,
        symbols: Mapping[str, str] | None = None,
        scale: Literal["as_is", "reflectance"] = "as_is",
        scaling: Scaling | None = None,
        quality: str | None = None,
        elevation: str | None = None,
        missing: Missing = (),
    ) -> None:
        """Raises ConfigError for an index, band or setting that there is not.

        `indices`: names. `bands`: raw bands that stand before the indices, unscaled; None: all, ():
        none. `formulas`: the user's own indices, name to text. `constants`: values of names in
        formulas, in place of defaults. `symbols`: the scene's band that a symbol of formulas stands
        for, such as ``{"N": "B08"}``; without it the band of that name, or of a name in
        `BAND_NAMES`.

        `scale`: what formulas get. ``as_is``: raw values. ``reflectance``: raw value x factor +
        offset of `scaling` for the optical bands (those of `BAND_NAMES`), or for the bands that a
        mapping names; Landsat Collection 2 surface reflectance has (2.75e-5, -0.2). Constants such
        as the 1 in EVI assume reflectance; digital numbers of thousands drown them.

        `quality`: a band of flags; indices have a measurement only where it is 0. `elevation`: a
        band in metres; only where it is at most 0, so that neither land nor pixels of unknown
        elevation have. Formulas that use the masking band itself see it unmasked. `missing`: raw
        values that are no measurement, for all bands or by name.
        """
        super().__init__()
        if len(set(indices)) < len(indices) or not indices:
            raise ConfigError(f"channels.indices={indices}: give at least one name, and each once")
        kept = tuple(available) if bands is None else bands
        expressions = self._expressions(indices, formulas, constants)
        self.band_of = _bands_of_symbols(expressions, available, symbols or {})
        self.masks = {"quality": quality, "elevation": elevation}
        read = dict.fromkeys([*kept, *self.band_of.values(), *(band for band in self.masks.values() if band)])
        self.read = tuple(read)
        self.positions = band_indices(self.read, available)
        self.missing = missing_by_band(missing, available)
        self.kept = kept
        self.names = (*kept, *indices)
        self.program = Program(list(expressions.values()))
        self.scaling = _scaling(scale, scaling, self.band_of, available)

    def _expressions(
        self,
        indices: Sequence[str],
        formulas: Mapping[str, str] | None,
        constants: Mapping[str, float] | None,
    ) -> dict[str, Expression]:
        found = {}
        for name in indices:
            found[name] = find_index(name, formulas, self.table).expression(constants)
        return found

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """float32 (B, raw bands, H, W), NaN where missing, to float32 (B, C, H, W); names of
        channels: `names`."""
        if _takes_blocks(image_BCHW):
            return self._in_blocks(image_BCHW)
        raw = self._raw(image_BCHW)
        values = {position: finite(found) for position, found in self.program.run(self._inputs(raw))}
        kept = [raw[name] for name in self.kept]
        return torch.stack([*kept, *(values[position] for position in range(len(values)))], dim=1)

    def _in_blocks(self, image_BCHW: Tensor) -> Tensor:
        """`forward` by blocks of one sample at a time, in NumPy, whose operations on small arrays
        cost less."""
        samples, _, height, width = image_BCHW.shape
        # of NumPy, which asks for large pages
        output = torch.from_numpy(np.empty((samples, len(self.names), height, width), dtype=np.float32))
        for sample in range(samples):
            raw = self._raw(image_BCHW[sample : sample + 1])
            for position, name in enumerate(self.kept):
                output[sample, position] = raw[name][0]
            inputs = {symbol: values.numpy().reshape(-1) for symbol, values in self._inputs(raw).items()}
            self._write(inputs, output[sample, len(self.kept) :].numpy().reshape(-1, height * width))
        return output

    def _write(self, inputs: Mapping[str, NDArray[np.float32]], output: NDArray[np.float32]) -> None:
        """Indices of flat bands into (indices, pixels)."""
        with np.errstate(all="ignore"):
            for start in range(0, output.shape[1], BLOCK):
                part = slice(start, start + BLOCK)
                for position, values in self.program.run({symbol: band[part] for symbol, band in inputs.items()}):
                    np.add(values, values - values, out=output[position, part])  # `finite`, in its place

    def _raw(self, image_BCHW: Tensor) -> dict[str, Tensor]:
        """(B, H, W) of each band that is needed, NaN where it is missing."""
        raw = {}
        for name, position in zip(self.read, self.positions, strict=True):
            band = image_BCHW[:, position]
            raw[name] = finite(band)
            for value in self.missing[position]:
                raw[name] = torch.where(band == value, torch.nan, raw[name])
        return raw

    def _inputs(self, raw: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Symbol of the formulas to the band's scaled and masked values."""
        water = self._unmasked(raw)
        inputs = {}
        for symbol, name in self.band_of.items():
            values = raw[name]
            if name in self.scaling:
                factor, offset = self.scaling[name]
                values = values * factor + offset
            if water is not None and name not in self.masks.values():
                values = torch.where(water, values, torch.nan)
            inputs[symbol] = values
        return inputs

    def _unmasked(self, raw: Mapping[str, Tensor]) -> Tensor | None:
        """bool (B, H, W): where indices have a measurement; None: everywhere. Comparisons with NaN
        are false."""
        conditions = []
        if self.masks["quality"]:
            conditions.append(raw[self.masks["quality"]] == 0)
        if self.masks["elevation"]:
            conditions.append(raw[self.masks["elevation"]] <= 0)
        if not conditions:
            return None
        return conditions[0] if len(conditions) == 1 else conditions[0] & conditions[1]


def _takes_blocks(image_BCHW: Tensor) -> bool:
    """Whether the image is worth taking in blocks: on a CPU, with nobody who traces operations or
    needs gradients."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    is_plain = image_BCHW.device.type == "cpu" and image_BCHW.dtype == torch.float32
    return is_plain and not image_BCHW.requires_grad


def _bands_of_symbols(
    expressions: Mapping[str, Expression], available: Sequence[str], symbols: Mapping[str, str]
) -> dict[str, str]:
    """Name of the scene's band for each symbol of the formulas. Raises ConfigError for an index
    without its bands."""
    band_indices(tuple(symbols.values()), available)
    found: dict[str, str] = {}
    for index, expression in expressions.items():
        for symbol in symbols_of(expression):
            found[symbol] = symbols[symbol] if symbol in symbols else band_of_symbol(symbol, index, available)
    return found


def _scaling(
    scale: str, scaling: Scaling | None, band_of: Mapping[str, str], available: Sequence[str]
) -> dict[str, tuple[float, float]]:
    """(factor, offset) by band of those that formulas get scaled."""
    if scale not in ("as_is", "reflectance"):
        raise ConfigError(f"channels.scale={scale!r}: give 'as_is' or 'reflectance'")
    if (scale == "reflectance") != (scaling is not None):
        raise ConfigError(
            f"channels: scale={scale!r} with scaling={scaling!r}; (factor, offset) of raw values belong to "
            "'reflectance', and only there"
        )
    if scaling is None:
        return {}
    if isinstance(scaling, Mapping):
        band_indices(tuple(scaling), available)
        return {name: (factor, offset) for name, (factor, offset) in scaling.items()}
    factor, offset = scaling
    return {name: (factor, offset) for symbol, name in band_of.items() if symbol in BAND_NAMES}
