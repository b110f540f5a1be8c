"""What a tile holds, in a few bytes: a digest of its pixels, and a thumbnail that outlives gain, noise and small shifts.

Both are made of valid pixels only and do not depend on the order of bands, on file names or on how files are packed.
They are columns of tile_stats.parquet, so that comparing tiles never reads a pixel twice.
"""

from __future__ import annotations

import base64
import hashlib

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
    drawn = thumbnail(image_CHW)
    return {CONTENT: content_digest(image_CHW), THUMBNAIL: None if drawn is None else encode(drawn)}


def content_digest(image_CHW: NDArray[np.float32]) -> str | None:
    """32 hexadecimal digits of shape and pixel values: equal for equal pixels, whatever the file, nodata value or dtype.

    None when no band holds two different values: empty and constant tiles resemble each other for no reason.
    """
    finite = np.isfinite(image_CHW)
    whole = bool(finite.all())
    if not any(_varies(band if whole else band[seen]) for band, seen in zip(image_CHW, finite, strict=True)):
        return None
    pixels = np.add(image_CHW, np.float32(0), order="C")  # one zero
    if not whole:
        pixels[~finite] = np.nan  # one kind of NaN
    bands = sorted(hashlib.blake2b(band, digest_size=16).digest() for band in pixels)
    return hashlib.blake2b(b"".join([str(pixels.shape).encode(), *bands]), digest_size=16).hexdigest()


def thumbnail(image_CHW: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """float32 (SIDE * SIDE,) of length 1, or None for tiles that are small, mostly nodata, or without texture.

    Per band: medians of blocks, their ranks, less the plane that fits them best; averaged over bands. Ranks of medians
    do not change under any rising function of the pixels (gain, offset, dB, gamma), hardly under noise; the plane
    would make two tiles with a slope alike. The cosine of two thumbnails is thus a partial rank correlation.
    """
    if min(image_CHW.shape[1:]) < SIDE:
        return None
    bands = [textured for medians in block_medians(image_CHW) if (textured := _texture(medians)) is not None]
    total = np.sum(bands, axis=0) if bands else np.zeros(1)
    length = np.linalg.norm(total)
    return (total / length).astype(np.float32) if length > 1e-6 else None


def block_medians(image_CHW: NDArray[np.float32]) -> NDArray[np.float32]:
    """(bands, SIDE * SIDE) lower medians of the valid pixels of equal blocks; NaN where less than half are valid.

    What does not divide by SIDE is left out at the edges.
    """
    count, height, width = image_CHW.shape
    tall, wide = height // SIDE, width // SIDE
    top, left = (height - tall * SIDE) // 2, (width - wide * SIDE) // 2
    inside = image_CHW[:, top : top + tall * SIDE, left : left + wide * SIDE].reshape(count, SIDE, tall, SIDE, wide)
    blocks = inside.transpose(0, 1, 3, 2, 4).copy().reshape(count, SIDE**2, -1)
    finite = np.isfinite(blocks)
    if not finite.all():
        blocks[~finite] = np.nan
    blocks.sort(axis=-1)  # NaN last
    seen = np.count_nonzero(finite, axis=-1)
    middle = np.take_along_axis(blocks, np.maximum((seen - 1) // 2, 0)[..., None], axis=-1)[..., 0]
    return np.where(seen >= LEAST_SEEN * blocks.shape[-1], middle, np.float32(np.nan))


def _texture(medians: NDArray[np.float32]) -> NDArray[np.float64] | None:
    """Standardised ranks beside their plane, 0 where there is no median; None when little is left."""
    seen = np.isfinite(medians)
    if seen.mean() < LEAST_SEEN:
        return None
    ranks = rankdata(medians[seen])
    row, col = np.divmod(np.flatnonzero(seen), SIDE)
    plane = np.stack([np.ones(len(row)), row, col], axis=1)
    rest = ranks - plane @ np.linalg.lstsq(plane, ranks, rcond=None)[0]
    if rest.std() <= LEAST_TEXTURE * len(ranks):
        return None
    out = np.zeros(SIDE**2)
    out[seen] = rest / rest.std()
    return out


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
