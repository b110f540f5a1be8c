"""A table comes from elsewhere: its names stay inside of output folders, and its files are files of this machine."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from swath.data.tables import (
    SCENES,
    TILE_COLUMNS,
    TILES,
    read_scenes,
    read_table,
    require_files,
    scene_row,
    write_table,
)
from swath.errors import CatalogError
from tests.synthetic import write_scenes

EVIL = ("../../evil", "/tmp/evil", "..")


@pytest.fixture
def scenes(tmp_path: Path) -> list[dict[str, object]]:
    """Rows of a table of two scenes."""
    return [scene_row(path, tmp_path / "scenes") for path in write_scenes(tmp_path / "scenes", 2, (16, 16))]


def tile(row: dict[str, object]) -> dict[str, object]:
    return row | {"scene": row["key"], "mask": None, "row": 0, "col": 0}


@pytest.mark.parametrize(("column", "name"), [*product(("key", "area"), EVIL), ("area", "")])  # no key: test_columns.py
def test_c130_scenes_whose_names_lead_elsewhere_are_refused(
    tmp_path: Path, scenes: list[dict[str, object]], column: str, name: str
) -> None:
    write_table(tmp_path / "scenes" / SCENES, [scenes[0], scenes[1] | {column: name}])
    with pytest.raises(CatalogError, match=rf"scenes\.parquet: column {column}: '{name}' is no name of"):
        read_scenes(tmp_path / "scenes")


@pytest.mark.parametrize("name", EVIL)  # an empty one: test_columns.py
@pytest.mark.parametrize("column", ["key", "area", "scene"])
def test_c130_tiles_whose_names_lead_elsewhere_are_refused(
    tmp_path: Path, scenes: list[dict[str, object]], column: str, name: str
) -> None:
    write_table(tmp_path / TILES, [tile(scenes[0]), tile(scenes[1]) | {column: name}])
    with pytest.raises(CatalogError, match=rf"tiles\.parquet: column {column}: '{name}' is no name of"):
        read_table(tmp_path / TILES, TILE_COLUMNS, "generate_tiles")


@pytest.mark.parametrize("column", ["image", "mask", "labels"])
@pytest.mark.parametrize("name", ["/vsicurl?url=http%3A%2F%2F127.0.0.1%3A9%2Fx.tif", "/vsizip/x.zip/x.tif"])
def test_c130_rasters_of_a_table_are_not_fetched_from_elsewhere(
    tmp_path: Path, scenes: list[dict[str, object]], column: str, name: str
) -> None:
    write_table(tmp_path / TILES, [tile(scenes[0]), tile(scenes[1]) | {column: name}])
    with pytest.raises(CatalogError, match=rf"column {column}: .* is no file on this machine\. Download it"):
        read_table(tmp_path / TILES, TILE_COLUMNS, "generate_tiles")


def test_c130_rasters_of_a_table_may_lie_elsewhere_on_this_machine(
    tmp_path: Path, scenes: list[dict[str, object]]
) -> None:
    (tmp_path / "tables").mkdir()
    (path,) = (tmp_path / "scenes" / "area0").glob("*.tif")
    rows = [scenes[0] | {"image": f"../scenes/area0/{path.name}"}, scenes[1] | {"image": str(path)}]
    write_table(tmp_path / "tables" / SCENES, rows)
    assert [Path(image).resolve() for image in read_scenes(tmp_path / "tables")["image"]] == [path, path]


@pytest.mark.parametrize(("column", "kept"), [("image", ["mask"]), ("mask", ["image", "labels"])])
def test_c129_a_file_that_is_not_there_is_named_with_its_table(
    tmp_path: Path, scenes: list[dict[str, object]], column: str, kept: list[str]
) -> None:
    """Only files that are used have to be there; a row without a mask has none to lose."""
    path = tmp_path / "scenes" / TILES
    write_table(path, [tile(scenes[0]), tile(scenes[1])])
    table = read_table(path, TILE_COLUMNS, "generate_tiles")
    require_files(table, path, "Run it again.")
    table.loc[1, column] = "../../evil"
    said = r"tiles\.parquet: 1 files of the table are missing: .*/\.\./\.\./evil\. Run it again\.$"
    with pytest.raises(CatalogError, match=said):
        require_files(table, path, "Run it again.")
    require_files(table, path, "Run it again.", kept)
