"""JSON in files: what has the shape comes back as it is, and damage is named with file, value and remedy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swath.config.json_files import Shape, parse_json, read_json, short
from swath.errors import CatalogError

REMEDY = "Make it again."


class Scored(Shape):
    score: float
    scenes: list[str]


@settings(max_examples=50, deadline=None)
@given(st.floats(allow_nan=False), st.lists(st.text()), st.dictionaries(st.text(), st.integers()))
def test_c129_what_has_the_shape_comes_back_with_all_that_stands_beside_it(
    score: float, scenes: list[str], more: dict[str, int]
) -> None:
    value: dict[str, Any] = {**more, "score": score, "scenes": scenes}
    assert parse_json(json.dumps(value), Scored, CatalogError, "x.json", REMEDY) == value


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"\xff\xfe\x00", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"9" * 10_000, "is not JSON"),
        (b"[]", "should be a valid dictionary, got []"),
        (b"null", "should be a valid dictionary, got None"),
        (b"{}", "`score` is missing"),
        (b'{"score": "7", "scenes": []}', "`score`: input should be a valid number, got '7'"),
        (b'{"score": true, "scenes": []}', "`score`: input should be a valid number, got True"),
        (b'{"score": 1, "scenes": "abc"}', "`scenes`: input should be a valid list, got 'abc'"),
        (b'{"score": 1, "scenes": ["a", 5]}', "`scenes.1`: input should be a valid string, got 5"),
    ],
)
def test_c129_damage_is_named_with_file_value_and_remedy(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "scores.json"
    path.write_bytes(content)
    with pytest.raises(CatalogError) as error:
        read_json(path, Scored, CatalogError, REMEDY)
    assert str(path) in str(error.value)
    assert words in str(error.value)
    assert str(error.value).endswith(REMEDY)


def test_c129_a_file_that_is_not_there_or_is_a_folder_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "gone.json", tmp_path):
        with pytest.raises(CatalogError, match=rf"{path.name}: cannot be read.*{REMEDY}"):
            read_json(path, Scored, CatalogError, REMEDY)


def test_c129_half_a_character_is_refused(tmp_path: Path) -> None:
    """No file can be called so: Python would fail where it is opened."""
    path = tmp_path / "a.json"
    path.write_text('{"file": "\\ud800.bin"}')
    with pytest.raises(CatalogError, match=r"a\.json: is not JSON .*surrogates"):
        read_json(path, dict[str, str], CatalogError, "Copy it again.")


def test_c129_long_values_are_shown_by_their_beginning() -> None:
    assert short("ab") == "'ab'"
    assert len(short("a" * 10_000)) < 80
