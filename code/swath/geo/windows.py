"""How a length or a raster is divided: windows of constant size, or of constant stride, and who owns which pixel."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from swath.config.ranges import Count, Pixels
from swath.errors import ConfigError
from swath.geo.grid import Window

Edge = Literal["pad", "shift"]

BLOCK = 512
"""Side of the blocks that rasters are written in."""


def constant_size_offsets(length: int, size: int, min_overlap: int) -> list[int]:
    """Offsets of windows of `size` px that cover [0, `length`) evenly, neighbours sharing at least `min_overlap` px.

    n = ceil(length / (size - min_overlap)), overlap o = (size n - length) / (n - 1), offset_i = round(i (size - o)):
    the rule of the UNOSAT pipeline's tiler. A length of at most one window gives the one window at 0.
    Raises ValueError unless 0 <= min_overlap < size and length > 0.
    """
    if not 0 <= min_overlap < size or length <= 0:
        raise ValueError(f"need 0 <= min_overlap < size and length > 0, got {min_overlap=}, {size=}, {length=}")
    if length <= size:
        return [0]
    n = math.ceil(length / (size - min_overlap))
    stride = (length - size) / (n - 1)
    return [round(i * stride) for i in range(n)]


def constant_stride_offsets(length: int, size: int, stride: int, edge: Edge = "pad") -> list[int]:
    """Offsets 0, stride, 2 stride, ... until [0, `length`) is covered.

    The last window sticks out (``edge="pad"``) or is moved back inside (``edge="shift"``, as sliding-window
    inference does); a length shorter than `size` gives one window at 0 either way.
    Raises ValueError unless 0 < stride <= size and length > 0.
    """
    if not 0 < stride <= size or length <= 0:
        raise ValueError(f"need 0 < stride <= size and length > 0, got {stride=}, {size=}, {length=}")
    n = 1 + max(0, math.ceil((length - size) / stride))
    last = max(0, length - size) if edge == "shift" else (n - 1) * stride
    return [min(i * stride, last) for i in range(n)]


@dataclass(frozen=True, kw_only=True)
class ConstantSize:
    """Windows of exactly `size` px square that share at least `min_overlap` px with their neighbours."""

    size: Pixels = 512
    min_overlap: Count = 32

    def require_consistent(self, where: str) -> None:
        """Raise ConfigError for an overlap that leaves no step."""
        if self.min_overlap >= self.size:
            raise ConfigError(
                f"{where}.min_overlap={self.min_overlap}: has to be smaller than {where}.size={self.size}. "
                f"Set both, such as -P {where}.size=512 -P {where}.min_overlap=32."
            )

    def offsets(self, length: int) -> list[int]:
        return constant_size_offsets(length, self.size, self.min_overlap)

    def side(self, length: int) -> int:
        return self.size


@dataclass(frozen=True, kw_only=True)
class ConstantStride:
    """Windows of `size` px square every `stride` px; the last one is padded or shifted inside (`edge`)."""

    size: Pixels = 2048
    stride: Pixels = 2048
    edge: Edge = "pad"

    def require_consistent(self, where: str) -> None:
        """Raise ConfigError for a step that leaves pixels out."""
        if self.stride > self.size:
            raise ConfigError(
                f"{where}.stride={self.stride}: has to be {where}.size={self.size} at most. "
                f"Set both, such as -P {where}.size=2048 -P {where}.stride=2048."
            )

    def offsets(self, length: int) -> list[int]:
        return constant_stride_offsets(length, self.size, self.stride, self.edge)

    def side(self, length: int) -> int:
        return self.size


@dataclass(frozen=True, kw_only=True)
class Whole:
    """One window, of the size of the raster: crops are then drawn from all of a scene, and scenes are judged whole."""

    def offsets(self, length: int) -> list[int]:
        return [0]

    def side(self, length: int) -> int:
        return length


Tiling = ConstantSize | ConstantStride | Whole


def windows(shape: tuple[int, int], tiling: Tiling) -> Iterator[tuple[Window, Window]]:
    """Pairs (window, core) over a raster of `shape`, row by row.

    Cores partition the raster: each pixel is in the core of exactly one window, so scores that look at cores only
    count every pixel once. Neighbours meet in the middle of their overlap.
    """
    cols = list(_with_cores(shape[1], tiling))
    sides = tiling.side(shape[0]), tiling.side(shape[1])
    for row, core_row, core_height in _with_cores(shape[0], tiling):
        for col, core_col, core_width in cols:
            yield (
                Window(row, col, *sides),
                Window(core_row, core_col, core_height, core_width),
            )


def _with_cores(length: int, tiling: Tiling) -> Iterator[tuple[int, int, int]]:
    offsets, side = tiling.offsets(length), tiling.side(length)
    ends = [min(o + side, length) for o in offsets]
    cuts = [0, *((start + end) // 2 for start, end in zip(offsets[1:], ends[:-1], strict=True)), length]
    for offset, start, stop in zip(offsets, cuts[:-1], cuts[1:], strict=True):
        yield offset, start, stop - start


def strips(shape: tuple[int, int], pixels: int) -> Iterator[Window]:
    """Full-width windows of at most about `pixels` pixels, at least one row high: for work with bounded memory.

    As whole rows of blocks where that many fit: a block that two windows share is read or packed twice.
    """
    height = max(1, pixels // max(1, shape[1]))
    height -= height % BLOCK if height > BLOCK else 0
    for row in range(0, shape[0], height):
        yield Window(row, 0, min(height, shape[0] - row), shape[1])


def bricks(shape: tuple[int, int], block: int, pixels: int) -> Iterator[Window]:
    """Windows one row of blocks high and at most about `pixels` pixels large, from left to right, then down.

    Cut along blocks, so that a file in blocks of `block` px square gets each of them whole and once.
    """
    width = max(1, pixels // block**2) * block
    for row in range(0, shape[0], block):
        for col in range(0, shape[1], width):
            yield Window(row, col, min(block, shape[0] - row), min(width, shape[1] - col))


def blend_weights(shape: tuple[int, int], kind: Literal["uniform", "linear", "gaussian"]) -> np.ndarray:
    """float32 (height, width) weights > 0 of a window's pixels: one everywhere, a pyramid, or a bell.

    The pyramid is the product over axes of min(i + 1, n - i) / ceil(n / 2); the bell has a standard deviation of
    an eighth of the side, as MONAI's sliding-window inference, floored at 1e-3.
    """
    return np.outer(_profile(shape[0], kind), _profile(shape[1], kind)).astype(np.float32)


def _profile(n: int, kind: str) -> np.ndarray:
    if kind == "uniform":
        return np.ones(n)
    if kind == "linear":
        i = np.arange(n)
        return np.minimum(i + 1, n - i) / math.ceil(n / 2)
    x = (np.arange(n) - (n - 1) / 2) / (n / 8)
    return np.maximum(np.exp(-0.5 * x**2), 1e-3)
