"""Paths from values of tables and configs stay inside of their folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swath.errors import CatalogError
from swath.files import leads_outside, path_below

OUTSIDE = ("../evil", "..", "a/../../evil", "a/..", "/etc/evil", "/", "", " ", ".", "a\0b", None, float("nan"))
INSIDE = ("38SNE", "a..b", "..a", "a..", "scene/tile_0_16", "São Paulo", "p%20q", "p?x", "~", "a b", 7, "-x", "a/.b")


@pytest.mark.parametrize("name", OUTSIDE, ids=repr)
def test_c130_names_that_lead_out_of_the_folder_make_no_path(tmp_path: Path, name: object) -> None:
    assert leads_outside(name)
    for names in ((name,), ("area", name), (name, "scene")):
        with pytest.raises(CatalogError, match="is no name for a file or folder in"):
            path_below(tmp_path, *names, suffix=".tif")


@pytest.mark.parametrize("name", INSIDE, ids=repr)
def test_c130_other_names_are_kept_as_they_are(tmp_path: Path, name: object) -> None:
    assert path_below(tmp_path, "area", name, suffix=".tif") == tmp_path / "area" / f"{name}.tif"


@given(st.lists(st.text("./a\0 ~", max_size=8), min_size=1, max_size=3))
def test_c130_every_path_that_is_made_lies_in_its_folder(names: list[str]) -> None:
    folder = Path("/no/such/folder")
    try:
        made = path_below(folder, *names, suffix=".tif")
    except CatalogError:
        return
    resolved = made.resolve()
    assert resolved.is_relative_to(folder)
    assert resolved != folder
