"""Areas by a table of scenes, by a pattern, or by folders: one rule for maps and for the scenes that they are of."""

from __future__ import annotations

from pathlib import Path

import pytest

from swath.data.areas import AreaRule, images_by_area
from swath.data.tables import SCENES, scene_row, write_table
from swath.errors import CatalogError
from tests.synthetic import write_scenes


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """A table of three scenes; the column `event` is empty for the last."""
    root = tmp_path / "scenes"
    events = ("flood", "flood", None)
    rows = [
        scene_row(path, root, key=f"k{i}") | {"event": events[i]}
        for i, path in enumerate(write_scenes(root, 3, (8, 8)))
    ]
    write_table(root / SCENES, rows)
    return root


def maps(root: Path, *keys: str) -> list[tuple[str, Path]]:
    return [(key, root / "any" / f"{key}.tif") for key in keys]


def test_c16_a_table_of_scenes_names_areas_by_key(scenes: Path, tmp_path: Path) -> None:
    found = maps(tmp_path / "maps", "k2", "k0")
    for named in (scenes, scenes / SCENES):
        assert AreaRule(scenes=named).areas(found, tmp_path / "maps") == ["area2", "area0"]
    assert AreaRule(scenes=scenes, column="event").areas(found[1:], tmp_path / "maps") == ["flood"]
    assert AreaRule(scenes=scenes, pattern="k.").areas(found, tmp_path / "maps") == ["k2", "k0"]


def test_c16_a_table_beside_the_rasters_counts_too(scenes: Path) -> None:
    image = scenes / "area1" / "s1a_area1_ASC_20150102.tif"
    assert AreaRule(column="event").areas([("another name", image)], scenes) == ["flood"]


def test_c16_a_table_of_other_scenes_leaves_it_to_folders(scenes: Path, tmp_path: Path) -> None:
    found = maps(tmp_path / "maps", "x", "y")
    assert AreaRule(scenes=scenes).areas(found, tmp_path / "maps") == ["any", "any"]
    assert not AreaRule(scenes=scenes).tells(found, tmp_path / "maps")


def test_c16_a_table_of_some_of_the_scenes_is_an_error(scenes: Path, tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match=r"does not list x\. Name the table of these scenes in scenes_path"):
        AreaRule(scenes=scenes).areas(maps(tmp_path / "maps", "k0", "x"), tmp_path / "maps")
    with pytest.raises(CatalogError, match=r"does not list x\."):
        AreaRule(scenes=scenes, column="event").areas(maps(tmp_path / "maps", "x"), tmp_path / "maps")
    with pytest.raises(CatalogError, match="column 'event' is empty for k2"):
        AreaRule(scenes=scenes, column="event").areas(maps(tmp_path / "maps", "k1", "k2"), tmp_path / "maps")
    with pytest.raises(CatalogError, match="area_column: no column 'town'"):
        AreaRule(scenes=scenes, column="town").areas(maps(tmp_path / "maps", "k1"), tmp_path / "maps")


def test_c16_images_of_an_area_are_found_by_table_pattern_or_folder(scenes: Path) -> None:
    names = {area: [p.parent.name for p in found] for area, found in images_by_area(AreaRule(scenes=scenes)).items()}
    assert names == {f"area{i}": [f"area{i}"] for i in range(3)}
    assert len(images_by_area(AreaRule(scenes=scenes, column="event"))["flood"]) == 2
    (scenes / SCENES).unlink()
    by_pattern = images_by_area(AreaRule(scenes=scenes, pattern="area[01]"))
    assert sorted(by_pattern) == ["", "area0", "area1"]
    assert images_by_area(AreaRule()) == {}
