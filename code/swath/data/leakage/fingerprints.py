"""What a tile holds, in a few bytes: a digest of its pixels, and a thumbnail that outlives gain, noise and small shifts.

Both are made of valid pixels only and do not depend on the order of bands, on file names or on how files are packed.
They are columns of tile_stats.parquet, so that comparing tiles never reads a pixel twice.
"""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache
from typing import Any

import geopandas as gpd
import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

CONTENT, THUMBNAIL = "content", "thumbnail"
COLUMNS = (CONTENT, THUMBNAIL)

SIDE = 16
"""Blocks per side of a thumbnail: tiles of fewer pixels have none."""

LEAST_SEEN = 0.5
"""Share of valid pixels from which a block has a value, and share of such blocks from which a tile has a thumbnail."""

LEAST_TEXTURE = 0.02
"""Share of the ranks' spread that has to be left beside a plane: two smooth ramps are alike without being copies."""

_STEPS = 31
"""int8 steps per standard deviation: four of them fit."""


def fingerprint(image_CHW: NDArray[np.float32]) -> dict[str, str | None]:
    """The columns `content` and `thumbnail` of a tile (float32, NaN where nodata); None where it says too little."""
    finite = np.isfinite(image_CHW)
    drawn = thumbnail(image_CHW, finite)
    return {CONTENT: content_digest(image_CHW, finite), THUMBNAIL: None if drawn is None else encode(drawn)}


def content_digest(image_CHW: NDArray[np.float32], finite: NDArray[np.bool_] | None = None) -> str | None:
    """40 hexadecimal digits of shape and pixel values: equal for equal pixels, whatever the file, nodata value or dtype.

    None when no band holds two different values: empty and constant tiles resemble each other for no reason. SHA-1, as
    processors compute it twice as fast as newer digests; nobody forges tiles. `finite`: np.isfinite of the image, if known.
    """
    finite = np.isfinite(image_CHW) if finite is None else finite
    whole = bool(finite.all())
    if not any(_varies(band if whole else band[seen]) for band, seen in zip(image_CHW, finite, strict=True)):
        return None
    pixels = np.add(image_CHW, np.float32(0), order="C")  # one zero
    if not whole:
        pixels[~finite] = np.nan  # one kind of NaN
    bands = sorted(hashlib.sha1(band, usedforsecurity=False).digest() for band in pixels)
    return hashlib.sha1(b"".join([str(pixels.shape).encode(), *bands]), usedforsecurity=False).hexdigest()


def thumbnail(image_CHW: NDArray[np.float32], finite: NDArray[np.bool_] | None = None) -> NDArray[np.float32] | None:
    """float32 (SIDE * SIDE,) of length 1, or None for tiles that are small, mostly nodata, or without texture.

    Per band: medians of blocks, their ranks, less the plane that fits them best; averaged over bands. Ranks of medians
    do not change under any rising function of the pixels (gain, offset, dB, gamma), hardly under noise; the plane
    would make two tiles with a slope alike. The cosine of two thumbnails is thus a partial rank correlation.
    """
    if min(image_CHW.shape[1:]) < SIDE:
        return None
    bands = [textured for medians in block_medians(image_CHW, finite) if (textured := _texture(medians)) is not None]
    total = np.sum(bands, axis=0) if bands else np.zeros(1)
    length = np.linalg.norm(total)
    return (total / length).astype(np.float32) if length > 1e-6 else None


def block_medians(image_CHW: NDArray[np.float32], finite: NDArray[np.bool_] | None = None) -> NDArray[np.float32]:
    """(bands, SIDE * SIDE) lower medians of the valid pixels of equal blocks; NaN where less than half are valid.

    What does not divide by SIDE is left out at the edges.
    """
    finite = np.isfinite(image_CHW) if finite is None else finite
    blocks = _blocks(image_CHW)
    if finite.all():
        middle = (blocks.shape[-1] - 1) // 2
        blocks.partition(middle, axis=-1)
        return blocks[..., middle]
    valid = _blocks(finite)
    blocks[~valid] = np.nan
    blocks.sort(axis=-1)  # NaN last
    seen = np.count_nonzero(valid, axis=-1)
    medians = np.take_along_axis(blocks, np.maximum((seen - 1) // 2, 0)[..., None], axis=-1)[..., 0]
    return np.where(seen >= LEAST_SEEN * blocks.shape[-1], medians, np.float32(np.nan))


def _blocks(image_CHW: NDArray[Any]) -> NDArray[Any]:
    """(bands, SIDE * SIDE, pixels of a block), a copy."""
    count, height, width = image_CHW.shape
    tall, wide = height // SIDE, width // SIDE
    top, left = (height - tall * SIDE) // 2, (width - wide * SIDE) // 2
    inside = image_CHW[:, top : top + tall * SIDE, left : left + wide * SIDE].reshape(count, SIDE, tall, SIDE, wide)
    return inside.transpose(0, 1, 3, 2, 4).copy().reshape(count, SIDE**2, -1)


def _texture(medians: NDArray[np.float32]) -> NDArray[np.float64] | None:
    """Standardised ranks beside their plane, 0 where there is no median; None when little is left."""
    seen = np.isfinite(medians)
    if seen.mean() < LEAST_SEEN:
        return None
    ranks = rankdata(medians[seen])
    plane = _planes(seen.tobytes())
    rest = ranks - plane @ (plane.T @ ranks)
    if rest.std() <= LEAST_TEXTURE * len(ranks):
        return None
    out = np.zeros(SIDE**2)
    out[seen] = rest / rest.std()
    return out


@lru_cache(maxsize=16)
def _planes(seen: bytes) -> NDArray[np.float64]:
    """(blocks, 3): orthonormal columns that span the planes over the blocks that are seen."""
    row, col = np.divmod(np.flatnonzero(np.frombuffer(seen, bool)), SIDE)
    return np.linalg.qr(np.stack([np.ones(len(row)), row, col], axis=1))[0]


def _varies(values: NDArray[np.float32]) -> bool:
    return bool(values.size and values.min() != values.max())


def encode(vector: NDArray[np.float32]) -> str:
    """A thumbnail as text for tables and JSON, in steps of 1/31 of its standard deviation, cut at four of them."""
    steps = np.clip(np.rint(vector / vector.std() * _STEPS), -127, 127).astype(np.int8)
    return base64.b64encode(steps.tobytes()).decode()


def thumbnails(tiles: gpd.GeoDataFrame) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """(positions of the rows that have a thumbnail, their thumbnails (count, SIDE * SIDE) of length 1)."""
    if THUMBNAIL not in tiles:
        return np.zeros(0, np.int64), np.zeros((0, SIDE**2), np.float32)
    at = np.flatnonzero(tiles[THUMBNAIL].notna())
    raw = b"".join(base64.b64decode(text) for text in tiles[THUMBNAIL].iloc[at])
    vectors = np.frombuffer(raw, np.int8).reshape(len(at), SIDE**2).astype(np.float32)
    return at, vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
