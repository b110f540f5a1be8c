"""Spectral indices as channels: formulas on named optical bands, computed inside the model.

All indices of a set are one program (`swath.data.indices.program`): bands are split once, and what
formulas share, such as N - R, is computed once per batch. An index has no measurement, NaN, where a
band that it needs has none, where the formula is undefined or infinite, and where a mask says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from swath.data.indices.band_formulas import band_of_symbol
from swath.data.indices.blocks import BlockProgram
from swath.data.indices.catalogue import BAND_NAMES, SpectralIndex, find_index
from swath.data.indices.expression import Expression, symbols_of
from swath.data.indices.program import Array, Program, finite
from swath.errors import ConfigError
from swath.nn.preprocess.channels import Missing, band_indices, missing_by_band

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
        self.blocks = BlockProgram(self.program)
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
        raw = self._raw(lambda position: image_BCHW[:, position])
        values = {position: finite(found) for position, found in self.program.run(self._inputs(raw))}
        kept = [raw[name] for name in self.kept]
        return torch.stack([*kept, *(values[position] for position in range(len(values)))], dim=1)

    def _in_blocks(self, image_BCHW: Tensor) -> Tensor:
        """`forward` by blocks of one sample at a time, in NumPy, on as many threads as torch has."""
        samples, _, height, width = image_BCHW.shape
        shape = samples, len(self.names), height * width
        output = np.empty(shape, np.float32)  # of NumPy, which asks for large pages
        for sample in range(samples):
            image = image_BCHW[sample].reshape(-1, height * width).numpy()
            kept, indices = output[sample, : len(self.kept)], output[sample, len(self.kept) :]
            inputs = partial(self._inputs_of_block, image, kept)
            self.blocks.write(inputs, indices, torch.get_num_threads())
        return torch.from_numpy(output).reshape(samples, -1, height, width)

    def _inputs_of_block(
        self, image: NDArray[np.float32], kept: NDArray[np.float32], part: slice
    ) -> dict[str, NDArray[np.float32]]:
        """`_inputs` of a part of the pixels of (bands, pixels); the bands that are kept go into
        `kept`."""
        raw = self._raw(lambda position: image[position, part])
        for position, name in enumerate(self.kept):
            kept[position, part] = raw[name]
        return self._inputs(raw)

    def _raw(self, band: Callable[[int], Array]) -> dict[str, Array]:
        """Each band that is needed, NaN where it is missing, from the `band` of a position."""
        raw = {}
        for name, position in zip(self.read, self.positions, strict=True):
            stored = band(position)
            raw[name] = finite(stored)
            for value in self.missing[position]:
                raw[name] = _only_where(stored != value, raw[name])
        return raw

    def _inputs(self, raw: Mapping[str, Array]) -> dict[str, Array]:
        """Symbol of the formulas to the band's scaled and masked values."""
        water = self._unmasked(raw)
        inputs = {}
        for symbol, name in self.band_of.items():
            values = raw[name]
            if name in self.scaling:
                factor, offset = self.scaling[name]
                values = values * factor + offset
            if water is not None and name not in self.masks.values():
                values = _only_where(water, values)
            inputs[symbol] = values
        return inputs

    def _unmasked(self, raw: Mapping[str, Array]) -> Array | None:
        """bool, in the shape of a band: where indices have a measurement; None: everywhere. Comparisons with NaN
        are false."""
        conditions = []
        if self.masks["quality"]:
            conditions.append(raw[self.masks["quality"]] == 0)
        if self.masks["elevation"]:
            conditions.append(raw[self.masks["elevation"]] <= 0)
        if not conditions:
            return None
        return conditions[0] if len(conditions) == 1 else conditions[0] & conditions[1]


def _only_where(condition: Array, values: Array) -> Array:
    """NaN where the condition does not hold."""
    if isinstance(values, Tensor):
        return torch.where(condition, values, torch.nan)
    return np.where(condition, values, np.float32(np.nan))


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
