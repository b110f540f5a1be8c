"""Tiles merged by a table that comes from elsewhere: nothing is written outside of the output folder."""

from __future__ import annotations

from pathlib import Path

import geopandas as gpd
import pytest

from swath.data.tables import TILES
from tests.conftest import Script
from tests.synthetic import write_scenes


@pytest.mark.parametrize("column", ["area", "scene"])
def test_c130_a_table_of_tiles_does_not_lead_merge_tiles_elsewhere(
    script: Script, tmp_path: Path, column: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_scenes(tmp_path / "scenes", 1, (32, 32))
    paths = {"input_path": tmp_path / "scenes", "output_path": tmp_path / "in" / "cut"}
    tiling = {"tiling__size": 32, "tiling__stride": 32}
    assert script("generate_tiles", "configs/demo/generate_test_tiles.py", **paths, **tiling) == 0
    table = tmp_path / "in" / "cut" / TILES
    gpd.read_parquet(table).assign(**{column: "../../../evil"}).to_parquet(table)
    before = {path for path in tmp_path.rglob("*") if "in" not in path.relative_to(tmp_path).parts[0]}
    merge = {"input_path": tmp_path / "in" / "cut" / "images", "tiles_path": tmp_path / "in" / "cut"}
    assert script("merge_tiles", "configs/demo/merge_tiles.py", **merge, output_path=tmp_path / "in" / "merged") == 1
    assert f"tiles.parquet: column {column}: '../../../evil' is no name of" in capsys.readouterr().err
    after = {path for path in tmp_path.rglob("*") if "in" not in path.relative_to(tmp_path).parts[0]}
    assert after == before
