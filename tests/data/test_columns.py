"""Tables: what the steps write passes, and a value that its column cannot hold is named with file, column, row and key."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely

from swath.data.columns import require_values_of_columns
from swath.data.pairing import by_key
from swath.data.samples.tile_tables import read_tiles
from swath.data.tables import TILE_COLUMNS, TILES, read_scenes, read_table
from swath.errors import CatalogError


def table(**columns: Any) -> gpd.GeoDataFrame:
    """Three tiles, with these columns in place of right ones."""
    right: dict[str, Any] = {
        "key": ["a", "b", "c"], "scene": ["s"] * 3, "area": ["north"] * 3, "image": ["a.tif", "b.tif", "c.tif"],
        "mask": ["a.tif", None, "c.tif"], "row": [0, 8, 16], "col": [0] * 3, "height": [8] * 3, "width": [8] * 3,
    }  # fmt: skip
    return gpd.GeoDataFrame(right | columns, geometry=[shapely.box(i, 0, i + 1, 1) for i in range(3)])


def read(path: Path, frame: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """The table as read back from a file."""
    frame.to_parquet(path)
    return read_table(path, TILE_COLUMNS, "generate_tiles")


def test_c129_a_table_without_a_fault_is_read(tmp_path: Path) -> None:
    assert len(read(tmp_path / TILES, table())) == 3
    joined = table(at_row=[0.0, np.nan, 8.0], missing=[[0.0], None, []], bands=[["vv"], None, ["vv"]])
    assert len(read(tmp_path / TILES, joined)) == 3


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        ("key", ["a", None, "c"], "nothing, not a text that is not empty"),
        ("key", [1, 2, 3], "1, not"),
        ("scene", ["s", "", "s"], "'', not"),
        ("area", ["north", None, "north"], "nothing, not a text"),
        ("image", ["a.tif", "b\0.tif", "c.tif"], ", not a text"),
        ("mask", ["a.tif", "b\0.tif", None], ", not a text, or nothing"),
        ("labels", ["a.tif", "b\0.tif", None], ", not a text, or nothing"),
        ("mask", [1.5, 2.5, 3.5], "1.5, not a text, or nothing"),
        ("row", ["0", "8", "16"], "'0', not a whole number of pixels"),
        ("row", [0, np.nan, 16], "nothing, not"),
        ("col", [0, np.inf, 0], "inf, not"),
        ("col", [0, 0.5, 0], "0.5, not"),
        ("height", [8, -8, 8], "-8, not a whole number from 1 to 2147483647"),
        ("height", [8, 0, 8], "0, not"),
        ("width", [8, 2**40, 8], f"{2**40}, not"),
        ("width", [True, True, True], "True, not"),
        ("at_row", [0, 0.5, 0], "0.5, not a whole number of pixels, or nothing"),
        ("core_height", [8, -1, 8], "-1, not"),
        ("scene_transform", [[1.0, 0, 0, 0, -1.0, 0]] * 2 + [[0.0] * 6], ", not six finite numbers"),
        ("scene_transform", [[1.0, 0, 0]] * 3, ", not six finite numbers"),
        ("bands", ["vv", "vv", "vv"], "'vv', not a list of names, or nothing"),
        ("missing", [["x"], None, None], ", not a list of numbers, or nothing"),
        ("zones", [[0, 1, -2], None, None], ", not a list of numbers of 0 or more"),
        ("classes_water", [[1, 2], [-1], None], ", not a list of numbers of 0 or more"),
    ],
)  # fmt: skip
def test_c129_a_value_that_a_column_cannot_hold_is_named(
    tmp_path: Path, column: str, values: list[Any], said: str
) -> None:
    path = tmp_path / TILES
    with pytest.raises(CatalogError) as error:
        read(path, table(**{column: values}))
    for word in (f"{path}: column `{column}`, row ", said, "Correct it, or delete the table and run `generate_tiles`"):
        assert word in str(error.value)


@pytest.mark.parametrize("column", TILE_COLUMNS)
def test_c129_a_missing_column_is_named(tmp_path: Path, column: str) -> None:
    path = tmp_path / TILES
    table().drop(columns=column).to_parquet(path)
    with pytest.raises(CatalogError, match=rf"tiles\.parquet: lacks the columns {column}\. Run `generate_tiles` again"):
        read_table(path, TILE_COLUMNS, "generate_tiles")


def test_c129_a_tile_that_stands_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match=r"tiles\.parquet: several tiles are called a\. Run `generate_tiles` again"):
        read(tmp_path / TILES, table(key=["a", "b", "a"]))


def test_c129_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    frame = pd.concat([table(), table()[["row"]]], axis=1)
    with pytest.raises(CatalogError, match="several columns called 'row'"):
        require_values_of_columns(frame, tmp_path / TILES, "Correct it.")


@pytest.mark.parametrize("damage", ["no geometry", "no metadata", "metadata of another kind", "unknown CRS", "no WKB"])
def test_c129_what_is_no_geoparquet_is_refused(tmp_path: Path, damage: str) -> None:
    from pyarrow import parquet

    path = tmp_path / TILES
    table().to_parquet(path)
    read = parquet.read_table(path)
    if damage == "no geometry":
        pd.DataFrame(table().drop(columns="geometry")).to_parquet(path)
    elif damage == "no WKB":
        wrong = read.set_column(read.column_names.index("geometry"), "geometry", [[b"abc", b"", b"\x01\x03"]])
        parquet.write_table(wrong.replace_schema_metadata(read.schema.metadata), path)
    else:
        new = {"no metadata": b"", "metadata of another kind": b"[1]", "unknown CRS": b'{"primary_column": "geometry", '
               b'"version": "1.0.0", "columns": {"geometry": {"encoding": "WKB", "crs": "EPSG:0"}}}'}[damage]  # fmt: skip
        parquet.write_table(read.replace_schema_metadata({b"geo": new}), path)
    with pytest.raises(
        CatalogError, match=r"tiles\.parquet: cannot be read as a table \(\w+.*Delete it and run `generate"
    ):
        read_table(path, TILE_COLUMNS, "generate_tiles")


def test_c129_tables_beside_rasters_that_are_damaged_are_named(tmp_path: Path) -> None:
    path = tmp_path / TILES
    path.write_bytes(b"PAR1 no table PAR1")
    with pytest.raises(CatalogError, match=r"tiles\.parquet: cannot be read as a table"):
        by_key(tmp_path)
    pd.DataFrame({"image": ["a.tif"]}).to_parquet(path)
    with pytest.raises(CatalogError, match=r"tiles\.parquet: lacks the column key"):
        by_key(tmp_path)
    pd.DataFrame({"key": ["a"], "image": [7]}).to_parquet(path)
    with pytest.raises(CatalogError, match=r"tiles\.parquet: column `image`, row 0 at key 'a': holds 7, not"):
        by_key(tmp_path)


def test_c129_what_the_steps_write_passes(tiles: Path, tmp_path: Path) -> None:
    assert len(read_tiles(tiles))
    assert len(read_scenes(tiles.parent / "scenes"))
    shutil.copy(tiles / "tile_stats.parquet", tmp_path / "tile_stats.parquet")
    frame = gpd.read_parquet(tmp_path / "tile_stats.parquet")
    frame.assign(skip="no").to_parquet(tmp_path / "tile_stats.parquet")
    with pytest.raises(CatalogError, match=r"tile_stats\.parquet: column `skip`.*holds 'no', not true or false"):
        read_tiles(tmp_path)
