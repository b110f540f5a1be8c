"""Many rasters to one: tiles back to their scene, dates of one area to one map. Both work strip by strip."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from swath.errors import RasterError
from swath.geo.grid import Grid, Window
from swath.geo.layout import RasterInfo, RasterSpec
from swath.geo.raster import RasterReader, describe, warped
from swath.geo.raster_writer import RasterWriter
from swath.geo.windows import strips
from swath.labels import IGNORE

Overlap = Literal["last", "max", "mean"]
Rule = Literal["mean", "any", "majority", "n-1"]

STRIP_PIXELS = 4_000_000

PROBABILITY_SLACK = 1e-3
"""How far interpolation and rounding may bring a probability beyond 0 and 1."""

SPREAD = 100
"""A map of dates is refused from so many times the pixels that its dates have: they are of different places."""

Index = tuple[slice, ...]


def merge_tiles(
    tiles: Sequence[Path],
    grid: Grid,
    output: Path,
    overlap: Overlap = "last",
    windows: Sequence[Window] | None = None,
) -> None:
    """Write the tiles of one scene as one raster on `grid`: padding is dropped, places without a tile are nodata.

    `overlap` says what happens where tiles overlap: the ``last`` in the given order wins (as gdal_merge does), the
    ``max``, or the ``mean``. Tiles lie on the pixels of `grid`; RasterError names the one that does not, or that lacks a band
    of the first one: bands are found by name. `windows` are
    where they lie, if that is known: their headers need not be read for it first, which takes as long as their pixels.
    """
    first = describe(tiles[0])
    soft_nodata = math.nan if first.nodata is None else first.fill
    nodata = IGNORE if first.dtype == "uint8" else soft_nodata
    spec = RasterSpec(
        grid=grid, bands=first.bands, dtype="uint8" if first.dtype == "uint8" else "float32", nodata=nodata,
        compress=first.dtype == "uint8",
    )  # fmt: skip
    pixels = STRIP_PIXELS * (4 if spec.dtype == "uint8" and overlap == "last" else 1)
    with ThreadPoolExecutor(os.cpu_count()) as pool, RasterWriter(output, spec) as writer:
        places = windows or pool.map(lambda path: _place(describe(path), grid, tiles[0]), tiles)
        placed = [_Tile(path, window, grid, spec.bands) for path, window in zip(tiles, places, strict=True)]
        for strip in strips(grid.shape, pixels):
            here = [tile for tile in placed if not tile.window.intersect(strip).is_empty]
            merge = _last if overlap == "last" else partial(_combined, overlap=overlap)
            writer.write(merge(here, strip, spec, pool), strip)
            for tile in here:
                tile.leave(strip)


class _Tile:
    """A tile and its window of the scene; opened once, for as long as strips need its rows, and by one thread at a time."""

    def __init__(self, path: Path, window: Window, grid: Grid, bands: Sequence[str]) -> None:
        self.path, self.window, self.grid, self.bands = path, window, grid, bands
        self._reader: RasterReader | None = None

    def _opened(self) -> RasterReader:
        if self._reader is None:
            self._reader = RasterReader(self.path)
            if _place(self._reader.info, self.grid, self.path) != self.window:
                raise RasterError(
                    f"{self.path}: lies elsewhere than the table of tiles says. Cut and predict it again."
                )
        return self._reader

    def part(self, strip: Window, labels: bool) -> tuple[Index, NDArray[Any], NDArray[np.bool_]]:
        """What a strip sees of it: the place in an array of the strip, values, and which of them are no nodata."""
        reader = self._opened()
        order = reader.info.numbers_of(self.bands, "Merge tiles of one kind.")
        part = self.window.intersect(strip)
        at = (slice(None), *part.relative_to(strip).slices)
        if not labels:
            image = reader.image(part.relative_to(self.window), order)
            return at, image, ~np.isnan(image)
        values = reader.labels(part.relative_to(self.window), order)
        return at, values, values != IGNORE

    def leave(self, strip: Window) -> None:
        """Close it where `strip` has its last row."""
        if self._reader and self.window.row + self.window.height <= strip.row + strip.height:
            self._reader.close()
            self._reader = None


def _place(tile: RasterInfo, grid: Grid, first: Path) -> Window:
    """The window of `grid` that a tile covers, from its transform; `first`: a tile that the grid was made from."""
    col, row = ~grid.transform @ (tile.grid.transform.c, tile.grid.transform.f)
    window = Window(round(row), round(col), *tile.grid.shape)
    if abs(col - window.col) + abs(row - window.row) > 0.01 or tile.grid.crs != grid.crs:
        raise RasterError(
            f"{tile.path}: does not lie on the pixels of its scene (offset {row:.3f}, {col:.3f}), which begins with "
            f"{first}. Cut them again."
        )
    return window


def _last(tiles: Sequence[_Tile], strip: Window, spec: RasterSpec, pool: Executor) -> NDArray[Any]:
    """(bands, height, width) in the file's own dtype; later tiles win where they have a value."""
    labels = spec.dtype == "uint8"
    merged = np.full((len(spec.bands), *strip.shape), spec.nodata if labels else np.nan, spec.dtype)
    for at, values, seen in pool.map(lambda tile: tile.part(strip, labels), tiles):
        np.copyto(merged[at], values, where=seen)
    return merged


def _combined(
    tiles: Sequence[_Tile], strip: Window, spec: RasterSpec, pool: Executor, overlap: Literal["max", "mean"]
) -> NDArray[Any]:
    """(bands, height, width): the largest or the mean of the values that tiles have."""
    total = np.full((len(spec.bands), *strip.shape), np.nan, np.float32)
    count = np.zeros(total.shape, np.uint16)
    for at, values, seen in pool.map(lambda tile: tile.part(strip, labels=False), tiles):
        merged = np.fmax(total[at], values) if overlap == "max" else np.nan_to_num(total[at]) + values
        np.copyto(total[at], merged, where=seen)
        count[at] += seen
    merged = total / np.maximum(count, 1) if overlap == "mean" else total
    return np.where(np.isnan(merged), np.float32(spec.nodata), np.rint(merged)) if spec.dtype == "uint8" else merged


# ------------------------------------------------------------------------------------------------------------- dates


def common_grid(grids: Sequence[Grid]) -> Grid:
    """The grid that most of `grids` lie on, grown on its own pixels to the union of their extents.

    Grids in longitude and latitude may lie on both sides of 180 degrees, or count from 0 to 360. Raises RasterError when
    some rasters have a CRS and some have none, and when they lie so far apart that hardly a pixel would be seen.
    """
    if len({grid.crs is None for grid in grids}) > 1:
        raise RasterError("some dates of the area have a CRS and some have none; give all of them one")
    lattice = Counter((g.crs, tuple(g.transform)) for g in grids).most_common(1)[0][0]
    base = next(g for g in grids if (g.crs, tuple(g.transform)) == lattice)
    corners = np.concatenate([_corners_in(g.turned_towards(base), base) for g in grids])
    if not np.isfinite(corners).all():
        raise RasterError(
            f"some dates of the area lie where {base.crs} has no place; bring all to one CRS (gdalwarp -t_srs)"
        )
    cols, rows = (~base.transform) @ _columns(corners)
    left, top = math.floor(cols.min() + 0.01), math.floor(rows.min() + 0.01)
    right, bottom = math.ceil(cols.max() - 0.01), math.ceil(rows.max() - 0.01)
    shape = (bottom - top, right - left)
    seen = sum(math.prod(grid.shape) for grid in grids)
    if math.prod(shape) > SPREAD * seen:
        raise RasterError(
            f"the dates of the area lie far apart: {shape[1]} x {shape[0]} px would hold them, {seen} px hold data. Put places "
            "that do not meet into areas of their own"
        )
    return Grid(base.crs, base.transform @ Affine.translation(left, top), shape)


def _columns(corners: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return corners[:, 0], corners[:, 1]


def _corners_in(grid: Grid, base: Grid) -> NDArray[np.float64]:
    """The corners of `grid` in the CRS of `base`."""
    if grid.crs == base.crs:
        return grid.corners
    from rasterio.warp import transform as move

    x, y = move(grid.crs, base.crs, grid.corners[:, 0], grid.corners[:, 1])
    return np.stack([x, y], axis=1)


def decide(votes: NDArray[np.float32], rule: Rule, threshold: float = 0.5) -> NDArray[np.uint8]:
    """Class 0 or 1 of each pixel from the dates' probabilities, float (dates, height, width), NaN = no vote; 255 = no date.

    ``mean``: mean probability >= threshold. The others count dates with probability >= threshold among the n dates
    that see the pixel: ``any`` one, ``majority`` more than n / 2, ``n-1`` at least max(1, n - 1).
    """
    seen = ~np.isnan(votes)
    n = seen.sum(axis=0)
    yes = (np.where(seen, votes, -1) >= threshold).sum(axis=0)
    rules: dict[str, Callable[[], NDArray[np.bool_]]] = {
        "mean": lambda: mean_probability(votes) >= threshold,
        "any": lambda: yes >= 1,
        "majority": lambda: 2 * yes > n,
        "n-1": lambda: yes >= np.maximum(1, n - 1),
    }
    return np.where(n > 0, rules[rule](), IGNORE).astype(np.uint8)


def mean_probability(votes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean over the dates that see the pixel; NaN where none does."""
    seen = ~np.isnan(votes)
    n = seen.sum(axis=0)
    total = np.where(seen, votes, 0).sum(axis=0, dtype=np.float32)
    return np.where(n > 0, total / np.maximum(n, 1), np.nan).astype(np.float32)


def require_kind_of_votes(info: RasterInfo) -> None:
    """Raise RasterError for a raster that holds neither probabilities (float) nor classes (uint8)."""
    if info.dtype not in ("uint8", "float32", "float64"):
        raise RasterError(
            f"{info.path}: holds {info.dtype}; probabilities of class 1 (float32) or classes 0, 1, 255 (uint8) are due. Convert "
            f"it: gdal_translate -ot Byte {info.path.name} classes.tif"
        )


def require_votes(vote_HW: NDArray[np.float32], info: RasterInfo) -> None:
    """Raise RasterError, which names file and value, for classes but 0 and 1, and for probabilities beyond 0 to 1."""
    if info.dtype == "uint8" and not info.is_scaled:
        wrong = vote_HW[(vote_HW != 0) & (vote_HW != 1) & ~np.isnan(vote_HW)]
        due = "classes 0 and 1 are due, 255 where nothing is known. Aggregate the probabilities of one class instead"
    else:
        wrong = vote_HW[(vote_HW < -PROBABILITY_SLACK) | (vote_HW > 1 + PROBABILITY_SLACK)]
        due = "probabilities from 0 to 1 are due; percent are a hundred times as much"
    if len(wrong):
        raise RasterError(f"{info.path}: holds {wrong[0]:g} where {due}.")


def aggregate(
    paths: Sequence[Path], classes: Path, probability: Path | None, rule: Rule, threshold: float = 0.5
) -> Grid:
    """Bring the dates of one area to their `common_grid` and `decide` each pixel; write classes and mean probability.

    Inputs hold the probability of class 1 (float) or classes 0, 1 with 255 as nodata (uint8). Probabilities are
    interpolated bilinearly on the way, classes take the nearest pixel. Raises RasterError, which names file and value,
    for anything else.
    """
    infos = [describe(path) for path in paths]
    for info in infos:
        require_kind_of_votes(info)
    grid = common_grid([info.grid for info in infos])
    with ExitStack() as stack:
        kinds: list[Literal["nearest", "bilinear"]] = ["nearest" if i.dtype == "uint8" else "bilinear" for i in infos]
        views = [stack.enter_context(warped(p, grid, k)) for p, k in zip(paths, kinds, strict=True)]
        labels = RasterSpec(grid=grid, bands=("class",), dtype="uint8", nodata=IGNORE, compress=True)
        writer = stack.enter_context(RasterWriter(classes, labels))
        soft = RasterSpec(grid=grid, bands=("probability",), dtype="float32", nodata=math.nan, compress=True)
        soft_writer = stack.enter_context(RasterWriter(probability, soft)) if probability else None
        for strip in strips(grid.shape, STRIP_PIXELS):
            votes = np.concatenate([view.image(strip, bands=[1]) for view in views])
            for info, vote_HW in zip(infos, votes, strict=True):
                require_votes(vote_HW, info)
            writer.write(decide(votes, rule, threshold)[None], strip)
            if soft_writer:
                soft_writer.write(mean_probability(votes)[None], strip)
    return grid
