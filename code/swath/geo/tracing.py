"""Outlines of equal pixels, traced by their corners: any number of strips of a raster give the rings of the whole.

An outline of pixels is known by the corners where it turns. Whether it turns at a vertex, and how, shows in the four
pixels around it, so strips find corners on their own. Along a row of vertices, outlines run from the first corner to
the second, from the third to the fourth, and so on; along a column, too. That links every corner to the next one,
whatever the strip that it comes from: nothing is cut at a seam, so nothing has to be joined.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, connected_components

Ints = NDArray[np.int64]

# The pixels around a vertex that are of the class, as bits. Outlines keep the class on their right hand.
NW, NE, SW, SE = 1, 2, 4, 8
ALL_BUT_SE = NW | NE | SW
FALLING, RISING = NW | SE, NE | SW
"""Two pixels that touch at the vertex only; it is a corner of each of them."""
LEAVES_BY_ROW = (NW, SE, NW | NE | SE, NW | SW | SE)
"""Corners that an outline leaves along the row of vertices; it leaves the others along the column."""
SOUTHWARD = (SW, SE, ALL_BUT_SE, NW | NE | SE)
"""Corners whose vertical side lies south of them; that of the others lies north."""

CHUNK = 1 << 18
"""Pixels looked at together: what the processor's cache holds."""


@dataclass(frozen=True, eq=False)
class Vertices:
    """Vertices where outlines of one class turn, by rows. Vertex (r, c) is the upper left corner of pixel (r, c).

    `key` int64 is row * (width + 1) + column; `around` uint8 has the bits of the pixels of the class around it;
    `start` int64 is, for ALL_BUT_SE only, the column where the run of the north-western pixel starts.
    """

    key: Ints
    around: NDArray[np.uint8]
    start: Ints

    @classmethod
    def joined(cls, parts: Sequence[Vertices]) -> Vertices:
        """Parts in the order of their rows."""
        return cls(*(np.concatenate([getattr(p, name) for p in parts]) for name in ("key", "around", "start")))


def vertices(inside_HW: NDArray[np.bool_], row: int = 0) -> Vertices:
    """The vertices between the rows of a strip as wide as the raster, from its row `row` on.

    Beside the strip is outside. Vertices above its first and below its last row need the neighbours' rows: look at the
    two rows that meet there as a strip of its own.
    """
    height, width = inside_HW.shape
    step = max(1, CHUNK // (width + 1))
    parts = [_between(inside_HW[r : r + step + 1], row + r) for r in range(0, height - 1, step)]
    return Vertices.joined(parts or [_between(inside_HW[:0], row)])


def _between(inside_HW: NDArray[np.bool_], row: int) -> Vertices:
    height, stride = inside_HW.shape[0], inside_HW.shape[1] + 1
    padded = np.zeros(1 + max(1, height) * stride, np.bool_)  # a column outside parts the last pixel from the next row
    padded[1:].reshape(-1, stride)[:height, :-1] = inside_HW
    beside = padded[1:] ^ padded[:-1]  # at k: between the pixel k and the one to its left
    above = padded[stride:] ^ padded[:-stride]
    turns = (beside[stride:] | beside[:-stride]) & (above[1:] | above[:-1])
    at = np.flatnonzero(turns)  # plus a row: the pixel south-east of the vertex
    bits = padded.view(np.uint8)
    around = bits[at] | bits[at + 1] << 1 | bits[at + stride] << 2 | bits[at + stride + 1] << 3
    start = np.full(len(at), -1)
    hollow = np.flatnonzero(around == ALL_BUT_SE)
    if len(hollow):
        edges = np.flatnonzero(beside[:-stride])
        start[hollow] = edges[np.searchsorted(edges, at[hollow] - 1, side="right") - 1] % stride
    return Vertices(at + (row + 1) * stride, around, start)


@dataclass(frozen=True, eq=False)
class Rings:
    """Closed rings, those of a polygon together, its outer ring first; polygons by their upper left corner.

    `row` and `col` int64 are vertices, the first of a ring repeated as its last, clockwise around the class as it lies
    in the array; ring i is [ring_offsets[i], ring_offsets[i + 1]), polygon i the rings from polygon_offsets[i] on.
    """

    row: Ints
    col: Ints
    ring_offsets: Ints
    polygon_offsets: Ints

    def areas(self) -> Ints:
        """Pixels in each polygon, exactly, holes taken off."""
        twice = np.zeros(len(self.row), np.int64)
        twice[:-1] = self.col[:-1] * self.row[1:] - self.col[1:] * self.row[:-1]
        twice[self.ring_offsets[1:] - 1] = 0
        return np.add.reduceat(twice, self.ring_offsets[self.polygon_offsets[:-1]]) // 2 if len(twice) else twice

    def only(self, keep: NDArray[np.bool_]) -> Rings:
        """The polygons that `keep` says."""
        rings = np.repeat(keep, np.diff(self.polygon_offsets))
        points = np.repeat(rings, np.diff(self.ring_offsets))
        return Rings(
            self.row[points],
            self.col[points],
            _offsets(np.diff(self.ring_offsets)[rings]),
            _offsets(np.diff(self.polygon_offsets)[keep]),
        )


def _offsets(counts: Ints) -> Ints:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def rings(found: Vertices, shape: tuple[int, int]) -> Rings:
    """Rings of the 4-connected pixels of a raster of `shape`, from all of its vertices.

    Rings do not meet themselves: where a polygon touches itself at a vertex, a hole begins or ends there. Polygons are
    so valid as the Simple Features standard has it.
    """
    if not len(found.key):
        return Rings(*[np.zeros(0, np.int64)] * 2, *[np.zeros(1, np.int64)] * 2)
    row, col, around, start = _corners(found, shape[1] + 1)
    following, hollow, edge = _links(row, col, around, start, shape[0] + 1)
    ring, polygon = _labels(following, hollow, edge)
    pairs = np.flatnonzero((row[1:] == row[:-1]) & (col[1:] == col[:-1]) & (ring[1:] == ring[:-1]))
    if len(pairs):  # one ring comes twice to this vertex: two rings that touch there
        following[pairs], following[pairs + 1] = following[pairs + 1], following[pairs].copy()
        ring = connected_components(_graph(following), connection="strong")[1]
    return _ordered(row, col, following, ring, polygon)


def _corners(found: Vertices, stride: int) -> tuple[Ints, Ints, NDArray[np.uint8], Ints]:
    """Row, column, pixels around and start of each corner; a vertex between two pixels has two, the western first."""
    two = (found.around == FALLING) | (found.around == RISING)
    index = np.repeat(np.arange(len(two)), 1 + two)
    around = found.around[index]
    second = np.flatnonzero(index[1:] == index[:-1]) + 1
    around[second - 1] = np.where(around[second] == FALLING, NW, SW)
    around[second] = np.where(around[second] == FALLING, SE, NE)
    row, col = np.divmod(found.key[index], stride)
    return row, col, around, found.start[index]


def _links(row: Ints, col: Ints, around: NDArray[np.uint8], start: Ints, rows: int) -> tuple[Ints, Ints, Ints]:
    """The corner that follows each; and corners with one on the side that their pixel's run starts at, left of them."""
    place = 2 * (col * rows + row)
    by_column = np.argsort(place + np.isin(around, SOUTHWARD))
    across = np.empty_like(by_column)
    across[by_column] = by_column.reshape(-1, 2)[:, ::-1].ravel()
    following = np.where(np.isin(around, LEAVES_BY_ROW), np.arange(len(row)) ^ 1, across)
    hollow = np.flatnonzero(around == ALL_BUT_SE)
    sought = 2 * (start[hollow] * rows + row[hollow] - 1) + 1
    edge = by_column[np.searchsorted(place[by_column], sought, side="right") - 1]
    return following, hollow, edge


def _graph(following: Ints) -> csr_array:
    n = len(following)
    return csr_array((np.ones(n), following, np.arange(n + 1)), shape=(n, n))


def _labels(following: Ints, hollow: Ints, edge: Ints) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Ring and polygon of each corner. Above a hole's first corner, the run of pixels starts at a ring of its polygon."""
    count, ring = connected_components(_graph(following), connection="strong")
    links = csr_array((np.ones(len(hollow)), (ring[hollow], ring[edge])), shape=(count, count))
    return ring, connected_components(links, directed=False)[1][ring]


def _ordered(row: Ints, col: Ints, following: Ints, ring: NDArray[np.int32], polygon: NDArray[np.int32]) -> Rings:
    first = _first_of(ring)
    owner = polygon[first]
    sequence = np.lexsort([first, _first_of(polygon)[owner]])  # the outer ring has the first corner of its polygon
    first, owner = first[sequence], owner[sequence]
    before = np.empty_like(following)
    before[following] = np.arange(len(following))
    path = following.copy()
    path[before[first]] = np.roll(first, -1)  # the last corner of a ring leads to the next ring's first
    order = breadth_first_order(_graph(path), first[0], return_predecessors=False).astype(np.int64)
    counts = np.bincount(ring)[sequence]
    closed = np.insert(order, np.cumsum(counts), first)
    rings_of = np.diff(np.flatnonzero(np.concatenate([[True], owner[1:] != owner[:-1], [True]])))
    return Rings(row[closed], col[closed], _offsets(counts + 1), _offsets(rings_of))


def _first_of(label: NDArray[np.int32]) -> Ints:
    """The lowest index of each label 0, 1, ..."""
    first = np.empty(label.max() + 1, np.int64)
    first[label[::-1]] = np.arange(len(label))[::-1]  # the last assignment holds
    return first
