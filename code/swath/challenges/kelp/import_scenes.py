"""Import of tiles of the Kelp Wanted challenge: rows of scenes.parquet that name the challenge's own files.

Pixels stay where they are. The files say neither what their bands are called nor which value means no measurement, so
the table does. Labels that are no bytes, which nothing else reads, are written again as bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from swath.challenges.kelp.product import (
    BANDS,
    IMAGE,
    LABELS,
    MISSING,
    OPTICAL,
    SIDE,
    TEST,
    TRAIN,
    Delivery,
    find_delivery,
    read_metadata,
    require_whole,
    tiles_in,
)
from swath.challenges.protocols import SceneImport
from swath.config import InputPath, OutputPath, absolute, configclass
from swath.data.naming import listing
from swath.data.tables import from_table, place
from swath.data.tiles.flags import corruption_flags, elevation_flags, measurement_flags, target_flags
from swath.errors import CatalogError, RasterError
from swath.geo.grid import Grid
from swath.geo.layout import RasterSpec
from swath.geo.raster import RasterReader
from swath.geo.raster_writer import write_raster
from swath.labels import IGNORE
from swath.steps.job import Report


@configclass
class ImportKelpConfig(SceneImport):
    """Tiles of the Kelp Wanted challenge to a table of scenes with flags; pixels are not copied."""

    input_path: InputPath
    """Folder of the tiles: train/{images,masks} and test/images, or train_satellite, train_kelp and test_satellite, with
    the metadata (metadata*.csv), if there is one."""
    output_path: OutputPath
    """Folder for scenes.parquet, whose paths lead to the challenge's files."""
    truth_path: InputPath | None = None
    """Folder of <tile_id>_kelp.tif of the test tiles, where these are known: then they have labels, too."""
    incomplete: Literal["error", "leave_out"] = "error"
    """What to do about tiles that lack a file, or a row of the metadata: stop, or leave them out and say so."""

    def scenes_to_import(self, output: Path) -> list[KelpJob]:
        """A job per tile."""
        return kelp_jobs(self, output)

    def finish(self, results: Mapping[str, Any]) -> Report:
        """Write scenes.parquet; say what the tiles are like."""
        report = super().finish(results)
        rows = list(results.values())
        counts = {
            "train": sum(row["original_split"] == TRAIN for row in rows),
            "test": sum(row["original_split"] == TEST for row in rows),
            "with_target": sum(bool(row["has_target"]) for row in rows),
            "high_target": sum(bool(row["high_target"]) for row in rows),
            "without_relief": sum(row["water_pct"] == 100 for row in rows),
        }
        line = ", ".join(f"{name} {count}" for name, count in counts.items())
        metrics = {f"preparation/{name}": float(count) for name, count in counts.items()}
        return Report(metrics=metrics, written=report.written, lines=[line])


@dataclass(frozen=True, kw_only=True)
class KelpJob:
    """One tile to import: its side and its files."""

    key: str
    side: str
    image: Path
    labels: Path | None
    output: Path
    copies_labels: bool
    """Whether the labels are no bytes, and are written again."""

    @property
    def inputs(self) -> list[Path]:
        return [self.image, *([self.labels] if self.labels else [])]

    @property
    def copy(self) -> Path:
        """Where labels are written as bytes."""
        return self.output / "labels" / f"{self.key}.tif"

    @property
    def outputs(self) -> list[Path]:
        return [self.copy] if self.copies_labels else []

    @property
    def decided_by(self) -> Any:
        """The side of the tile, and where its files lie, which the row names."""
        return [self.side, *(from_table(path, self.output) for path in self.inputs)]

    def run(self) -> dict[str, Any]:
        """Look at the tile; return its row."""
        return import_tile(self)


def kelp_jobs(config: ImportKelpConfig, output: Path) -> list[KelpJob]:
    """A job per tile. Raises CatalogError that names tiles without a twin, twice there, or without a file or row."""
    delivery = find_delivery(absolute(config.input_path))
    table = read_metadata(delivery.metadata) if delivery.metadata else None
    tiles = require_whole(delivery, table, config.incomplete == "leave_out")
    sides = delivery.sides()
    labels = dict(delivery.files[TRAIN, LABELS]) | _truth(config, delivery)
    copies = _are_no_bytes(next(iter(labels.values()), None))
    return [
        KelpJob(
            key=tile, side=sides[tile], image=delivery.files[sides[tile], IMAGE][tile], labels=labels.get(tile),
            output=output, copies_labels=copies and tile in labels,
        )
        for tile in tiles
    ]  # fmt: skip


def _truth(config: ImportKelpConfig, delivery: Delivery) -> dict[str, Path]:
    """Labels of the test tiles, if they are known."""
    if config.truth_path is None:
        return {}
    folder = absolute(config.truth_path)
    found = tiles_in(folder, LABELS)
    tests = delivery.files[TEST, IMAGE]
    missing = sorted(set(tests) - set(found))
    if missing:
        raise CatalogError(
            f"{folder}: no labels of the test tiles {listing(missing)}. Add them, or set truth_path=None."
        )
    return {tile: found[tile] for tile in tests}


def _are_no_bytes(path: Path | None) -> bool:
    """Whether labels are of another type than swath's, by one of the files; each is checked when it is read."""
    if path is None:
        return False
    with RasterReader(path) as reader:
        return reader.info.dtype != "uint8"


# -------------------------------------------------------------------------------------------------------------- import


def import_tile(job: KelpJob) -> dict[str, Any]:
    """The row of a tile: files, names of its bands, value of missing pixels, and flags.

    Raises RasterError, which names the file, for another size or number of bands, and for labels other than 0 and 1.
    """
    with RasterReader(job.image, (MISSING,)) as reader:
        info = reader.info
        _require_shape(job.image, info.grid, len(info.bands), len(BANDS))
        image_7HW = reader.image()
    qa_HW, height_HW = (image_7HW[BANDS.index(band)] for band in ("QA", "DEM"))
    row = {
        "key": job.key, "area": job.key, "date": "", "original_split": job.side,
        "image": from_table(job.image, job.output), "bands": list(BANDS), "nodata": float(MISSING),
        "height": SIDE, "width": SIDE, **place(info),
    }  # fmt: skip
    row |= {"labels": None, "has_target": None, "target_pixels": None, "target_pct": None, "high_target": None}
    if job.labels is not None:
        row |= {"labels": from_table(job.copy if job.copies_labels else job.labels, job.output)}
        row |= target_flags(_labels(job, job.labels))
    row |= corruption_flags(qa_HW) | elevation_flags(height_HW) | measurement_flags(image_7HW[: len(OPTICAL)])
    return row | {"geometry": row["geometry"].wkt}


def _require_shape(path: Path, grid: Grid, bands: int, wanted: int) -> None:
    if (*grid.shape, bands) != (SIDE, SIDE, wanted):
        height, width = grid.shape
        raise RasterError(
            f"{path}: is {height} x {width} px of {bands} bands, a file of the challenge {SIDE} x {SIDE} px of {wanted}. "
            "Download it again, or take it and its twin out of the folder."
        )


def _labels(job: KelpJob, path: Path) -> NDArray[np.uint8]:
    """uint8 (H, W) 0, 1, 255; written to the copy if they are no bytes."""
    with RasterReader(path) as reader:
        info = reader.info
        _require_shape(path, info.grid, len(info.bands), 1)
        stored_HW = reader.image()[0]
    labels_HW = np.where(np.isnan(stored_HW), IGNORE, stored_HW)
    others = [value for value in np.unique(labels_HW).tolist() if value not in (0, 1, IGNORE)]
    if others:
        raise RasterError(f"{path}: holds {listing(f'{value:g}' for value in others)}; labels are 0, or 1 for kelp.")
    if (info.dtype != "uint8") != job.copies_labels:
        kind = "bytes" if job.copies_labels else "no bytes"
        raise RasterError(f"{path}: is {info.dtype}, the labels of other tiles are {kind}. Give all one type.")
    classes_HW = labels_HW.astype(np.uint8)
    if job.copies_labels:
        spec = RasterSpec(grid=info.grid, bands=("kelp",), dtype="uint8", nodata=IGNORE, block=None, compress=True)
        write_raster(job.copy, classes_HW[None], spec)
    return classes_HW
