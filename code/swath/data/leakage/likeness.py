"""Pairs of vectors that go up and down together: correlation, over the parts that both have."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from swath.data.leakage.groups import PRODUCTS, Pairs, similar_pairs

LEAST_JOINT = 0.4
"""Share of the parts that two vectors with gaps have to have in common to be compared."""

LEAST_JOINT_SPREAD = 0.05
"""Deviation within the common parts, in those of the whole vector, that both need: what is flat there tells nothing."""


def standardised(vector: NDArray[np.floating]) -> NDArray[np.float32]:
    """A vector less its mean, over its deviation; NaN stays. Zeros where all values are equal."""
    seen = np.isfinite(vector)
    values = vector.astype(np.float64)
    deviation = values[seen].std() if seen.any() else 0.0
    scaled = (values - values[seen].mean()) / deviation if deviation > 0 else np.where(seen, 0.0, np.nan)
    return np.where(seen, scaled, np.nan).astype(np.float32)


def as_text(vector: NDArray[np.floating]) -> str:
    """A vector, `standardised`, as text for JSON: half-precision numbers in base64. `from_texts` is the way back."""
    return base64.b64encode(standardised(vector).astype("<f2").tobytes()).decode()


def from_texts(texts: list[str]) -> NDArray[np.float32]:
    """float32 (N, D) of texts of `as_text`, which are of one length."""
    raw = b"".join(base64.b64decode(text) for text in texts)
    return np.frombuffer(raw, "<f2").reshape(len(texts), -1).astype(np.float32)


def pairs_alike(vectors: NDArray[np.float32], threshold: float) -> Iterator[Pairs]:
    """Batches (i, j) of all pairs of rows of (N, D) whose correlation over the parts that both have reaches `threshold`.

    Complete rows are compared by `similar_pairs`; rows with gaps (NaN) with all others, where they have `LEAST_JOINT` of
    the parts in common. Exact, in blocks: never more than `PRODUCTS` of the N^2 correlations are in memory.
    """
    gaps = ~np.isfinite(vectors)
    partial = np.flatnonzero(gaps.any(axis=1))
    whole = np.flatnonzero(~gaps.any(axis=1))
    for i, j in similar_pairs(_unit_rows(vectors[whole]), threshold):
        yield whole[i], whole[j]
    step = max(1, PRODUCTS // max(1, 8 * len(vectors)))  # eight matrices of a block at once
    filled, seen = np.where(gaps, np.float32(0), vectors), (~gaps).astype(np.float32)
    for start in range(0, len(partial), step):
        some = partial[start : start + step]
        i, j = np.nonzero(_correlation(filled[some], seen[some], filled, seen) >= threshold)
        other = some[i] != j
        yield some[i[other]], j[other]


def _unit_rows(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows less their mean, of length 1; rows without a direction stay 0."""
    if not len(vectors):
        return vectors
    centred = vectors - vectors.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.asarray(centred / np.where(length > 0, length, 1), np.float32)


def _correlation(
    a: NDArray[np.float32], seen_a: NDArray[np.float32], b: NDArray[np.float32], seen_b: NDArray[np.float32]
) -> NDArray[np.float32]:
    """(len(a), len(b)) correlations over the parts that both have seen; -1 where these are too few or too flat.

    Values are 0 where nothing is seen, so each sum over the common parts is a matrix product.
    """
    count = seen_a @ seen_b.T
    known = count >= max(2.0, LEAST_JOINT * a.shape[1])
    n = np.maximum(count, 1)
    mean_a, mean_b = a @ seen_b.T / n, seen_a @ b.T / n
    variance_a = (a * a) @ seen_b.T / n - mean_a**2
    variance_b = seen_a @ (b * b).T / n - mean_b**2
    together = a @ b.T / n - mean_a * mean_b
    known &= np.minimum(variance_a, variance_b) >= LEAST_JOINT_SPREAD**2
    return np.where(known, together / np.sqrt(np.maximum(variance_a * variance_b, 1e-12)), np.float32(-1))
