"""What a person looks at and goes on with when labels look wrong: pictures with outlines, and labels without their shift."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from swath.config import absolute
from swath.data.leakage.scene_groups import paths_from
from swath.data.tables import SCENES, Row, only_where, read_scenes, write_table
from swath.figures.pictures import draw_mask_outline, enlarged, legend, paragraph, side_by_side, stretch, write_picture
from swath.files import path_below
from swath.geo.grid import Window
from swath.geo.layout import RasterSpec
from swath.geo.raster import RasterReader
from swath.geo.raster_writer import RasterWriter
from swath.geo.windows import strips
from swath.labels import IGNORE
from swath.prediction.label_disagreement import NAME_TASK, PredictedMap
from swath.prediction.label_shifts import SHIFT, SceneBands, reference_outlined

if TYPE_CHECKING:
    from swath.prediction.label_faults import FaultJob, FindLabelFaultsConfig

STRIP_PIXELS = 4_000_000
SIDE = 700
"""Largest side of a picture; larger windows are thinned."""
LABEL, FOUND, MOVED = (235, 30, 40), (255, 220, 0), (0, 230, 255)
"""RGB of the outlines of labels or what is shifted, of the map, and of what is shifted at its right place."""

Picture = NDArray[np.uint8]
Outlines = dict[str, tuple[NDArray[np.bool_], tuple[int, int, int]]]
"""Name in the legend to where something is, and the colour of its outline."""


# -------------------------------------------------------------------------------------------------------------- labels


def write_corrected(config: FindLabelFaultsConfig, table: pd.DataFrame, jobs: Mapping[str, FaultJob]) -> list[Path]:
    """Write labels without their shift, and a scenes.parquet in which scenes name them; return the files, the table last.

    Pixels that come from outside the raster get no label. The table says by how much labels were moved in the columns
    `label_shift_rows` and `label_shift_cols`, 0 for those that stay as they are.
    """
    scenes = only_where(read_scenes(absolute(config.input_path)), config.only).set_index("key", drop=False)
    labels = {key: str(job.labels) for key, job in jobs.items() if job.labels}
    scenes = scenes.assign(labels=scenes["key"].map(labels).astype(object).where(lambda paths: paths.notna(), None))
    scenes = scenes.assign(label_shift_rows=0, label_shift_cols=0)
    written = []
    for row in shifted_rows(table).to_dict("records"):
        job = jobs[row["key"]]
        if job.labels is None:
            continue
        path = path_below(config.output / "labels", job.area, job.key, suffix=".tif")
        write_moved(job.labels, path, int(row["rows"]), int(row["cols"]))
        written.append(path)
        scenes.loc[job.key, ["labels", "label_shift_rows", "label_shift_cols"]] = [str(path), row["rows"], row["cols"]]
    whole = {column: scenes[column].astype(int) for column in ("label_shift_rows", "label_shift_cols")}
    _remove_others((config.output / "labels").rglob("*.tif"), written)
    write_table(config.output / SCENES, paths_from(scenes.assign(**whole).reset_index(drop=True), config.output))
    return [*written, config.output / SCENES]


def shifted_rows(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of scenes whose labels or reference lie off the image."""
    return table[(table["kind"] == SHIFT) & table["is_fault"].astype(bool)]


def write_moved(labels: Path, path: Path, rows: int, cols: int) -> None:
    """Write labels that lie `rows` down and `cols` to the right of where they should to where they should."""
    with RasterReader(labels) as reader:
        info = reader.info
        spec = RasterSpec(grid=info.grid, bands=info.bands, dtype="uint8", nodata=IGNORE, compress=True)
        with RasterWriter(path, spec) as writer:
            for strip in strips(info.grid.shape, STRIP_PIXELS):
                writer.write(reader.labels(moved(strip, rows, cols)), strip)


def moved(window: Window, rows: int, cols: int) -> Window:
    """A window so many pixels further down and to the right."""
    return replace(window, row=window.row + rows, col=window.col + cols)


# ------------------------------------------------------------------------------------------------------------ pictures


def draw_faults(config: FindLabelFaultsConfig, table: pd.DataFrame, jobs: Mapping[str, FaultJob]) -> list[Path]:
    """A picture of the first rows of each kind, in pictures/; return the files. Those of earlier starts go."""
    folder = config.output / "pictures"
    written = []
    for row in table[table["rank"] <= config.pictures].to_dict("records"):
        if row["kind"] == SHIFT and not row["is_fault"]:
            continue
        name = f"{row['kind']}_{row['rank']:03d}_{str(row['key']).replace('/', '_')}"
        path = path_below(folder, name, suffix=".png")
        write_picture(path, fault_picture(config, jobs[row["key"]], row))
        written.append(path)
    _remove_others(folder.glob("*.png"), written)
    return written


def fault_picture(config: FindLabelFaultsConfig, job: FaultJob, row: Row) -> Picture:
    """uint8 RGB: the image as it is, and with outlines of labels and map, or of what is shifted; the reason below."""
    with ExitStack() as stack:
        image = stack.enter_context(job.scene.reader())
        labels = stack.enter_context(RasterReader(job.labels)) if job.labels else None
        task = labels.info.position_of_task(config.task, NAME_TASK) if labels else 0
        window = image.info.grid.window if row["kind"] == SHIFT else _window_of(row)
        step = max(1, math.ceil(max(window.shape) / SIDE))
        remedy = "Set it with -P picture_bands=<names>."
        numbers = image.info.numbers_of(config.picture_bands, remedy) if config.picture_bands else None
        plain = stretch(image.image(window, numbers)[:3, ::step, ::step])
        if row["kind"] == SHIFT:
            outlines = _outlines_of_shift(config, SceneBands(image, labels, task), row)
        else:
            outlines = _outlines_of_map(config, job, labels, task, window)
    drawn = plain.copy()
    for mask_HW, color in outlines.values():
        draw_mask_outline(drawn, mask_HW[::step, ::step], color)
    pair = side_by_side([enlarged(plain), enlarged(drawn)], [f"{row['kind']} {row['rank']}: {job.key}", "outlines"])
    palette = np.array([color for _, color in outlines.values()], np.uint8)
    names = legend("outlines:", list(outlines), palette, pair.shape[1], has_unlabelled=False)
    return np.concatenate([pair, names, paragraph(str(row["reason"]), pair.shape[1])])


def _window_of(row: Row) -> Window:
    return Window(*(int(row[name]) for name in ("row", "col", "height", "width")))


def _outlines_of_map(
    config: FindLabelFaultsConfig, job: FaultJob, labels: RasterReader | None, task: int, window: Window
) -> Outlines:
    """Labels and map of a window."""
    assert labels is not None
    assert job.found is not None
    found = {"label": (_target(labels.labels(window, [task + 1])[0]), LABEL)}
    with PredictedMap(job.found, labels.info.grid, config.task) as predicted:
        found["prediction"] = _target(predicted.classes(window)[0]), FOUND
    return found


def _outlines_of_shift(config: FindLabelFaultsConfig, scene: SceneBands, row: Row) -> Outlines:
    """The reference as it lies and without its shift."""
    assert config.shift is not None
    window, pair = scene.image.info.grid.window, config.shift.pairs[row["by"]]
    found = {}
    for name, place, color in (
        ("as it lies", window, LABEL),
        ("without its shift", moved(window, int(row["rows"]), int(row["cols"])), MOVED),
    ):
        found[f"{row['by']} {name}"] = reference_outlined(pair, scene, place), color
    return found


def _target(classes_HW: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return (classes_HW > 0) & (classes_HW != IGNORE)


def _remove_others(files: Iterable[Path], kept: Iterable[Path]) -> None:
    """Remove files of an earlier start that this one does not have."""
    for path in set(files) - set(kept):
        path.unlink()
