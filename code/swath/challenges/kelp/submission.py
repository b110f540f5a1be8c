"""Submission to the Kelp Wanted challenge: an archive of one small raster per test tile, and its check."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from swath import config as configs
from swath.challenges.kelp.product import LABELS, SIDE, TEST, file_name
from swath.challenges.protocols import Submission, SubmissionWriter
from swath.config import InputPath, OutputPath, configclass
from swath.data.naming import listing
from swath.data.pairing import by_key
from swath.data.tables import SCENE_COLUMNS, SCENES, read_table
from swath.errors import CatalogError, RasterError
from swath.files import atomic_write, scratch_folder
from swath.geo.grid import Grid
from swath.geo.layout import RasterSpec
from swath.geo.raster import RasterReader
from swath.geo.raster_writer import write_raster
from swath.labels import IGNORE
from swath.scoring.lineage import prediction_folder

GRID = Grid(None, Affine.identity(), (SIDE, SIDE))
"""Tiles of the challenge have no place on the earth."""
TILES = "tiles"
"""Folder of the rasters that are packed."""


@configclass
class KelpSubmissionConfig(SubmissionWriter):
    """Maps of all test tiles in one archive."""

    input_path: InputPath
    """Folder of classes/<area>/<tile_id>.tif: the output of inference, ensemble or postprocess."""
    scenes_path: InputPath
    """Folder with the scenes.parquet of the challenge's tiles: each of its test tiles has to be in the archive."""
    output_path: OutputPath
    """Folder for the archive, submission.tar or submission.zip, and for the rasters in it."""
    packing: Literal["tar", "zip"] = "tar"
    """Kind of the archive."""
    missing: Literal[0, 1] = 0
    """Class where the map has none, because the tile measured nothing there."""

    def stages(self) -> list[list[TileJob]]:
        """One raster per test tile."""
        return [tile_jobs(self)]

    def submit(self, results: Mapping[str, Any]) -> Submission:
        """Pack the rasters, reopen the archive and check it."""
        output = configs.absolute(self.output_path)
        archive = output / f"submission.{self.packing}"
        for kind in ("tar", "zip"):
            (output / f"submission.{kind}").unlink(missing_ok=True)  # an older one must not pass for this one's
        tiles = {key: output / TILES / file_name(key, LABELS) for key in results}
        pack(tiles.values(), archive)
        check(archive, tiles)
        kelp, filled = (sum(found[name] for found in results.values()) for name in ("kelp", "filled"))
        pixels = len(tiles) * SIDE**2
        lines = [f"{archive}: {len(tiles)} tiles, {100 * kelp / pixels:.2f} % {LABELS}, checked"]
        if filled:
            lines.append(f"without a map, written as class {self.missing}: {100 * filled / pixels:.2f} % of the pixels")
        metrics = {"tiles": len(tiles), "kelp_share": kelp / pixels, "missing_share": filled / pixels}
        return Submission(archive=archive, metrics=metrics, lines=lines, written=[*tiles.values(), archive])


@dataclass(frozen=True, kw_only=True)
class TileJob:
    """One test tile: its map, and the raster that goes into the archive."""

    key: str
    classes: Path
    output: Path
    missing: int

    @property
    def inputs(self) -> list[Path]:
        return [self.classes]

    @property
    def outputs(self) -> list[Path]:
        return [self.output]

    def run(self) -> dict[str, int]:
        """Write the raster; return its pixels of kelp, and those that had no map."""
        map_HW = read_map(self.classes)
        is_gap = map_HW == IGNORE
        classes_HW = np.where(is_gap, self.missing, map_HW).astype(np.int8)
        spec = RasterSpec(grid=GRID, bands=(LABELS,), dtype="int8", block=None, compress=True)
        write_raster(self.output, classes_HW[None], spec)
        return {"kelp": int(classes_HW.sum()), "filled": int(is_gap.sum())}


def tile_jobs(config: KelpSubmissionConfig) -> list[TileJob]:
    """A job per test tile. Raises CatalogError that names test tiles without a map, and maps of other tiles."""
    folder = prediction_folder(config.input_path, "classes", "input_path")
    maps = by_key(folder)
    tests = tiles_to_hand_in(configs.absolute(config.scenes_path))
    missing, others = sorted(set(tests) - set(maps)), sorted(set(maps) - set(tests))
    if missing or others:
        what = f"no map of {listing(missing)}" if missing else f"{listing(others)}: no test tile"
        raise CatalogError(
            f"{folder}: {what} ({len(missing)} test tiles without a map, {len(others)} maps of no test tile of "
            f"{config.scenes_path}). Predict all test tiles, and only these, into a folder of their own."
        )
    output = configs.absolute(config.output_path) / TILES
    return [
        TileJob(key=key, classes=maps[key], output=output / file_name(key, LABELS), missing=config.missing)
        for key in tests
    ]


def tiles_to_hand_in(folder: Path) -> list[str]:
    """Ids of the test tiles of a table of scenes, sorted. Raises CatalogError where there is none."""
    table = read_table(folder / SCENES, [*SCENE_COLUMNS, "original_split"], "import_scenes")
    keys = sorted(table["key"][table["original_split"] == TEST])
    if not keys:
        raise CatalogError(f"{folder / SCENES}: no tile is a test tile (original_split={TEST}). Import them, too.")
    return keys


def read_map(path: Path) -> NDArray[np.uint8]:
    """uint8 (350, 350) of a class map: 0, 1, or 255 without a map. Raises RasterError for anything else."""
    with RasterReader(path) as reader:
        info = reader.info
        if info.dtype != "uint8" or len(info.bands) != 1 or info.grid.shape != (SIDE, SIDE):
            height, width = info.grid.shape
            raise RasterError(
                f"{path}: is {height} x {width} px of {len(info.bands)} bands of {info.dtype}, a map of classes "
                f"{SIDE} x {SIDE} px of one of uint8. Set input_path to the output of inference or ensemble."
            )
        map_HW = reader.labels()[0]
    others = [value for value in np.unique(map_HW).tolist() if value not in (0, 1, IGNORE)]
    if others:
        raise RasterError(f"{path}: holds class {listing(map(str, others))}; 0 and 1 are due. Is it of another model?")
    return map_HW


# ------------------------------------------------------------------------------------------------------------- archive


def pack(files: Iterable[Path], archive: Path) -> None:
    """Put files into an archive without folders, by the suffix of its name; whole or not at all.

    Equal files give equal bytes: neither times nor owners are kept.
    """
    with atomic_write(archive, RasterError) as part:
        if archive.suffix == ".zip":
            with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as packed:
                for path in files:
                    packed.writestr(zipfile.ZipInfo(path.name), path.read_bytes(), zipfile.ZIP_DEFLATED)
            return
        with tarfile.open(part, "w", format=tarfile.USTAR_FORMAT) as packed_tar:
            for path in files:
                content = path.read_bytes()
                entry = tarfile.TarInfo(path.name)
                entry.size = len(content)
                packed_tar.addfile(entry, io.BytesIO(content))


def check(archive: Path, tiles: Mapping[str, Path]) -> None:
    """Reopen an archive; RasterError, and no archive, unless it holds a raster of each tile, as it is due, and no more."""
    faults = list(faults_of(archive, list(tiles)))
    if faults:
        archive.unlink()
        raise RasterError(f"{archive}: {'; '.join(faults[:5])}. Nothing is left of it; run to_submission again.")


def faults_of(archive: Path, tiles: Sequence[str]) -> Iterator[str]:
    """What is wrong with an archive for these test tiles: names, sizes, types, values."""
    entries = list(entries_of(archive))
    names = [name for name, _ in entries]
    expected = {file_name(tile, LABELS) for tile in tiles}
    yield from (f"{name} is missing" for name in sorted(expected - set(names)))
    yield from (f"{name} is not asked for" for name in sorted(set(names) - expected))
    yield from (f"{name} is there twice" for name in sorted({name for name in names if names.count(name) > 1}))
    with scratch_folder() as folder:
        for name, content in entries:
            if name not in expected:
                continue
            path = Path(folder) / name
            path.write_bytes(content)
            yield from _raster_faults(path)
            path.unlink()


def entries_of(archive: Path) -> Iterator[tuple[str, bytes]]:
    """(name, content) of everything in a tar or zip archive, in its order."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as packed:
            for info in packed.infolist():
                yield info.filename, packed.read(info)
        return
    with tarfile.open(archive) as packed_tar:
        for entry in packed_tar:
            file = packed_tar.extractfile(entry)
            yield entry.name, b"" if file is None else file.read()


def _raster_faults(path: Path) -> Iterator[str]:
    """What is wrong with one raster of an archive."""
    try:
        with RasterReader(path) as reader:
            info = reader.info
            values = np.unique(reader.image())
    except RasterError as error:
        yield str(error)
        return
    height, width = info.grid.shape
    if (height, width, len(info.bands)) != (SIDE, SIDE, 1):
        yield f"{path.name} is {height} x {width} px of {len(info.bands)} bands, not {SIDE} x {SIDE} px of one"
    if info.dtype not in ("int8", "uint8"):
        yield f"{path.name} is of {info.dtype} instead of int8"
    if not np.isin(values, (0, 1)).all():
        yield f"{path.name} holds {listing(f'{value:g}' for value in values)}, not 0 and 1 alone"
