"""The report on a data set: tables and figures in files, and one HTML page that shows all of it with plain sentences."""

from __future__ import annotations

import base64
import gc
import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import geopandas as gpd
import pandas as pd

from swath.config import absolute, recorded
from swath.config.json_files import read_json
from swath.data.splits.shift import shift_table, shift_weights
from swath.data.tables import SCENE_COLUMNS, SCENES, read_table
from swath.eda import overview
from swath.eda.figures import (
    band_correlation,
    band_histograms,
    flags,
    footprint_map,
    images,
    shares,
    shift_chart,
    splits,
)
from swath.eda.overview import EdaConfig
from swath.eda.pixel_sample import PixelSample, draw_pixels
from swath.errors import CatalogError
from swath.files import atomic_write

REPORT, ROWS = "report.html", 100
"""Rows that the page shows of a table; the files have all."""

CAPTIONS = {
    "target_share": "Target share of the labelled pixels of a tile, by area (number of tiles).",
    "valid_share": "Share of valid pixels of a tile, by area (number of tiles).",
    "flags": "Flags of tiles: a tile may have several.",
    "images": "Scenes by area and date.",
    "splits": "Tiles by fold and side.",
    "map": "Footprints of the tiles.",
    "shift": "Scenes of training, validation and test; weighted, training has the shares of the test as far as weights can.",
    "band_histograms": "Values of the bands on the target and on the background, in pixels drawn from tiles.",
    "band_correlation": "Correlation between the bands, in pixels drawn from all tiles.",
}

STYLE = """body{font:15px/1.5 sans-serif;max-width:64em;margin:2em auto;padding:0 1em;color:#222}
table{border-collapse:collapse;font-size:13px}td,th{padding:.2em .7em;text-align:right;border-bottom:1px solid #ddd}
figure{margin:1.5em 0}img{max-width:100%}figcaption{color:#555}"""


@dataclass(frozen=True)
class Findings:
    """What the page tells: tables, sentences and the numbers that the run logs."""

    table: pd.DataFrame
    suspicious: pd.DataFrame
    remarks: list[str]
    bands: Mapping[str, Mapping[str, float]]
    numbers: dict[str, float]
    shift: pd.DataFrame | None = None
    """A row per field, category and set of scenes; None without a test set."""
    weights: pd.DataFrame | None = None
    """A row per training scene: its weight by the test set's shares."""


def explore(config: EdaConfig, source: Path, scenes_path: Path | None, output: Path) -> tuple[Findings, list[Path]]:
    """Write tables, figures and the page into `output`; return what was found and the files, figures first.

    Raises CatalogError when a table is missing, RasterError when a drawn tile cannot be read.
    """
    scenes = read_table(scenes_path / SCENES, SCENE_COLUMNS, "import_scenes") if scenes_path else None
    tiles = overview.read_explored_tiles(config, source, scenes)
    sample = draw_pixels(tiles, source, config.decibel, config.sample_tiles, config.sample_pixels, config.seed)
    found = findings(tiles, scenes, sample, config, _band_statistics(source))
    if config.test_scenes_path and scenes is not None:
        shift, weights = compare_sets(tiles, scenes, config)
        found = replace(found, shift=shift, weights=weights)
    figures = list(draw(tiles, scenes, sample, config, output / "figures", found.shift))
    for old in set((output / "figures").glob("*.png")) - set(figures):
        if old.stem in CAPTIONS:  # of an earlier start, with other data
            old.unlink()
    return found, [*figures, *_tables(found, output), _page(found, figures, output / REPORT, config)]


def findings(
    tiles: gpd.GeoDataFrame,
    scenes: gpd.GeoDataFrame | None,
    sample: PixelSample,
    config: EdaConfig,
    bands: Mapping[str, Mapping[str, float]],
) -> Findings:
    """Everything that is said about the data set."""
    total = overview.overview(tiles.assign(all=0), ["all"]).iloc[0]
    numbers = {name: float(total[name]) for name in total.index if name != "all"}
    counted = [column for column in ("area", "date", "group") if column in tiles]
    numbers |= {f"{column}s": float(tiles[column].nunique()) for column in counted}
    return Findings(
        table=overview.overview(tiles, ["area", *overview.splits_of(tiles, config), "date"]),
        suspicious=overview.suspicious(tiles),
        remarks=overview.remarks(tiles, scenes, config, sample.correlation),
        bands=bands,
        numbers={name: value for name, value in numbers.items() if value == value},
    )


def compare_sets(tiles: pd.DataFrame, scenes: pd.DataFrame, config: EdaConfig) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`shift` and `weights` of `Findings`: scenes of the validation fold apart, against the test set's."""
    columns = [*SCENE_COLUMNS, *config.shift_fields]
    test = read_table(absolute(str(config.test_scenes_path)) / SCENES, columns, "import_scenes")
    judges = set(tiles.loc[tiles["fold"] == config.validation_fold, "scene"]) if "fold" in tiles else set()
    held = scenes["key"].isin(judges)
    train = scenes[~held].reset_index(drop=True)
    weights = shift_weights(train, test, config.shift_fields)
    sets = {"training": train} | ({"validation": scenes[held]} if held.any() else {}) | {"test": test}
    each = train[["key", *config.shift_fields]].assign(weight=weights)
    return shift_table(sets, config.shift_fields, weights), each


def draw(
    tiles: gpd.GeoDataFrame, scenes: gpd.GeoDataFrame | None, sample: PixelSample, config: EdaConfig, folder: Path,
    shift: pd.DataFrame | None = None,
) -> Iterator[Path]:  # fmt: skip
    """Draw every figure that the data allows; yield the files."""
    columns = overview.splits_of(tiles, config)
    each = scenes if scenes is not None else tiles.drop_duplicates("scene")
    makers: dict[str, Any] = {"flags": partial(flags, tiles=tiles)}
    if tiles["target_pct"].notna().any():
        title = "target share of a tile, %"
        makers["target_share"] = partial(shares, tiles=tiles, column="target_pct", title=title)
    valid = tiles.assign(valid_pct=100 * tiles["valid_ratio"])
    makers["valid_share"] = partial(shares, tiles=valid, column="valid_pct", title="valid share of a tile, %")
    makers["images"] = partial(images, scenes=each.assign(date=each["date"].fillna("")))
    if columns:
        makers["splits"] = partial(splits, tiles=tiles, columns=columns)
    if (tiles["crs"].notna() & tiles.geometry.notna()).any():
        divided = [column for column in columns if tiles[column].nunique() > 1]
        makers["map"] = partial(footprint_map, tiles=tiles, column=(divided or ["area"])[0])
    if shift is not None:
        makers["shift"] = partial(shift_chart, table=shift)
    if len(sample.anywhere):
        makers["band_histograms"] = partial(band_histograms, sample=sample)
        makers["band_correlation"] = partial(band_correlation, correlation=sample.correlation)
    for name in CAPTIONS:
        if name in makers:
            makers[name](folder / f"{name}.png")
            yield folder / f"{name}.png"
    gc.collect()  # figures hold cycles; with a large heap they would pile up until Python looks


def _tables(found: Findings, output: Path) -> Iterator[Path]:
    tables = {"eda.csv": found.table, "suspicious_tiles.csv": found.suspicious}
    if found.shift is not None and found.weights is not None:
        tables |= {"shift.csv": found.shift, "scene_weights.csv": found.weights}
    for name, table in tables.items():
        with atomic_write(output / name) as part:
            table.to_csv(part, index=False)
        yield output / name
    with atomic_write(output / "eda.parquet") as part:
        found.table.to_parquet(part, index=False)
    yield output / "eda.parquet"


def _band_statistics(source: Path) -> dict[str, Any]:
    path = source / "band_stats.json"
    if not path.is_file():
        return {}
    remedy = "Delete it and start generate_tiles_stats again."
    return dict(read_json(path, dict[str, dict[str, float | None]], CatalogError, remedy))


# ------------------------------------------------------------------------------------------------------------ the page


def _page(found: Findings, figures: Sequence[Path], path: Path, config: EdaConfig) -> Path:
    """One file with everything in it, so that it can be sent and opened anywhere."""
    remarks = "".join(f"<li>{html.escape(text)}</li>" for text in found.remarks) or "<li>Nothing.</li>"
    parts = [
        f"<h1>Data set {html.escape(str(recorded(config.input_path)))}</h1>", f"<p>{html.escape(_summary(found.numbers))}</p>",
        f"<h2>What stands out</h2><ul>{remarks}</ul>", *(_figure(figure) for figure in figures),
        "<h2>By area, split and date</h2>", _table(found.table),
    ]  # fmt: skip
    if found.bands:
        parts += [
            "<h2>Bands, over all valid pixels</h2>",
            _table(pd.DataFrame(found.bands).T.rename_axis("band").reset_index()),
        ]
    if len(found.suspicious):
        parts += ["<h2>Tiles with a suspicious target share</h2>", _table(found.suspicious)]
    with atomic_write(path) as part:
        head = f"<!doctype html><html><head><meta charset='utf-8'><title>Data set</title><style>{STYLE}</style></head>"
        part.write_text(f"{head}<body>{''.join(parts)}</body></html>\n", encoding="utf-8")
    return path


def _summary(numbers: Mapping[str, float]) -> str:
    text = (
        f"{numbers['tiles']:,.0f} tiles of {numbers['scenes']:,.0f} scenes in {numbers['areas']:,.0f} areas; "
        f"{100 * numbers['valid_share']:.1f} % of their pixels are valid"
    )
    if "target_share" not in numbers:
        return f"{text}."
    return (
        f"{text}; {100 * numbers['target_share']:.3g} % of the labelled ones are target, "
        f"which {numbers['has_target']:,.0f} tiles have some of."
    )


def _figure(path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    caption = html.escape(CAPTIONS[path.stem])
    return (
        f"<figure><img src='data:image/png;base64,{data}' alt='{caption}'><figcaption>{caption}</figcaption></figure>"
    )


def _table(table: pd.DataFrame) -> str:
    more = f"<p>{len(table) - ROWS:,} more rows are in the files.</p>" if len(table) > ROWS else ""
    return table.head(ROWS).to_html(index=False, border=0, na_rep="", float_format="{:.4g}".format) + more
