"""What names of files and folders say: the area, the date, and what they do not say."""

from __future__ import annotations

from pathlib import Path

import pytest

from swath.data.naming import area_of, date_of
from swath.errors import CatalogError, ConfigError

ROOT = Path("/data/predictions")


@pytest.mark.parametrize(
    ("inside", "area"),
    [
        ("38SNE/x.tif", "38SNE"),
        ("38SNE/date1/x.tif", "38SNE"),
        ("38SNE/s1a_20150102/x.tif", "38SNE"),
        ("38SNE/20150102T145957/deeper/x.tif", "38SNE"),
        ("20170314/x.tif", "20170314"),
        ("12345678/20150102/x.tif", "12345678"),
        ("EMSR_2015-01-02/x.tif", "EMSR_2015-01-02"),
        ("x.tif", "predictions"),
    ],
)
def test_c16_the_area_is_the_first_folder_whatever_it_is_called(inside: str, area: str) -> None:
    assert area_of(ROOT / inside, ROOT) == area


@pytest.mark.parametrize(
    ("pattern", "area"),
    [("38[A-Z]{3}", "38SNE"), (r"s1a_(\w+)_3b", "38SNE"), ("[^/]+", "raw"), (r"^raw/[^_]+_([^_]+)", "38SNE")],
)
def test_c16_a_pattern_finds_the_area_in_the_path(pattern: str, area: str) -> None:
    assert area_of(ROOT / "raw/s1a_38SNE_3b_20150102_tiles/tile_0_0.tif", ROOT, pattern) == area


def test_c16_a_pattern_that_fits_nothing_or_is_none_says_so() -> None:
    with pytest.raises(CatalogError, match=r"area_pattern='39S..' finds no area in raw/38SNE\.tif"):
        area_of(ROOT / "raw/38SNE.tif", ROOT, "39S..")
    with pytest.raises(ConfigError, match=r"area_pattern='38\(': no regular expression"):
        area_of(ROOT / "raw/38SNE.tif", ROOT, "38(")


def test_c130_a_pattern_finds_no_area_that_leads_out_of_a_folder() -> None:
    with pytest.raises(CatalogError, match=r"area_pattern='\.\+' finds '\.\.', which is no name of a folder"):
        area_of(ROOT / "..", ROOT, ".+")


@pytest.mark.parametrize(
    ("name", "date"),
    [
        ("s1a_38SNE_vh_ASC_20150102t145957.tif", "20150102T145957"),
        ("scene_2015-01-02.tif", "20150102"),
        ("12345678_20150102.tif", "20150102"),
        ("12345678.tif", ""),
        ("20151399.tif", ""),
        ("20150102t999999.tif", "20150102"),
        ("001501020.tif", ""),
        ("elm.tif", ""),
    ],
)
def test_c24_eight_digits_are_a_date_only_if_the_calendar_has_it(name: str, date: str) -> None:
    assert date_of(Path(name)) == date
