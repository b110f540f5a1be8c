"""A data set in numbers: tiles, target and valid pixels by area, split and date, and what stands out, in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
from affine import Affine
from rasterio.crs import CRS

from swath.config import InputPath, OutputPath, configclass
from swath.config.ranges import Count, Share
from swath.data.naming import date_of
from swath.data.tables import TILE_COLUMNS, TILE_STATS, read_table
from swath.data.tiles.quality import HIGH_TARGET, tile_flags
from swath.eda.pixel_sample import CORE
from swath.errors import ConfigError
from swath.geo.grid import Grid

FLAGS = ("has_target", "high_target", "unlabelled", "constant", "no_data")
GRID = ["crs", "scene_transform", "scene_height", "scene_width"]
STATISTICS = ["skip", "valid_ratio", "img_min", "img_max"]
OPTIONAL = [*GRID, *CORE, "target_ratio", "labelled_ratio", "reason", "group"]
SIMILAR = 0.98
"""Correlation from which on two bands say nearly the same."""
LISTED = 5


@configclass
class EdaConfig:
    """What a folder of tiles holds, as tables, figures and a report."""

    input_path: InputPath
    """Folder with tile_stats.parquet and band_stats.json, as generate_tiles_stats writes them."""
    output_path: OutputPath
    """Folder for report.html, eda.csv, eda.parquet, suspicious_tiles.csv and figures/."""
    scenes_path: InputPath | None = None
    """Folder with the scenes.parquet that the tiles were cut from; None takes the scenes that have tiles."""
    splits: tuple[str, ...] = ("fold", "side")
    """Columns that divide the tiles, as far as the table has them."""
    test_scenes_path: InputPath | None = None
    """Folder with the scenes.parquet of the test set: the report then shows how scenes_path differs from it."""
    shift_fields: tuple[str, ...] = ("area",)
    """Columns of both tables of scenes by which they are compared."""
    validation_fold: int | None = None
    """Fold whose scenes are the validation set of that comparison."""
    high_target: Share = HIGH_TARGET
    """Target share above which a tile is listed as suspicious."""
    low_target: Share = 0.01
    """Target share below which an area is said to have little target."""
    decibel: tuple[str, ...] = ()
    """Bands of linear power, such as radar backscatter, to show as 10 log10; those with negative values are shown as they
    are. Empty: none."""
    sample_tiles: Count = 200
    """So many tiles, and as many with target, are drawn to look at pixels."""
    sample_pixels: Count = 500_000
    """About so many pixels of them are drawn, and as many of the target."""
    seed: Count = 0
    """Seed of the draws."""

    def __post_init__(self) -> None:
        if self.sample_tiles < 1 or self.sample_pixels < 1:
            raise ConfigError(f"sample_tiles={self.sample_tiles}, sample_pixels={self.sample_pixels}: give 1 or more")
        if self.test_scenes_path and not self.scenes_path:
            raise ConfigError("test_scenes_path: scenes_path is missing, the scenes to compare with. Set both.")


def read_explored_tiles(config: EdaConfig, folder: Path, scenes: gpd.GeoDataFrame | None) -> gpd.GeoDataFrame:
    """All tiles of a folder with their statistics, flags (see `tile_flags`) and `date`, skipped ones too.

    Dates are those of the scenes where these are given, else those in the scenes' names; empty when there is none.
    """
    tiles = read_table(
        folder / TILE_STATS, [*TILE_COLUMNS, *STATISTICS], "generate_tiles_stats", [*OPTIONAL, *config.splits]
    )
    dates = {str(scene): date_of(Path(str(scene))) for scene in tiles["scene"].unique()}
    if scenes is not None:
        dates |= dict(zip(scenes["key"], scenes["date"].fillna(""), strict=True))
    tiles = tiles.assign(date=tiles["scene"].map(dates), **tile_flags(tiles, config.high_target))
    return tiles.drop(columns=["img_min", "img_max"])


def splits_of(tiles: pd.DataFrame, config: EdaConfig) -> list[str]:
    """Columns of the table that divide the tiles."""
    return [column for column in config.splits if column in tiles]


def overview(tiles: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """A row per group of tiles of equal `by`: numbers of scenes, tiles, skipped and flagged ones; target and valid share.

    `target_share` is of the labelled pixels, NaN without any, `valid_share` of all pixels; pixels in the overlap of
    tiles count once for each tile.
    """
    pixels = tiles["height"].astype(float) * tiles["width"]
    labelled = pixels * (tiles["labelled_ratio"].fillna(0) if "labelled_ratio" in tiles else 0.0)
    frame = pd.DataFrame({column: tiles[column] for column in (*by, "scene", "skip", *FLAGS)}).assign(
        pixels=pixels, valid=pixels * tiles["valid_ratio"], labelled=labelled,
        target=(labelled * tiles["target_pct"] / 100).fillna(0),
    )  # fmt: skip
    groups = frame.groupby(list(by), dropna=False, sort=True)
    sums = groups[["skip", *FLAGS, "pixels", "valid", "labelled", "target"]].sum()
    table = pd.DataFrame({"scenes": groups["scene"].nunique(), "tiles": groups.size(), "skipped": sums["skip"]})
    return table.assign(
        **{flag: sums[flag] for flag in FLAGS},
        target_share=(sums["target"] / sums["labelled"]).where(sums["labelled"] > 0),
        valid_share=sums["valid"] / sums["pixels"],
    ).reset_index()


def suspicious(tiles: pd.DataFrame) -> pd.DataFrame:
    """Tiles whose labels are doubtful, the highest target share first, with the reason."""
    found = tiles[tiles["high_target"]].sort_values(["target_pct", "key"], ascending=[False, True])
    reason = [f"target share {share:.1f} %" for share in found["target_pct"]]
    return found[["key", "scene", "area", "date", "target_pct", "skip"]].assign(reason=reason)


# ------------------------------------------------------------------------------------------------------ what stands out


def remarks(
    tiles: gpd.GeoDataFrame, scenes: gpd.GeoDataFrame | None, config: EdaConfig, correlation: pd.DataFrame
) -> list[str]:
    """What is worth a look, a sentence or two each; `correlation` is that of the bands."""
    return [
        *_skipped(tiles), *_little_target(tiles, config), *_high_target(tiles, config), *_poor_tiles(tiles),
        *_empty_scenes(tiles, scenes), *_other_grids(tiles), *_splits_without_target(tiles, config),
        *_groups_over_splits(tiles, config), *_similar_bands(correlation),
    ]  # fmt: skip


def _skipped(tiles: pd.DataFrame) -> Iterator[str]:
    count = int(tiles["skip"].sum())
    if count:
        reasons = tiles.loc[tiles["skip"], "reason"].value_counts() if "reason" in tiles else {}
        detail = "; ".join(f"{reason}: {number:,}" for reason, number in reasons.items())
        yield f"{_of(count, len(tiles), 'tiles')} are left out of training{f' ({detail})' if detail else ''}."


def _little_target(tiles: pd.DataFrame, config: EdaConfig) -> Iterator[str]:
    if tiles["unlabelled"].all():
        yield "No tile has labels, so nothing is said about the target."
        return
    areas = overview(tiles, ["area"]).dropna(subset="target_share").sort_values("target_share")
    few = areas[areas["target_share"] < config.low_target]
    if len(few):
        listed = [f"{area} {100 * share:.2g} %" for area, share in zip(few["area"], few["target_share"], strict=True)]
        yield (
            f"{_of(len(few), len(areas), 'areas')} have little target, below {100 * config.low_target:g} % of their "
            f"labelled pixels: {some(listed)}."
        )
    unlabelled = int(tiles["unlabelled"].sum())
    if unlabelled:
        yield f"{_of(unlabelled, len(tiles), 'tiles')} have no labelled pixel."


def _high_target(tiles: pd.DataFrame, config: EdaConfig) -> Iterator[str]:
    found = suspicious(tiles)
    if len(found):
        listed = [f"{key} {share:.0f} %" for key, share in zip(found["key"], found["target_pct"], strict=True)]
        yield (
            f"{_of(len(found), len(tiles), 'tiles')} have a target share above {100 * config.high_target:g} %: {some(listed)}. "
            "Look at their labels (suspicious_tiles.csv); "
            f"generate_tiles_stats leaves them out with max_target_ratio={config.high_target:g}."
        )


def _poor_tiles(tiles: pd.DataFrame) -> Iterator[str]:
    for flag, what in (("constant", "hold a single value in every band"), ("no_data", "have no valid pixel")):
        found = tiles[tiles[flag]]
        if len(found):
            yield f"{_of(len(found), len(tiles), 'tiles')} {what}: {some(found['key'].head(LISTED + 1), len(found))}."


def _empty_scenes(tiles: pd.DataFrame, scenes: pd.DataFrame | None) -> Iterator[str]:
    empty = tiles.groupby("scene")["no_data"].all()
    if empty.any():
        yield f"{_of(int(empty.sum()), len(empty), 'scenes')} have no valid pixel at all: {some(empty.index[empty])}."
    listed = set() if scenes is None else set(scenes["key"])
    absent = sorted(listed - set(tiles["scene"]))
    if absent:
        yield f"{_of(len(absent), len(listed), 'scenes')} have no tiles: {some(absent)}."


def _other_grids(tiles: pd.DataFrame) -> Iterator[str]:
    if any(column not in tiles for column in GRID):
        return
    firsts = tiles.drop_duplicates("scene").sort_values(["area", "date", "scene"])
    place_less = int(firsts["crs"].isna().sum())
    if place_less:
        yield f"{_of(place_less, len(firsts), 'scenes')} have no CRS and no place on the map."
    differ = [text for _, scenes in firsts.groupby("area", sort=True) if (text := _first_difference(scenes))]
    if differ:
        yield (
            f"{_of(len(differ), firsts['area'].nunique(), 'areas')} have scenes on different grids, whose pixels do not "
            f"cover each other: {some(differ)}."
        )


def _first_difference(scenes: pd.DataFrame) -> str:
    """The first scene of an area that does not lie on the grid of the area's first one, and how; empty without one."""
    rows = list(scenes.itertuples())
    grids = [_grid(row) for row in rows]
    for row, grid in zip(rows[1:], grids[1:], strict=True):
        difference = grids[0].difference(grid)
        if difference:
            return f"{row.area}: {rows[0].scene} against {row.scene} ({difference})"
    return ""


def _grid(row: object) -> Grid:
    crs, transform, height, width = (getattr(row, name) for name in GRID)
    return Grid(CRS.from_user_input(crs) if isinstance(crs, str) else None, Affine(*transform), (height, width))


def _splits_without_target(tiles: pd.DataFrame, config: EdaConfig) -> Iterator[str]:
    for split in splits_of(tiles, config) if tiles["has_target"].any() else ():
        has = (tiles["has_target"] & ~tiles["skip"]).groupby(tiles[split]).any()
        if not has.all():
            yield f"No tile with target takes part in {split} {some(str(value) for value in has.index[~has])}."


def _groups_over_splits(tiles: pd.DataFrame, config: EdaConfig) -> Iterator[str]:
    """Groups hang together: near-duplicates in two folds flatter a score."""
    for split in splits_of(tiles, config) if "group" in tiles else ():
        taken = tiles[~tiles["skip"]].groupby("group")[split].nunique()
        if (taken > 1).any():
            yield (
                f"{_of(int((taken > 1).sum()), len(taken), 'groups')} of tiles that share ground or look alike lie in "
                f"more than one {split}: {some(str(group) for group in taken.index[taken > 1])}."
            )


def _similar_bands(correlation: pd.DataFrame) -> Iterator[str]:
    upper = np.triu(correlation.abs().to_numpy() > SIMILAR, 1)
    names = list(correlation.columns)
    pairs = [f"{names[i]} and {names[j]} ({correlation.iloc[i, j]:.3f})" for i, j in np.argwhere(upper)]
    if pairs:
        yield f"Bands that say nearly the same, by their correlation: {some(pairs)}."


def _of(count: int, total: int, what: str) -> str:
    return f"{count:,} of {total:,} {what}"


def some(names: Iterable[str], total: int | None = None) -> str:
    """The first few of the names, and how many more there are."""
    listed = list(names)
    more = (total or len(listed)) - LISTED
    return ", ".join(listed[:LISTED]) + (f" and {more:,} more" if more > 0 else "")
