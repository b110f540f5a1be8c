"""How files get their names, and what killed processes leave is told from what living ones write."""

from __future__ import annotations

import os
import platform
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from swath.files import part_folder, part_of, remove_orphans, scratch_folder


def owned_by(path: Path, process: int) -> Path:
    """The name of a part as another process of this host gives it."""
    return path.with_name(path.name.replace(f"-{os.getpid()}-", f"-{process}-"))


@pytest.fixture
def gone() -> int:
    """Number of a process that has ended."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    return ended.pid


@pytest.mark.parametrize("reaped", [True, False])
def test_c13_parts_of_dead_processes_are_removed_and_those_of_living_ones_and_other_hosts_stay(
    tmp_path: Path, reaped: bool
) -> None:
    ended = subprocess.Popen(["true"])
    if reaped:
        ended.wait()
    else:  # it has ended, its number stays taken until its parent asks
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    deep = tmp_path / "area/.scene.parts/digest"
    deep.mkdir(parents=True)
    dead = [owned_by(part_of(folder / "a.tif"), ended.pid) for folder in (tmp_path, deep)]
    dead.append(dead[0].with_name(f"{dead[0].name}.cog"))
    dead_folder = owned_by(part_of(tmp_path / "area/labels.shp"), ended.pid)
    kept = [
        part_of(tmp_path / "a.tif"), part_of(deep / "b.npy"), tmp_path / "a.tif", deep / "000001.npy",
        tmp_path / f".a.elsewhere-{ended.pid}-1.part.tif", tmp_path / f"a.{platform.node()}-{ended.pid}-1.part.tif",
    ]  # fmt: skip
    for path in (*dead, *kept):
        path.touch()
    dead_folder.mkdir()
    (dead_folder / "labels.dbf").touch()
    remove_orphans([tmp_path])
    ended.wait()
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(kept)
    assert not dead_folder.exists()


def test_c13_links_are_not_followed(tmp_path: Path, gone: int) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    theirs = owned_by(part_of(elsewhere / "a.tif"), gone)
    theirs.touch()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/link").symlink_to(elsewhere)
    owned_by(part_of(tmp_path / "out/b.tif"), gone).symlink_to(elsewhere)
    remove_orphans([tmp_path / "out", tmp_path / "not there"])
    assert theirs.exists()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["link"]


def test_c13_scratch_folders_of_dead_processes_go_and_those_of_living_ones_stay(
    tmp_path: Path, gone: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with scratch_folder() as mine:
        theirs = owned_by(mine, gone)
        theirs.mkdir()
        (theirs / "copy.tif").touch()
        (tmp_path / "swath-run-old").mkdir()  # of an older version: nobody knows whose
        remove_orphans([])
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted([mine.name, "swath-run-old"])
    assert not mine.exists()


def test_c13_a_part_folder_is_known_again_and_gone_at_its_end(tmp_path: Path, gone: int) -> None:
    with part_folder(tmp_path / "new/labels.shp") as folder:
        (folder / "labels.dbf").touch()
        remove_orphans([tmp_path])
        assert list(folder.iterdir())
        owned_by(folder, gone).mkdir()
        remove_orphans([tmp_path])
        assert list((tmp_path / "new").iterdir()) == [folder]
    assert not list((tmp_path / "new").iterdir())


def test_c13_a_large_folder_costs_little(tmp_path: Path, gone: int) -> None:
    """20,000 files in 200 folders: nobody asks the file system about each of them."""
    for number in range(200):
        folder = tmp_path / str(number)
        folder.mkdir()
        for tile in range(100):
            (folder / f"tile_{tile}.tif").touch()
    owned_by(part_of(tmp_path / "77/tile_1.tif"), gone).touch()
    began = time.process_time()
    remove_orphans([tmp_path])
    assert time.process_time() - began < 2.0
    assert not list(tmp_path.rglob(".*"))
