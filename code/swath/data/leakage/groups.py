"""Tiles that belong together: near-duplicates, copies, shared ground. Groups are connected components of such pairs."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from itertools import chain

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from swath.config import configclass
from swath.config.ranges import Count
from swath.data.leakage.fingerprints import CONTENT, thumbnails
from swath.data.leakage.footprints import overlaps
from swath.errors import CatalogError

log = logging.getLogger("swath.data")

NEAR_DUPLICATE = 0.9
"""Cosine of two thumbnails from which tiles count as near-duplicates.

Unrelated tiles of 64 to 512 px stay below 0.75 (Sentinel-1 land and flood, Sentinel-2 and Landsat clouds, aerial
images); a copy with another gain and 5 % noise stays above 0.96, one moved by 1/128 of its side both ways above 0.9.
"""

PRODUCTS = 2**22
"""Cosines that are in memory at once (16 MiB, and 130 MiB of pairs if all are alike)."""

Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]


@configclass
class Grouping:
    """Which tiles make one group, so that no split takes them apart."""

    together: tuple[str, ...] = ("scene",)
    """Columns whose equal values belong together: ("scene",), ("area",), or () for none."""
    ground: bool = True
    """Tiles that share ground belong together, as dates of one place do."""
    similarity: float = NEAR_DUPLICATE
    """Cosine of thumbnails from which tiles belong together as near-duplicates; above 1 none do."""
    explode_above: Count | None = None
    """Take near-duplicates apart in groups of more tiles than this (all-water tiles, say); None never does."""


def group_tiles(tiles: gpd.GeoDataFrame, grouping: Grouping) -> pd.Series:
    """The group of each row: the first key of the tiles that hang together, directly or through others.

    Tiles with equal pixels always do. Groups that `explode_above` takes apart are logged; what holds by content,
    column or ground stays together in them. Raises CatalogError when a column of `together` is missing.
    """
    missing = [column for column in grouping.together if column not in tiles]
    if missing:
        raise CatalogError(f"grouping.together: the table has no column {', '.join(missing)}. {_known(tiles)}")
    firm = components(len(tiles), _firm_pairs(tiles, grouping))
    at, vectors = thumbnails(tiles)
    near = ((at[i], at[j]) for i, j in similar_pairs(vectors, grouping.similarity))
    labels = components(len(tiles), chain([(np.arange(len(tiles)), first_with(firm))], near))
    if grouping.explode_above is not None:
        labels = exploded(labels, firm, grouping.explode_above)
    return tiles["key"].groupby(labels).transform("min").rename("group")


def _firm_pairs(tiles: gpd.GeoDataFrame, grouping: Grouping) -> Iterator[Pairs]:
    for column in (*grouping.together, CONTENT):
        if column in tiles:
            at = np.flatnonzero(tiles[column].notna())
            codes = pd.factorize(tiles[column].iloc[at])[0]
            yield at, at[first_with(codes)]
    if grouping.ground:
        i, j, _ = overlaps(tiles, tiles)
        yield i, j


def first_with(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each position the first one that has the same label."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return first[inverse]


def exploded(labels: NDArray[np.int64], firm: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Labels in which groups of more than `most` rows fall apart into their `firm` groups; a warning says how many."""
    sizes = np.bincount(labels)
    large = sizes[labels] > most
    if large.any():
        log.warning(
            "exploded %d groups of near-duplicates with more than %d tiles (%d tiles in all, the largest %d)",
            (sizes > most).sum(), most, large.sum(), sizes.max(),
        )  # fmt: skip
    return np.where(large, labels.max() + 1 + firm, labels)


def _known(tiles: gpd.GeoDataFrame) -> str:
    return f"It has: {', '.join(c for c in tiles.columns if c != 'geometry')}."


# -------------------------------------------------------------------------------------------------- similar vectors


def similar_pairs(vectors: NDArray[np.float32], threshold: float) -> Iterator[Pairs]:
    """Batches (i, j), i < j, of all pairs of rows of (N, D) vectors of length 1 whose cosine is at least `threshold`.

    Any embedding will do. Exact, by blocked matrix products: in 256 dimensions several times as fast as
    scikit-learn's radius search, and never more than `PRODUCTS` of the N^2 cosines in memory.
    """
    for start, stop in _blocks(len(vectors) if threshold <= 1 else 0, len(vectors)):
        i, j = np.nonzero(vectors[start:stop] @ vectors[start:].T >= threshold)
        upper = j > i
        yield start + i[upper], start + j[upper]


def best_matches(
    ours: NDArray[np.float32], theirs: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """For each row of `theirs` (M, D): the most similar row of `ours` (N, D) and the cosine; rows have length 1."""
    best, cosine = np.zeros(len(theirs), np.int64), np.full(len(theirs), -1, np.float32)
    if len(ours):
        for start, stop in _blocks(len(theirs), len(ours)):
            products = theirs[start:stop] @ ours.T
            best[start:stop], cosine[start:stop] = products.argmax(axis=1), products.max(axis=1)
    return best, cosine


def _blocks(rows: int, cols: int) -> Iterator[tuple[int, int]]:
    step = max(1, PRODUCTS // max(1, cols))
    return ((start, min(rows, start + step)) for start in range(0, rows, step))


def components(count: int, batches: Iterable[Pairs]) -> NDArray[np.int64]:
    """int64 (count,): a number per connected component of the graph whose edges come in batches.

    Each batch is folded into the components of those before it, so the edges are never all in memory.
    """
    labels = np.arange(count)
    for i, j in batches:
        new = labels[i] != labels[j]
        if new.any():
            i, j = i[new], j[new]
            edges = coo_array((np.ones(len(i), bool), (labels[i], labels[j])), shape=(count, count))
            labels = connected_components(edges, directed=False)[1][labels].astype(np.int64)
    return labels
