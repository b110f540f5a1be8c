"""The files of the Kelp Wanted challenge: what tiles are called, what their bands hold, and in which folders they lie."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from swath.data.naming import listing
from swath.errors import CatalogError, reason
from swath.geo.raster import find_rasters
from swath.notices import leave_out

BANDS = ("SWIR", "NIR", "R", "G", "B", "QA", "DEM")
"""Bands of a tile: five of Landsat as digital numbers, QA (1 = cloud or corrupted), and elevation in metres."""
OPTICAL = BANDS[:5]
SIDE = 350
"""Height and width of a tile in pixels of 30 m."""
MISSING = -32768
"""Value of a pixel without a measurement, in any band."""
SATURATED = 65535
"""Largest digital number; a pixel that holds it was too bright to be measured."""

IMAGE, LABELS = "satellite", "kelp"
"""The two kinds of files, as names of files and the column `type` of the metadata have them."""
TRAIN, TEST = "train", "test"
FOLDERS = {
    (TRAIN, IMAGE): ("train/images", "train_satellite"),
    (TRAIN, LABELS): ("train/masks", "train_kelp"),
    (TEST, IMAGE): ("test/images", "test_satellite"),
}
"""Side and kind of a file to the folders that may hold it: as users sort them, and as the archives unpack."""
METADATA = "metadata*.csv"
COLUMNS = ("tile_id", "filename", "type", "in_train")

_NAME = re.compile(r"([A-Z]{2}\d{6})_(satellite|kelp)")

Files = dict[str, Path]
"""Tile id to file."""


def file_name(tile: str, kind: str) -> str:
    """``AA498489_satellite.tif``, ``AA498489_kelp.tif``."""
    return f"{tile}_{kind}.tif"


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """The files that a folder of the challenge holds, by side and kind, and the table that lists them, if any."""

    folder: Path
    files: Mapping[tuple[str, str], Files]
    metadata: Path | None

    def sides(self) -> dict[str, str]:
        """Tile id to its side, train or test. Raises CatalogError for a tile that is on both."""
        both = sorted(set(self.files[TRAIN, IMAGE]) & set(self.files[TEST, IMAGE]))
        if both:
            raise CatalogError(
                f"{self.folder}: {listing(both)} among the training and the test tiles. Keep one file of each, in the "
                "folder of its side."
            )
        return {tile: side for side in (TRAIN, TEST) for tile in self.files[side, IMAGE]}


# ---------------------------------------------------------------------------------------------------------------- find


def find_delivery(folder: Path) -> Delivery:
    """The files below `folder` in either layout (`FOLDERS`), or a mixture of both.

    Raises CatalogError when there is no image, when two folders hold files of one kind, or when an id stands twice.
    """
    files = {kind: _files_of(folder, kind) for kind in FOLDERS}
    if not files[TRAIN, IMAGE] and not files[TEST, IMAGE]:
        known = ", ".join(name for (_, kind), names in FOLDERS.items() if kind == IMAGE for name in names)
        raise CatalogError(
            f"{folder}: no tile found. Set input_path to the folder that holds one of {known}, with files such as "
            f"{file_name('AA498489', IMAGE)}."
        )
    tables = sorted(folder.glob(METADATA))
    if len(tables) > 1:
        raise CatalogError(f"{folder}: {listing(path.name for path in tables)} are all metadata. Keep one of them.")
    return Delivery(folder=folder, files=files, metadata=tables[0] if tables else None)


def _files_of(folder: Path, key: tuple[str, str]) -> Files:
    """The files of one side and kind."""
    names = [name for name in FOLDERS[key] if (folder / name).is_dir()]
    found = {name: tiles for name in names if (tiles := tiles_in(folder / name, key[1]))}
    if len(found) > 1:
        raise CatalogError(f"{folder}: {' and '.join(found)} both hold {key[1]} files. Keep the files of one of them.")
    return next(iter(found.values()), {})


def tiles_in(folder: Path, kind: str) -> Files:
    """Files ``<tile_id>_<kind>.tif`` below a folder by tile id; others are left out and said.

    Raises CatalogError when two files have one id.
    """
    found: Files = {}
    others = []
    for path in find_rasters(folder):
        name = _NAME.fullmatch(path.stem)
        if name is None or name[2] != kind:
            others.append(path.name)
        elif name[1] in found:
            raise CatalogError(f"{path} and {found[name[1]]} are both {name[1]}. Keep one of them in {folder}.")
        else:
            found[name[1]] = path
    why = f"their names are not two letters, six digits and _{kind}.tif ({listing(others)})"
    leave_out(len(others), "rasters", folder, why)
    return found


# --------------------------------------------------------------------------------------------------------------- check


def read_metadata(path: Path) -> pd.DataFrame:
    """The table with a row per file, `COLUMNS` as texts but `in_train` as bool.

    Raises CatalogError, which names row and value, for a table that is damaged, or lists a file twice.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise CatalogError(f"{path}: cannot be read as a table ({reason(error)}). Download it again.") from error
    missing = [column for column in COLUMNS if column not in table]
    if missing:
        raise CatalogError(f"{path}: lacks the columns {', '.join(missing)}. It has {', '.join(table.columns)}.")
    table = table[list(COLUMNS)]
    _require_known(table, "type", {IMAGE, LABELS}, path)
    table["in_train"] = table["in_train"].str.lower()
    _require_known(table, "in_train", {"true", "false"}, path)
    twice = table["filename"][table.duplicated(["tile_id", "type"])]
    if len(twice):
        raise CatalogError(f"{path}: lists {listing(twice)} twice. Keep one row of each.")
    table["in_train"] = table["in_train"] == "true"
    return table


def _require_known(table: pd.DataFrame, column: str, known: set[str], path: Path) -> None:
    wrong = table[~table[column].isin(known)]
    if len(wrong):
        row = wrong.iloc[0]
        raise CatalogError(
            f"{path}: row {wrong.index[0] + 2}, {row['filename']}: {column} is {row[column]!r}, and may be "
            f"{' or '.join(sorted(known))}. Correct the table."
        )


def differences(delivery: Delivery, table: pd.DataFrame | None) -> dict[str, list[str]]:
    """What does not fit together, in words that go before a list of tile ids: twins and rows that are not there."""
    train, labels = delivery.files[TRAIN, IMAGE], delivery.files[TRAIN, LABELS]
    found = {
        f"have a {IMAGE} file and no {LABELS} file": sorted(set(train) - set(labels)),
        f"have a {LABELS} file and no {IMAGE} file": sorted(set(labels) - set(train)),
    }
    if table is None:
        return found
    for (side, kind), files in delivery.files.items():
        rows = table[(table["type"] == kind) & (table["in_train"] == (side == TRAIN))]
        what = f"{side} {kind}"
        found[f"have a row in {_name(delivery)} and no {what} file"] = sorted(set(rows["tile_id"]) - set(files))
        found[f"have a {what} file and no row in {_name(delivery)}"] = sorted(set(files) - set(rows["tile_id"]))
    return found


def _name(delivery: Delivery) -> str:
    return delivery.metadata.name if delivery.metadata else "the metadata"


def require_whole(delivery: Delivery, table: pd.DataFrame | None, may_lack: bool) -> Sequence[str]:
    """The tile ids that have all of their files and rows, sorted.

    Raises CatalogError that names the others, or, with `may_lack`, leaves them out and says so.
    """
    found = {what: tiles for what, tiles in differences(delivery, table).items() if tiles}
    if found and not may_lack:
        parts = "; ".join(f"{len(tiles)} tiles {what}: {listing(tiles)}" for what, tiles in found.items())
        raise CatalogError(
            f"{delivery.folder}: {parts}. Add the files or correct the table, or go on without these tiles: "
            "-P incomplete=leave_out"
        )
    for what, tiles in found.items():
        leave_out(len(tiles), "tiles", delivery.folder, f"they {what} ({listing(tiles)})")
    lacking = {tile for tiles in found.values() for tile in tiles}
    return sorted(set(delivery.sides()) - lacking)
