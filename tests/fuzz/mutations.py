"""How an honest file is damaged: seeded, by the kind of file; each function returns what it did, in words."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd

Rng = np.random.Generator

HUGE = (2**31 - 1, 2**31, 2**32 - 1, 10**9)
"""Counts that bombs claim: pixels along a side, vertices, records."""

ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, -5, 1, 7, 2**31, 2**63, 10**30, 0.5, -0.5, 1e308, float("nan"), float("inf"), float("-inf"),
    "", "x", "0", "nan", "../../evil", "/etc/passwd", "~", "a\0b", "\ud800", "é" * 300, [], [None], [[]], [1, 2, 3], ["a"],
    {}, {"a": 1}, {"_target_": "os:getcwd"}, {"_target_": 5}, {"_target_": "no.such:Thing"},
)  # fmt: skip
"""Values that no field expects, and values of other fields."""

ODD_TEXTS = (
    "", " ", "None", "null", "True", "-1", "0", "1", "0.5", "nan", "inf", "-inf", "1e400", "1e-400", "9" * 5000, "2147483648", "x",
    "a,b", ",", ";", "[", "[" * 20_000, "{", "{}", "[]", "[1,2", '"', "'", "1,2,3", '{"a": 1}', '{"_target_": "os:getcwd"}',
    "os:system", "no.such:Thing", "builtins:dict", "builtins:exit", "this:d", ":", "a:b:c", "../../evil", "/dev/null",
    "/proc/self/mem", "~nobody_there/x", "x" * 300, "x" * 5000, "é\u202e", "\ud800", "%s%n", "$(touch x)", "{0}", "*", "**",
    "runs:/", "runs:/x", "models:/x", "models:/", "file:///etc/passwd", "http://127.0.0.1:9/x", "dask://127.0.0.1:9", "-", "--x",
)  # fmt: skip
"""Texts for a field on a command line. Folders that hold all of a machine are not among them: steps would look into them."""

ODD_CONFIGS = (
    "configs", "configs/demo", "MLproject", "README.md", "no_such.py", "configs/demo/no_such.py", "configs/demo/training",
    "/dev/null", "/etc/passwd", "../x.py", "~nobody_there/x.py", ".", "x" * 300 + ".py", "\ud800.py", "configs/demo/training.py/x",
    "code/swath/files.py", "code/training.py", "tests/conftest.py", "", " ", "[1]", "runs:/x", "configs/unosat/training.py",
)  # fmt: skip
"""Paths in the place of a config file's."""


def mutate(path: Path, rng: Rng) -> str:
    """Damage a file in one of the ways of its kind."""
    own = BY_SUFFIX.get(path.suffix, ())
    ways = [*BYTES, *own, *own]  # half of the ways, or more, know the format
    way = ways[int(rng.integers(len(ways)))]
    return f"{way.__name__.strip('_')}: {way(path, rng)}"


# --------------------------------------------------------------------------------------------------------------- bytes


def _flip(path: Path, rng: Rng) -> str:
    data = bytearray(path.read_bytes())
    head = len(data) if rng.random() < 0.5 else min(len(data), 512)
    count = int(rng.integers(1, 9))
    places = [int(place) for place in rng.integers(0, max(1, head), count)]
    for place in places if data else ():
        data[place] ^= 1 << int(rng.integers(8))
    path.write_bytes(data)
    return f"bits at {places}"


def cut(path: Path, rng: Rng) -> str:
    """Drop the end, as a broken download does."""
    data = path.read_bytes()
    keep = int(rng.integers(0, max(1, len(data))))
    path.write_bytes(data[:keep])
    return f"{keep} of {len(data)} bytes left"


def _zeros(path: Path, rng: Rng) -> str:
    data = bytearray(path.read_bytes())
    start = int(rng.integers(0, max(1, len(data))))
    length = int(rng.integers(1, 600))
    end = min(len(data), start + length)
    data[start:end] = bytes(end - start)
    path.write_bytes(data)
    return f"bytes {start} to {end}"


def _noise(path: Path, rng: Rng) -> str:
    data = bytearray(path.read_bytes())
    start = int(rng.integers(0, max(1, len(data))))
    length = int(rng.integers(1, 200))
    data[start : start + length] = rng.bytes(length)
    path.write_bytes(data)
    return f"bytes {start} to {start + length}"


def _splice(path: Path, rng: Rng) -> str:
    """Take a run of bytes out, or put one in twice."""
    data = path.read_bytes()
    start = int(rng.integers(0, max(1, len(data))))
    end = start + int(rng.integers(1, 200))
    twice = rng.random() < 0.5
    path.write_bytes(data[:end] + data[start:] if twice else data[:start] + data[end:])
    return f"bytes {start} to {end} {'twice' if twice else 'out'}"


def _huge(path: Path, rng: Rng) -> str:
    """A number of four bytes in the header claims billions."""
    data = bytearray(path.read_bytes())
    if len(data) < 8:
        return "too short"
    place = int(rng.integers(0, min(len(data) - 4, 400)))
    order = "<I" if rng.random() < 0.5 else ">I"
    number = HUGE[int(rng.integers(len(HUGE)))]
    struct.pack_into(order, data, place, number)
    path.write_bytes(data)
    return f"{number} at {place}"


def _replaced(path: Path, rng: Rng) -> str:
    kinds = {
        "nothing": b"", "text": b"not what it is called\n", "zip": b"PK\x03\x04" + bytes(60), "tiff": b"II*\0\x08\0\0\0",
        "noise": rng.bytes(500), "json": b"{}", "deep": b"[" * 50_000, "zeros": bytes(5000), "html": b"<!doctype html><html>",
        "vrt": b'<VRTDataset rasterXSize="9" rasterYSize="9"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
               b"<SourceFilename>/etc/passwd</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>",
    }  # fmt: skip
    name = list(kinds)[int(rng.integers(len(kinds)))]
    path.write_bytes(kinds[name])
    return name


BYTES: tuple[Callable[[Path, Rng], str], ...] = (_flip, cut, _zeros, _noise, _splice, _huge, _replaced)


# ------------------------------------------------------------------------------------------------------------- GeoTIFF

TAGS = {
    256: "width", 257: "height", 258: "bits", 259: "compression", 273: "strip offsets", 277: "bands", 278: "rows per strip",
    279: "strip sizes", 284: "planes", 322: "tile width", 323: "tile height", 324: "tile offsets", 325: "tile sizes",
    339: "sample format", 33550: "pixel scale", 33922: "tie point", 34264: "transform", 34735: "geo keys", 42112: "metadata",
    42113: "nodata",
}  # fmt: skip


def _tag(path: Path, rng: Rng) -> str:
    """Change an entry of the first directory: its value, its count or its type."""
    data = bytearray(path.read_bytes())
    if data[:4] != b"II*\0":
        return _huge(path, rng)
    (start,) = struct.unpack_from("<I", data, 4)
    if start + 2 > len(data):
        return _huge(path, rng)
    (count,) = struct.unpack_from("<H", data, start)
    places = [start + 2 + 12 * i for i in range(count) if start + 14 + 12 * i <= len(data)]
    place = places[int(rng.integers(len(places)))]
    (tag,) = struct.unpack_from("<H", data, place)
    what = int(rng.integers(3))
    number = (*HUGE, 0, 1, 65535)[int(rng.integers(len(HUGE) + 3))]
    if what == 0:
        struct.pack_into("<I", data, place + 8, number)
    elif what == 1:
        struct.pack_into("<I", data, place + 4, number)
    else:
        struct.pack_into("<H", data, place + 2, int(rng.integers(0, 20)))
    path.write_bytes(data)
    return f"{('value', 'count', 'type')[what]} of {TAGS.get(tag, tag)} ({number})"


def _transform(path: Path, rng: Rng) -> str:
    """Pixels without an area, infinite ones, or a place that is none."""
    data = bytearray(path.read_bytes())
    value = (0.0, float("nan"), float("inf"), 1e308, -1e-300)[int(rng.integers(5))]
    doubles = [place for place in range(0, len(data) - 8, 2) if _looks_like_pixel(data, place)]
    if not doubles:
        return _tag(path, rng)
    place = doubles[int(rng.integers(len(doubles)))]
    struct.pack_into("<d", data, place, value)
    path.write_bytes(data)
    return f"{value} at {place}"


def _looks_like_pixel(data: bytearray, place: int) -> bool:
    return struct.unpack_from("<d", data, place)[0] in (10.0, 400_000.0, 3_700_000.0)


# ------------------------------------------------------------------------------------------------------------- vectors


def _shapefile(path: Path, rng: Rng) -> str:
    """Change the header, or a record's header, type, number of parts or of points."""
    data = bytearray(path.read_bytes())
    fields = {
        "code": 0,
        "length": 24,
        "version": 28,
        "type": 32,
        "record": 104,
        "kind": 108,
        "parts": 144,
        "points": 148,
    }
    name = list(fields)[int(rng.integers(len(fields)))]
    number = (*HUGE, 0, 1, 3, 5)[int(rng.integers(len(HUGE) + 4))]
    order = ">i" if name in ("code", "length", "record") else "<i"
    if fields[name] + 4 > len(data):
        return "too short"
    struct.pack_into(order, data, fields[name], number if number < 2**31 else number - 2**32)
    path.write_bytes(data)
    return f"{name} = {number}"


def _geojson(path: Path, rng: Rng) -> str:
    """Put another number, or something else, in the place of a coordinate."""
    text = path.read_text()
    numbers = list(re.finditer(r"-?\d+\.\d+", text))
    odd = ("1e308", "-1e308", "NaN", "Infinity", "null", '"x"', "[]", "[1, 2]", "1e999", "{}")
    one = numbers[int(rng.integers(len(numbers)))]
    value = odd[int(rng.integers(len(odd)))]
    path.write_text(text[: one.start()] + value + text[one.end() :])
    return f"{value} for {one[0]}"


def _double(path: Path, rng: Rng) -> str:
    """Put a coordinate of another world in the place of one."""
    data = bytearray(path.read_bytes())
    near = [p for p in range(0, len(data) - 8) if 3e5 < struct.unpack_from("<d", data, p)[0] < 4e6]
    if not near:
        return "no coordinate"
    place = near[int(rng.integers(len(near)))]
    value = (float("nan"), float("inf"), 1e308, -1e308, 0.0)[int(rng.integers(5))]
    struct.pack_into("<d", data, place, value)
    path.write_bytes(data)
    return f"{value} at {place}"


# ---------------------------------------------------------------------------------------------------------------- JSON


def _json(path: Path, rng: Rng) -> str:
    """Change a value, drop it, or call it something else."""
    value = json.loads(path.read_text())
    changed, said = changed_value(value, rng)
    path.write_text(json.dumps(changed, indent=2))
    return said


def _json_line(path: Path, rng: Rng) -> str:
    lines = path.read_text().splitlines()
    number = int(rng.integers(len(lines)))
    changed, said = changed_value(json.loads(lines[number]), rng)
    lines[number] = json.dumps(changed)
    path.write_text("\n".join(lines) + "\n")
    return said


def changed_value(value: Any, rng: Rng) -> tuple[Any, str]:
    """A JSON value with one of its parts changed, and which."""
    places = list(_places(value))
    holder, key, name = places[int(rng.integers(len(places)))]
    odd = ODD[int(rng.integers(len(ODD)))]
    what = int(rng.integers(4))
    if holder is None:
        return odd, f"all is {odd!r:.40}"
    if what == 0:
        del holder[key]
        return value, f"{name} is gone"
    if what == 1 and isinstance(holder, dict):
        holder[f"{key}_"] = holder.pop(key)
        return value, f"{name} has another name"
    holder[key] = odd
    return value, f"{name} is {odd!r:.40}"


def _places(value: Any, name: str = "") -> Iterator[tuple[Any, Any, str]]:
    if not name:
        yield None, None, ""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in inside:
        full = f"{name}.{key}"
        yield value, key, full
        yield from _places(child, full)


# -------------------------------------------------------------------------------------------------------------- tables


def _table(path: Path, rng: Rng) -> str:
    """Change a column: odd values in one row or in all, another type, another name, gone; or no rows, or rows twice."""
    frame = gpd.read_parquet(path)
    columns = list(frame.columns)
    column = columns[int(rng.integers(len(columns)))]
    what = int(rng.integers(7))
    said = f"`{column}`"
    if what == 0:
        frame, said = pd.DataFrame(frame.drop(columns=column)), f"{said} is gone"
    elif what == 1:
        frame, said = pd.DataFrame(frame.rename(columns={column: f"{column}_"})), f"{said} has another name"
    elif what == 2:
        frame, said = frame.iloc[:0], "no rows"
    elif what == 3:
        frame, said = pd.concat([frame, frame.iloc[:1]]), "a row twice"
    else:
        odd = ODD[int(rng.integers(len(ODD)))]
        rows = range(len(frame)) if what == 4 else [int(rng.integers(len(frame)))]
        values = list(frame[column])
        for row in rows:
            values[row] = odd
        frame = pd.DataFrame(frame)
        frame[column] = pd.Series(values, index=frame.index, dtype=object)
        said = f"{said} is {odd!r:.40} in {len(rows)} rows"
    return said if _written(frame, path) else f"{said}, which Parquet cannot hold: as texts"


def _written(frame: Any, path: Path) -> bool:
    try:
        _write(frame, path)
    except Exception:  # noqa: BLE001 - values of mixed types, surrogates, numbers too large
        texts = {
            c: [None if v is None else repr(v) for v in frame[c]] for c in frame.columns if frame[c].dtype == object
        }
        _write(frame.assign(**{c: v for c, v in texts.items() if c != "geometry"}), path)
        return False
    return True


def _write(frame: Any, path: Path) -> None:
    """With the metadata of a GeoParquet file, whatever the columns are."""
    from pyarrow import Table, parquet
    from shapely.geometry.base import BaseGeometry

    old = parquet.read_schema(path).metadata
    plain = pd.DataFrame(frame)
    if "geometry" in plain:
        shapes = [g.wkb if isinstance(g, BaseGeometry) else g for g in plain["geometry"]]
        plain["geometry"] = [g if g is None or isinstance(g, bytes) else ascii(g).encode() for g in shapes]
    table = Table.from_pandas(plain, preserve_index=False)
    parquet.write_table(table.replace_schema_metadata(old | (table.schema.metadata or {})), path)


# ------------------------------------------------------------------------------------------------------------- configs

STATEMENTS = (
    "raise KeyError('x')", "1 / 0", "import sys; sys.exit(3)", "import no_such_module", "config = None", "config = 5",
    "config = TilesConfig", "def f(): return f()\nf()", "import runpy; runpy.run_path(__file__)", "open('no_such_file')",
    "from configs.no_such import config", "x = [", "raise Exception", "assert False", "'\\ud800'.encode()", "\x00", "é = é",
    "raise RecursionError", "raise StopIteration", "class config: pass", "del config", "config.no_such", "return", "yield 1",
    "await x", "\tx = 1", "int('9' * 5000)", "raise MemoryError", "config = config()", "config = (config,)",
)  # fmt: skip
LITERALS = (
    "None", "-1", "0", "'x'", "''", "[]", "{}", "1e999", "float('nan')", "10**30", "object()", "lambda: 1", "...", "True", "b'x'",
    "'a\\0b'", "'x' * 300", "(1,)", "int", "print", "-1.5", "1j",
)  # fmt: skip


def _python(path: Path, rng: Rng) -> str:
    """Put a statement in, take a line out, or put another literal in the place of one."""
    lines = path.read_text().splitlines()
    number = int(rng.integers(4, len(lines) + 1))
    what = int(rng.integers(3))
    if what == 0:
        statement = STATEMENTS[int(rng.integers(len(STATEMENTS)))]
        lines.append(statement) if rng.random() < 0.5 else lines.insert(number, statement)
        said = f"{statement!r:.40} at line {number + 1}"
    elif what == 1:
        said = f"without {lines.pop(min(number, len(lines) - 1))!r:.40}"
    else:
        text = "\n".join(lines)
        found = list(re.finditer(r"(?<==)(\"[^\"]*\"|'[^']*'|-?\d+(\.\d+)?|\(-9999.0,\)|SIZE)", text))
        one = found[int(rng.integers(len(found)))]
        literal = LITERALS[int(rng.integers(len(LITERALS)))]
        lines = (text[: one.start()] + literal + text[one.end() :]).splitlines()
        said = f"{literal} for {one[0][:40]}"
    path.write_text("\n".join(lines) + "\n")
    return said


# ------------------------------------------------------------------------------------------------------------- weights


def _safetensors(path: Path, rng: Rng) -> str:
    """Change the header of a file of weights: shapes, types, places, names, its length."""
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    changed, said = changed_value(header, rng)
    text = json.dumps(changed).encode()
    claimed = 2**62 if rng.random() < 0.1 else len(text)
    path.write_bytes(struct.pack("<Q", claimed) + text + data[8 + length :])
    return f"{said}, header of {claimed} bytes"


BY_SUFFIX: dict[str, tuple[Callable[[Path, Rng], str], ...]] = {
    ".tif": (_tag, _tag, _tag, _tag, _transform),
    ".shp": (_shapefile, _shapefile, _double),
    ".fgb": (_double,),
    ".gpkg": (_double,),
    ".geojson": (_geojson, _geojson),
    ".json": (_json, _json, _json, _json, _json),
    ".jsonl": (_json_line, _json_line, _json_line),
    ".parquet": (_table, _table, _table, _table, _table, _table, _table),
    ".py": (_python, _python, _python, _python, _python, _python),
    ".safetensors": (_safetensors, _safetensors, _safetensors, _safetensors),
}
"""Ways that know a format, each as often as it stands here."""
