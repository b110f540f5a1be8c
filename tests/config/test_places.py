"""What runs say of paths: enough to tell them apart, and nothing of the machine and its user."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swath.config import PROJECT_ROOT, recorded, recorded_arguments, recorded_text

ID = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user of a name that nothing else has."""
    folder = tmp_path / "homes" / "annauser"
    for name, value in (("HOME", str(folder)), ("USER", "annauser"), ("LOGNAME", "annauser")):
        monkeypatch.setenv(name, value)
    return folder


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("output/tiles", "output/tiles"),
        ("../data/scenes", "../data/scenes"),
        (f"{PROJECT_ROOT}/output/tiles", "output/tiles"),
        (str(PROJECT_ROOT), "."),
        (f"{PROJECT_ROOT}/a;b;{PROJECT_ROOT}/c d", "a;b;c d"),
        (f"runs:/{ID}/model", f"runs:/{ID}/model"),
        ("models:/water@best", "models:/water@best"),
        ("https://example.org/a/b", "https://example.org/a/b"),
        ("https://anna:secret@example.org/a.git", "https://example.org/a.git"),
        ("swath.nn.networks.unet:UNet", "swath.nn.networks.unet:UNet"),
        ("and/or, 1/2, km/h, 2015/01/02, a / b", "and/or, 1/2, km/h, 2015/01/02, a / b"),
    ],
)
def test_c130_paths_in_the_project_are_relative_and_other_texts_stay(home: Path, text: str, expected: str) -> None:
    assert recorded(text) == expected


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("{home}/scenes", "scenes"),
        ("{home}/data/sets/of scenes", "sets/of scenes"),
        ("~/data/scenes", "data/scenes"),
        ("/srv/data/sets/scenes", "sets/scenes"),
        ("/srv/annauser/scenes", "srv/scenes"),
        ("/annauser", ""),
        ("../annauser/scenes", None),
        (f"/srv/mlruns/1/{ID}/artifacts/model", f"{ID}/artifacts/model"),
    ],
)
def test_c130_of_other_paths_the_end_and_a_digest_are_recorded(home: Path, text: str, shown: str | None) -> None:
    text = text.format(home=home)
    found = recorded(text)
    place, _, digest = found.partition("@")
    assert shown is None or place == shown
    assert len(digest) == 8
    assert "annauser" not in found
    assert str(home.parent) not in found
    assert recorded(text) == found != recorded(f"{text}x")
    assert recorded(found) == found


def test_c130_a_clean_up_still_finds_the_runs_that_a_path_names(home: Path) -> None:
    assert ID in recorded(f"/srv/mlruns/1/{ID}/artifacts/some/deep/model")


def test_c130_errors_and_command_lines_are_for_others_to_read(home: Path) -> None:
    said = recorded_text(f"CatalogError: {home}/a/b.tif: cannot be read ('/etc/x y'). Run it in {PROJECT_ROOT}.")
    assert "annauser" not in said
    assert str(PROJECT_ROOT) not in said
    assert said.startswith("CatalogError: ")
    assert ": cannot be read (" in said
    command = ["code/x.py", f"--input_path={home}/my scenes", "--output_path", "/srv/out", "--areas=a/b"]
    line = shlex.join(recorded_arguments(command))
    assert "annauser" not in line
    assert "/srv" not in line
    assert line.startswith("code/x.py '--input_path=my scenes@")
    assert line.endswith(" --areas=a/b")


@pytest.mark.parametrize("end", ["_scratch", "2", "-old", ".bak"])
def test_c130_a_folder_beside_the_project_that_begins_with_its_name_is_no_part_of_it(end: str) -> None:
    said = recorded_text(f"{PROJECT_ROOT}{end}/one/two/x.tif: no such file. Run it in {PROJECT_ROOT}.")
    assert f"{end}/one" not in said
    assert said.endswith(": no such file. Run it in ..")


def test_c130_values_of_other_kinds_stay() -> None:
    value = {"a": [1, 2.5, None, True], "b": {"c": "x"}}
    assert recorded(value) == value


@given(st.text("/~.ab:; ", max_size=12))
def test_c130_whatever_a_value_is_it_is_recorded(text: str) -> None:
    assert isinstance(recorded(text), str)
    assert isinstance(recorded_text(text), str)
