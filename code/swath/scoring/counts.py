"""Rows of counts: one per tile of an evaluation, or per block of a scored scene, and task. The unit of every score.

Training, validation and test give the same columns (`COLUMNS`), so that one reader, one report and one comparison serve
all three. The table is GeoParquet and opens in QGIS: where is the map wrong?
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
from numpy.typing import NDArray

from swath.data.naming import date_of
from swath.errors import CatalogError
from swath.geo.earth import footprints
from swath.geo.grid import Window
from swath.scoring.evaluate import Evaluation
from swath.scoring.metrics import score_arrays
from swath.scoring.scenes import SceneScore

COLUMNS = (
    "task", "unit", "key", "scene", "area", "date", "mission", "row", "col", "height", "width", "pixels",
    "valid_share", "target_share", "predicted_share", "accuracy", "iou_fg", "f1_fg", "loss", "matrix", "geometry",
)  # fmt: skip
"""Columns of every table of units; further ones are those of the table of scenes or tiles.

`unit` tile or block; `row`, `col`, `height`, `width` its window in the scene, px; `pixels` labelled ones; `valid_share`
of the window that is labelled; `target_share` and `predicted_share` of the labelled pixels above class 0; `loss` mean
over labelled pixels of the task's loss (NaN where none was computed); `matrix` the confusion matrix, K x K counts row
by row, rows = truth.
"""

_NO_CONDITION = {
    "image", "mask", "labels", "nodata", "bands", "crs", "geometry", "geometry_crs", "skip", "core_row", "core_col", "core_height",
    "core_width", "scene_height", "scene_width", "scene_transform",
}  # fmt: skip


def scene_rows(
    key: str, area: str, score: SceneScore, about: Mapping[str, Any] | None = None
) -> gpd.GeoDataFrame:  # fmt: skip
    """A row per task and block of a scored scene that has labelled pixels.

    `about` is the scene's row in its table: what it says of the scene becomes columns. A key ``<scene>/tile_...`` is
    a tile of that scene.
    """
    scene = str((about or {}).get("scene", key.partition("/")[0]))
    common = _about(about or {}) | {"scene": scene, "area": area} | _named(scene, about or {})
    rows = []
    for task, grid_of_matrices in score.blocks.items():
        for (i, j), window in score.windows():
            if grid_of_matrices[i, j].any():
                name = key if score.is_one_block else f"{key}/block_{window.col}_{window.row}"
                row = common | {"task": task, "unit": "block", "key": name} | _place(window)
                rows.append(row | _counts(grid_of_matrices[i, j], window))
    windows = [Window(row["row"], row["col"], row["height"], row["width"]) for row in rows]
    outlines, crs = footprints(score.grid, windows)
    return _frame(rows, outlines, crs)


def tile_rows(found: Evaluation, tiles: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """A row per task and tile of an evaluation that has labelled pixels; `tiles` is the table that was evaluated.

    The window of a row is the tile's core, the part of the scene that it alone answers for. Raises CatalogError for an
    evaluated key that the table does not have.
    """
    table = tiles.drop(columns="geometry").set_index("key", drop=False).to_dict("index")
    unknown = sorted(set(found.units) - set(table))
    if unknown:
        raise CatalogError(f"no tile {unknown[0]} in the table. Pass the tiles that were evaluated.")
    outlines = dict(zip(tiles["key"], tiles.geometry, strict=True))
    rows = []
    for key, unit in found.units.items():
        about = table[key]
        window = Window(*(int(about.get(f"core_{n}", about[n])) for n in ("row", "col", "height", "width")))
        for task, matrix in unit.matrices.items():
            if matrix.any():
                loss = unit.mean_losses.get(f"loss_{task}", np.nan)
                row = _about(about) | {"task": task, "unit": "tile", "key": key} | _named(about["scene"], about)
                row |= {"scene": about["scene"], "area": about["area"]}
                rows.append(row | _place(window) | _counts(matrix, window) | {"loss": loss})
    return _frame(rows, [outlines[row["key"]] for row in rows], tiles.crs)


def stacked_matrices(rows: gpd.GeoDataFrame) -> NDArray[np.int64]:
    """int64 (U, K, K): the confusion matrices of the rows of one task."""
    flat = np.stack([np.asarray(matrix, np.int64) for matrix in rows["matrix"]])
    side = round(flat.shape[1] ** 0.5)
    return flat.reshape(-1, side, side)


def sampling_units(rows: gpd.GeoDataFrame, scenes_needed: int) -> tuple[str, NDArray[np.int64]]:
    """(what is drawn in a bootstrap, its matrices (U, K, K)) for the rows of one task.

    Scenes when there are at least `scenes_needed` of them, because they are drawn independently of each other; else
    the rows themselves, blocks or tiles. They come in the order of their keys, so that a seed draws the same whatever
    the order of the rows.
    """
    ordered = rows.sort_values("key")
    matrices = stacked_matrices(ordered)
    names = sorted(ordered["scene"].unique())
    if len(names) < scenes_needed:
        return f"{rows['unit'].iloc[0]}s", matrices
    return "scenes", sums_by(ordered, "scene", names)


def sums_by(rows: gpd.GeoDataFrame, column: str, names: Sequence[str]) -> NDArray[np.int64]:
    """int64 (N, K, K): the confusion matrices of the rows of one task, summed by the `names` in a column."""
    matrices = stacked_matrices(rows)
    sums = np.zeros((len(names), *matrices.shape[1:]), np.int64)
    np.add.at(sums, np.searchsorted(np.asarray(names, str), rows[column].to_numpy(str)), matrices)
    return sums


def _about(about: Mapping[str, Any]) -> dict[str, Any]:
    """What a table of scenes or tiles says in single values, places and files left out."""
    kept = {k: v for k, v in about.items() if k not in _NO_CONDITION and k not in COLUMNS}
    return {str(k): v for k, v in kept.items() if v is None or np.isscalar(v)}


def _named(scene: str, about: Mapping[str, Any]) -> dict[str, str]:
    known = {k: v for k, v in about.items() if k in ("date", "mission") and v and v == v}  # NaN of joined tables
    return {
        "date": str(known.get("date", date_of(Path(f"{scene}.tif")))),
        "mission": str(known.get("mission", "")),
    }


def _place(window: Window) -> dict[str, int]:
    return {"row": window.row, "col": window.col, "height": window.height, "width": window.width}


def _counts(matrix: NDArray[np.int64], window: Window) -> dict[str, Any]:
    pixels = int(matrix.sum())
    found = {name: float(values) for name, values in score_arrays(matrix, range(len(matrix))).items()}  # type: ignore[arg-type]
    return {
        "pixels": pixels, "valid_share": pixels / (window.height * window.width),
        "target_share": float(matrix[1:].sum() / pixels), "predicted_share": float(matrix[:, 1:].sum() / pixels),
        "accuracy": found["accuracy"], "iou_fg": found["iou_fg"], "f1_fg": found["f1_fg"], "loss": float("nan"),
        "matrix": matrix.ravel().tolist(),
    }  # fmt: skip


def _frame(rows: list[dict[str, Any]], outlines: Iterable[Any], crs: Any) -> gpd.GeoDataFrame:
    frame = gpd.GeoDataFrame(rows, geometry=list(outlines), crs=crs)
    others = [c for c in frame.columns if c not in COLUMNS]
    return frame.reindex(columns=[*COLUMNS, *others])
