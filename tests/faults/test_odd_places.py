"""Odd places and times: two starts at once, a project that cannot be written, a clock that jumps back, odd paths."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.faults.harness import KILL, PAUSE, Fault, Warm
from tests.faults.matrix import ROWS, Row, differing, is_clear, last
from tests.faults.world import World
from tests.synthetic import times

pytestmark = pytest.mark.faults
ODD = "odd äß %20 ? # 'n"


@pytest.fixture(scope="module")
def rows(world: World) -> dict[str, Row]:
    """Rows with what undisturbed starts leave."""
    return {name: Row(world, name) for name in ROWS}


@pytest.mark.parametrize("name", ROWS)
def test_c128_two_starts_at_once_in_one_folder(rows: dict[str, Row], name: str) -> None:
    """Each ends well or says why not, and afterwards everything is as after one start."""
    row = rows[name]
    case = row.world.case()
    both = []
    for command in row.commands:
        started = [row.world.warm.start(case, command.script, command.arguments(case)) for _ in range(2)]
        both = [process.wait() for process in started]
        for ended in both:
            assert ended is not None
            assert not ended.status or not is_clear(ended), last(ended)
        assert any(not ended.status for ended in both if ended), [last(ended) for ended in both if ended]
    assert not row.again(case, files_only=True)
    if name == "train":
        assert sorted(ended.status for ended in both if ended) == [0, 1]
        assert any("another process runs this training" in ended.said for ended in both if ended)


@pytest.mark.parametrize("name", ROWS)
def test_c128_paths_with_blanks_percents_question_marks_hashes_and_umlauts(rows: dict[str, Row], name: str) -> None:
    row = rows[name]
    case = row.world.case(f"{ODD} {name}")
    plain = row.world.folder / f"plain-{name}.db"
    shutil.copyfile(case.database, plain)  # the URI of a store is the user's: it is no path
    case.uri = f"sqlite:///{plain}"
    ended = row.world.run(case, row.commands)
    assert not ended[-1].status, ended[-1].said
    assert not differing(row.undisturbed[0], case.contents(), files_only=True)
    assert not case.leftovers()


@contextmanager
def project(folder: Path) -> Iterator[Path]:
    """A copy of the project's code and configs."""
    for name in ("code", "configs", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("MLproject", "pyproject.toml"):
        shutil.copyfile(ROOT / name, folder / name)
    yield folder


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """A folder that nobody can write to, root included."""
    commands = [["mount", "--bind", folder, folder], ["mount", "-o", "remount,bind,ro", folder]]
    for number, command in enumerate(commands):
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
        if done.returncode:
            if number:
                subprocess.run(["umount", str(folder)], check=True)
            pytest.skip(f"a folder cannot be mounted read-only here ({done.stderr.strip()})")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_c128_a_project_folder_that_cannot_be_written(rows: dict[str, Row], tmp_path: Path) -> None:
    """Results and store lie elsewhere: everything works. Without a store of one's own: an error that names the file."""
    row = rows["prepare"]
    with project(tmp_path / "project") as folder, read_only(folder):
        warm = Warm(None, folder)
        try:
            case = row.world.case()
            for command in row.commands:
                ended = warm.start(case, command.script, command.arguments(case)).wait()
                assert ended is not None
                assert not ended.status, ended.said
            assert not differing(row.undisturbed[0], case.contents())
            own = row.world.case()
            command = row.commands[0]
            own.uri = f"sqlite:///{folder / 'mlflow.db'}"  # where it is when nothing is set
            ended = warm.start(own, command.script, command.arguments(own)).wait()
            assert ended is not None
            assert not is_clear(ended, f"tracking store {folder / 'mlflow.db'}: cannot be written", "permissions")
        finally:
            warm.close()


def test_c128_an_output_folder_that_cannot_be_written(rows: dict[str, Row]) -> None:
    for name in ROWS:
        row = rows[name]
        case = row.world.case()
        case.out.mkdir()
        with read_only(case.out):
            ended = row.world.run(case, row.commands)[-1]
        assert not is_clear(ended, str(case.out), "permissions"), (name, last(ended))
        assert not row.again(case), name


def test_c128_a_project_in_a_folder_with_an_odd_name(rows: dict[str, Row], tmp_path: Path) -> None:
    """Its own store lies in it, and nothing beside it."""
    row = rows["prepare"]
    with project(tmp_path / ODD) as folder:
        case = row.world.case()
        command = row.commands[0]
        environment = {k: v for k, v in case.environment(folder).items() if not k.startswith("MLFLOW_")}
        done = subprocess.run(
            [sys.executable, str(folder / "code" / f"{command.script}.py"), *command.arguments(case)],
            env=environment, cwd=folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert (folder / "mlflow.db").is_file()
        assert any((folder / "mlruns").rglob("config.json"))
        assert [path.name for path in tmp_path.iterdir()] == [ODD]


@pytest.mark.parametrize("days", [-2, 400])
def test_c128_a_clock_that_jumps(world: World, days: int) -> None:
    """What is known goes by contents: a second start does nothing, and a changed input is seen whatever its time."""
    if shutil.which("faketime") is None:
        pytest.skip("faketime is not installed (apt-get install faketime)")
    case = world.case()
    command = world.commands["prepare"][0]

    def start(shift: int) -> str:
        clock = ["faketime", "-f", f"{shift:+d}d"] if shift else []
        script = [sys.executable, str(ROOT / "code" / f"{command.script}.py"), *command.arguments(case)]
        done = subprocess.run(
            [*clock, *script], env=case.environment(ROOT), cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "2 of 2 items done now" in start(0)
    before = times(case.out)
    assert "0 of 2 items done now, 2 before" in start(days)
    assert times(case.out) == before
    changed = sorted((case.folder / "in/raw/north").rglob("*.tif"))[0]
    shutil.copyfile(sorted((case.folder / "in/raw/south").rglob("*.tif"))[0], changed)
    assert "1 of 2 items done now, 1 before" in start(days)
    assert case.statuses() == ["FINISHED"] * 3


def test_c128_a_killed_start_beside_a_living_one(world: World) -> None:
    """The next start removes what the dead one left, and nothing of the living one, which then ends as if alone."""
    row = Row(world, "infer")
    case = world.case()
    (command,) = row.commands
    counts = row.undisturbed[1][0]
    living = world.warm.start(case, command.script, command.arguments(case), Fault(case.out, counts // 2, PAUSE))
    assert living.wait(paused=True) is None
    dead = world.warm.start(case, command.script, command.arguments(case), Fault(case.out, counts // 4, KILL)).wait()
    assert dead is not None
    assert dead.status == -signal.SIGKILL
    third = world.warm.start(case, command.script, command.arguments(case)).wait()
    assert third is not None
    os.kill(living.pid, signal.SIGCONT)
    ended = living.wait()
    assert ended is not None
    assert (third.status, ended.status) == (0, 0), third.said + ended.said
    assert not row.again(case)
