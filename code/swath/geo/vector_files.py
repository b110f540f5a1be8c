"""Whether a vector file is what its suffix says, and whole; looked at before GDAL, which takes what it gets.

GDAL finds a file's driver by its content, so text of a virtual layer in a file named .geojson would open any file or
address; and of a shapefile that was cut it gives the features before the cut, without an error. Layouts: ESRI's
"Shapefile Technical Description" (1998) and the dBASE III header.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from swath.errors import VectorError

DRIVERS = {".shp": "ESRI Shapefile", ".gpkg": "GPKG", ".fgb": "FlatGeobuf", ".geojson": "GeoJSON"}
VECTOR_SUFFIXES = tuple(DRIVERS)
"""Where labels are looked for, in any letter case; not in GeoParquet, which tables of scenes and tiles are, too."""
PARQUET = ".parquet"
FORMATS = (*DRIVERS, PARQUET)

_BEGINNINGS = {
    ".shp": b"\x00\x00\x27\x0a",
    ".gpkg": b"SQLite format 3\x00",
    ".fgb": b"fgb\x03fgb",
    PARQUET: b"PAR1",
}
_HEADER = 100
"""Bytes of the header of .shp and .shx."""
_COPY = "Copy or download it again, with all its parts, or take it out of the folder."


def require_readable_vectors(path: Path) -> None:
    """Raise VectorError for a file that is missing, of another kind than its suffix says, or cut short."""
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise VectorError(f"{path}: unknown vector format {path.suffix!r}. Known: {', '.join(FORMATS)}.")
    if not path.is_file():
        raise VectorError(f"{path}: no such file")
    with path.open("rb") as file:
        beginning = file.read(4096)
    if suffix == ".geojson":
        fits = beginning.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{")
    else:
        fits = beginning.startswith(_BEGINNINGS[suffix])
    if not fits:
        raise VectorError(f"{path}: does not begin like a {suffix} file ({path.stat().st_size} bytes). {_COPY}")
    if suffix == ".shp":
        require_whole_shapefile(path)


def require_whole_shapefile(path: Path) -> None:
    """Raise VectorError when .shp, .shx and .dbf are not all there, whole, and of one number of features."""
    size = path.stat().st_size
    said = 2 * _number(path, 24, ">i")
    if size < said or size < _HEADER:
        raise VectorError(f"{path}: has {size} bytes, its header says {said}: it was cut short. {_COPY}")
    index = _records_of_index(path)
    table = _side_file(path, ".dbf")
    count, header, width = (_number(table, at, kind) for at, kind in ((4, "<I"), (8, "<H"), (10, "<H")))
    due = header + count * width
    if table.stat().st_size < due:
        raise VectorError(
            f"{table}: has {table.stat().st_size} bytes, {count} records need {due}: it was cut short. {_COPY}"
        )
    if count != index:
        raise VectorError(f"{table}: holds {count} records, {path.name} has {index} shapes. {_COPY}")


def _records_of_index(path: Path) -> int:
    """How many shapes the .shx lists, each of which lies in the .shp."""
    index = _side_file(path, ".shx")
    size, said = index.stat().st_size, 2 * _number(index, 24, ">i")
    if size < said or size < _HEADER:
        raise VectorError(f"{index}: has {size} bytes, its header says {said}: it was cut short. {_COPY}")
    records = np.fromfile(index, ">i4", offset=_HEADER, count=2 * ((said - _HEADER) // 8)).reshape(-1, 2)
    ends = 2 * (records[:, 0].astype(np.int64) + records[:, 1]) + 8
    bad = (records < 0).any(axis=1) | (ends > path.stat().st_size)
    if bad.any():
        raise VectorError(f"{path}: shape {int(bad.argmax())} is listed beyond the end of the file. {_COPY}")
    return len(records)


def _side_file(path: Path, suffix: str) -> Path:
    """The part of a shapefile with a suffix of any letter case. Raises VectorError when there is none."""
    for part in path.parent.iterdir():
        if part.stem == path.stem and part.suffix.lower() == suffix:
            return part
    raise VectorError(f"{path}: {path.stem}{suffix} is missing beside it. {_COPY}")


def _number(path: Path, at: int, kind: str) -> int:
    """A number of a file's header. Raises VectorError when the file ends before it."""
    with path.open("rb") as file:
        file.seek(at)
        field = file.read(struct.calcsize(kind))
    if len(field) < struct.calcsize(kind):
        raise VectorError(f"{path}: has {path.stat().st_size} bytes, less than its header. {_COPY}")
    return int(struct.unpack(kind, field)[0])
