"""Digests of files: equal for equal contents, and never those of what was there before."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path

import pytest

from swath import contents
from swath.contents import content_of, contents_below, contents_of


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder of its own, with a store of its own."""
    monkeypatch.setattr("swath.config.paths.PROJECT_ROOT", tmp_path / "project")
    (tmp_path / "project").mkdir()
    return tmp_path / "project"


def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are read from here on."""
    seen: list[Path] = []
    read = contents._read
    monkeypatch.setattr(contents, "_read", lambda path: (seen.append(path), read(path))[1])
    return seen


def old(path: Path, text: str) -> Path:
    """A file that has been there long enough to be known again by what the file system says."""
    path.write_text(text)
    time.sleep(2 * contents.TICK)
    return path


def test_c13_a_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, seen = old(tmp_path / "a", "text"), reads(monkeypatch)
    first = content_of(path)
    assert first is not None
    assert content_of(path) == first
    assert seen == [path]
    os.utime(path)
    assert content_of(path) == first
    assert seen == [path, path]


def test_c13_equal_size_and_time_do_not_hide_other_contents(tmp_path: Path) -> None:
    path = old(tmp_path / "a", "one")
    before, stat = content_of(path), path.stat()
    path.write_text("two")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)
    assert content_of(path) != before
    new = old(tmp_path / "b", "one")
    os.utime(new, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    os.replace(new, path)
    assert content_of(path) == before


def test_c13_a_file_that_is_written_just_now_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = reads(monkeypatch)
    path = tmp_path / "a"
    path.write_text("one")
    content_of(path)
    content_of(path)
    assert seen == [path, path]


def test_c13_parts_of_a_shapefile_and_masks_of_rasters_count(tmp_path: Path) -> None:
    for name in ("a.shp", "a.dbf", "b.tif"):
        (tmp_path / name).write_text(name)
    shape, raster = content_of(tmp_path / "a.shp"), content_of(tmp_path / "b.tif")
    (tmp_path / "a.dbf").write_text("other attributes")
    (tmp_path / "b.tif.msk").write_text("mask")
    assert content_of(tmp_path / "a.shp") != shape
    assert content_of(tmp_path / "b.tif") != raster


def test_c13_missing_files_have_no_content_and_folders_are_all_that_is_in_them(tmp_path: Path) -> None:
    assert content_of(tmp_path / "nowhere") is None
    (tmp_path / "x" / "y").mkdir(parents=True)
    (tmp_path / "x" / "y" / "a").write_text("a")
    (tmp_path / "x" / "b").write_text("b")
    found = contents_below([tmp_path / "x", tmp_path / "x" / "b"])
    assert [name for name, _ in found] == ["b", "y/a", "."]
    assert found[0][1] == found[2][1] == contents_of([tmp_path / "x" / "b"])[tmp_path / "x" / "b"]


@pytest.mark.parametrize("damage", ["no database", "a folder", "read-only"])
def test_c13_a_store_that_cannot_be_used_costs_time_only(tmp_path: Path, project: Path, damage: str) -> None:
    path = old(tmp_path / "a", "text")
    good = content_of(path)
    store = project / "output" / "contents.sqlite"
    if damage == "no database":
        store.write_bytes(b"no database at all" * 100)
    elif damage == "a folder":
        store.unlink()
        store.mkdir()
    else:
        store.chmod(0o400)
    assert content_of(path) == good


def test_c13_a_store_that_is_locked_is_not_waited_for_forever(
    tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "WAIT", 0.1)
    path = old(tmp_path / "a", "text")
    good = content_of(path)
    with sqlite3.connect(project / "output" / "contents.sqlite") as other:
        other.execute("BEGIN EXCLUSIVE")
        assert content_of(path) == good
