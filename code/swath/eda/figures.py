"""Figures of a data set: shares by area, flags, places, dates, splits, and what the bands measure. Tables in, PNG out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from matplotlib.collections import PolyCollection
from matplotlib.colors import TABLEAU_COLORS

from swath.eda.overview import FLAGS
from swath.eda.pixel_sample import PixelSample
from swath.figures.charts import drawing

BLUE, BROWN, GRAY = "#1e6ec8", "#a07846", "#8c8c8c"
COLORS = list(TABLEAU_COLORS.values())
MOST = 30
"""Rows or columns that a figure shows at most; the largest are shown, the tables have all."""
FOOTPRINTS = 3000
"""Tiles that the map shows at most, drawn by a fixed seed."""


def shares(path: Path, tiles: pd.DataFrame, column: str, title: str) -> None:
    """Distribution over tiles of a share in percent by area: quartiles, median, mean, and 5 to 95 % as a line."""
    groups = tiles.dropna(subset=column).groupby("area")[column]
    order = groups.size().nlargest(MOST).index.sort_values(ascending=False)
    quantiles = groups.quantile(np.array([0.05, 0.25, 0.5, 0.75, 0.95])).unstack().loc[order]
    rows = np.arange(len(order))
    with drawing(path, (8, 1.4 + 0.3 * len(rows))) as axes:
        axes.hlines(rows, quantiles[0.05], quantiles[0.95], color=GRAY)
        axes.barh(rows, quantiles[0.75] - quantiles[0.25], left=quantiles[0.25], height=0.6, color=BLUE, alpha=0.5)
        axes.plot(quantiles[0.5], rows, "|", color="black", markersize=12, label="median")
        axes.plot(groups.mean().loc[order], rows, "o", color=BROWN, markersize=5, label="mean")
        axes.set_yticks(rows, [f"{area}  ({groups.size()[area]:,})" for area in order])
        axes.set(xlabel=title, xlim=(-2, 102), title=_shown(len(order), groups.ngroups, "areas"))
        axes.legend(fontsize="small")


def flags(path: Path, tiles: pd.DataFrame) -> None:
    """How many tiles have each flag, and how many are left out."""
    counts = {"left out": tiles["skip"].sum()} | {flag: tiles[flag].sum() for flag in reversed(FLAGS)}
    with drawing(path, (8, 2.8)) as axes:
        bars = axes.barh(list(counts), list(counts.values()), color=BLUE, alpha=0.6)
        axes.bar_label(bars, [f"{count:,}" for count in counts.values()], padding=3)
        axes.set(xlabel=f"tiles (of {len(tiles):,})", xlim=(0, 1.1 * len(tiles)))


def images(path: Path, scenes: pd.DataFrame) -> None:
    """How many scenes (columns `area`, `date`) there are of each area and date; by month or year where days are many."""
    dates = scenes["date"].replace("", "none")
    for digits in (8, 6, 4):
        if dates.str[:digits].nunique() <= MOST:
            break
    counts = pd.crosstab(scenes["area"], dates.str[:digits])
    largest = counts.sum(axis=1).nlargest(MOST).index.sort_values()
    shown = counts.loc[largest].iloc[:, -MOST:]
    with drawing(path, (3 + 0.35 * shown.shape[1], 1.6 + 0.3 * len(shown))) as axes:
        axes.imshow(shown, cmap="Blues", vmin=0, vmax=1.5 * shown.to_numpy().max(), aspect="auto")
        axes.set_xticks(range(shown.shape[1]), shown.columns, rotation=90)
        axes.set_yticks(range(len(shown)), shown.index)
        for (i, j), count in np.ndenumerate(shown.to_numpy()):
            axes.text(j, i, f"{count:,}" if count else "", ha="center", va="center", fontsize="small")
        axes.set(title=f"scenes {_shown(len(shown), len(counts), 'areas')}")


def splits(path: Path, tiles: pd.DataFrame, columns: Sequence[str]) -> None:
    """Tiles that take part in each fold or side: with target, without, and those left out."""
    with drawing(path, (8, 3.2), max(1, len(columns))) as made:
        for axes, column in zip(np.atleast_1d(made), columns, strict=False):
            part = np.select([tiles["skip"], tiles["has_target"]], ["left out", "with target"], "without target")
            counts = pd.crosstab(tiles[column], part)
            counts = counts.loc[counts.sum(axis=1).nlargest(MOST).index.sort_values()]
            places, bottom = np.arange(len(counts)), np.zeros(len(counts))
            for kind, color in (("with target", BLUE), ("without target", BROWN), ("left out", "#dcdcdc")):
                if kind in counts:
                    axes.bar(places, counts[kind], bottom=bottom, color=color, label=kind)
                    bottom += counts[kind].to_numpy()
            axes.set_xticks(places, counts.index, rotation=90 if len(counts) > 12 else 0)
            axes.set(xlabel=column, ylabel="tiles", ylim=(0, 1.25 * bottom.max()))
            axes.legend(fontsize="small", ncols=3)


def band_histograms(path: Path, sample: PixelSample) -> None:
    """Density of each band's values on the target and on the background, from 0.1 to 99.9 % of the pixels."""
    bands = list(sample.units)
    with drawing(path, (4 * len(bands), 3.2), len(bands)) as made:
        for axes, band in zip(np.atleast_1d(made), bands, strict=True):
            both = pd.concat([sample.background[band], sample.target[band]]).dropna()
            if len(both):
                edges = np.histogram_bin_edges(both, 80, tuple(np.quantile(both, [0.001, 0.999])))
                for values, color, name in ((sample.background, BROWN, "background"), (sample.target, BLUE, "target")):
                    if values[band].notna().any():
                        axes.hist(values[band], edges, density=True, color=color, alpha=0.55, label=name)
                axes.legend(fontsize="small")
            axes.set(xlabel=f"{band} ({sample.units[band]})" if sample.units[band] else band, yticks=[])


def band_correlation(path: Path, correlation: pd.DataFrame) -> None:
    """Pearson's correlation of each pair of bands."""
    names = list(correlation.columns)
    with drawing(path, (1.8 + 0.7 * len(names), 1.5 + 0.6 * len(names))) as axes:
        axes.imshow(correlation, cmap="RdBu_r", vmin=-1, vmax=1)
        axes.set_xticks(range(len(names)), names, rotation=90)
        axes.set_yticks(range(len(names)), names)
        for (i, j), value in np.ndenumerate(correlation.to_numpy()):
            text = "" if np.isnan(value) else f"{value:.2f}"
            axes.text(j, i, text, ha="center", va="center", color="white" if abs(value) > 0.7 else "black")


def footprint_map(path: Path, tiles: gpd.GeoDataFrame, column: str) -> None:
    """Where the tiles with a place on earth lie, coloured by `column`."""
    placed = tiles[tiles["crs"].notna() & tiles.geometry.notna()]
    shown = placed.sample(min(FOOTPRINTS, len(placed)), random_state=0).sort_values("key")
    groups = list(shown.groupby(column, sort=True))
    with drawing(path, (8, 5)) as axes:
        for i, (name, group) in enumerate(groups):
            outlines = shapely.get_parts(group.geometry.to_numpy())  # two where 180 degrees are crossed
            rings = [shapely.get_coordinates(outline.exterior) for outline in outlines]
            color = COLORS[i % len(COLORS)]
            axes.add_collection(PolyCollection(rings, facecolor=color, edgecolor=color, alpha=0.35, linewidth=1.5))
            axes.plot([], [], "s", color=color, label=str(name))
        axes.autoscale_view()
        for area, box in shown.groupby("area")[["geometry"]] if shown["area"].nunique() <= MOST else ():
            x_min, _, x_max, y_max = box.total_bounds
            axes.annotate(area, ((x_min + x_max) / 2, y_max), (0, 5), textcoords="offset points", ha="center")
        axes.set_aspect(1 / max(0.05, np.cos(np.deg2rad(np.mean(axes.get_ylim())))), adjustable="datalim")
        axes.set(xlabel="longitude", ylabel="latitude", title=_shown(len(shown), len(placed), "tiles"))
        if len(groups) <= 2 * len(COLORS):
            axes.legend(title=column, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))


def shift_chart(path: Path, table: pd.DataFrame) -> None:
    """Share of each category in the sets of a `shift_table`, a row of bars per field."""
    fields, sets = list(table["field"].unique()), list(table["set"].unique())
    with drawing(path, (9, 2.8 * len(fields)), rows=len(fields)) as made:
        for axes, field in zip(np.atleast_1d(made), fields, strict=True):
            shares = table[table["field"] == field].pivot(index="value", columns="set", values="share")
            order = list(table[table["field"] == field]["value"].unique())
            largest = set(shares.max(axis=1).nlargest(MOST).index)
            shown = shares.loc[[name for name in order if name in largest]]
            places, width = np.arange(len(shown)), 0.8 / len(sets)
            for i, name in enumerate(sets):
                axes.bar(places + (i - (len(sets) - 1) / 2) * width, shown[name], width, color=COLORS[i], label=name)
            axes.set_xticks(places, shown.index, rotation=90 if len(shown) > 12 else 0)
            axes.set(ylabel="share of the scenes", title=f"{field} {_shown(len(shown), len(shares), 'values')}")
        np.atleast_1d(made)[0].legend(fontsize="small", ncols=len(sets))


def _shown(shown: int, there: int, what: str) -> str:
    return "" if shown == there else f"({shown:,} of {there:,} {what} shown)"
