"""A preparation step: what is finished stays finished, whatever happens to the process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from swath.config import NotDecisive, OutputPath, configclass
from swath.data.tables import TILE_COLUMNS, TILES, read_table
from swath.errors import ConfigError, RasterError, StepError
from swath.geo.grid import Window
from swath.geo.raster import find_rasters, read_image
from swath.steps.config import StepConfig, ledger_of
from swath.steps.executors import SerialExecutor, executor
from swath.steps.ledger import Ledger
from swath.steps.run import run_jobs, run_step
from tests.jobs import Call
from tests.synthetic import grid, times, write_area, write_scenes

if TYPE_CHECKING:
    from tests.conftest import Script  # worker processes import this module and need no MLflow

ROOT = Path(__file__).resolve().parents[2]


@configclass
class Settings(StepConfig):
    """Config of a step of the tests' own."""

    factor: int = 2
    output_path: OutputPath = ""
    executor: NotDecisive[str] = "serial"
    workers: NotDecisive[int | None] = 1


def double(path: Path) -> int:
    """Read a number, leave its double beside it and a line in calls.txt; refuse negative ones."""
    with (path.parent / "calls.txt").open("a") as calls:
        calls.write(path.stem + "\n")
    number = int(path.read_text())
    if number < 0:
        raise RasterError(f"{path}: negative number {number}")
    path.with_suffix(".out").write_text(str(2 * number))
    return 2 * number


@pytest.fixture
def numbers(tmp_path: Path) -> list[Call]:
    paths = [tmp_path / f"{i}.txt" for i in range(5)]
    for i, path in enumerate(paths):
        path.write_text(str(i))
    return [Call(key=p.stem, argument=p, inputs=(p,), outputs=(p.with_suffix(".out"),), function=double) for p in paths]


def run(items: list[Call], folder: Path, config: Settings | None = None) -> Mapping[str, int]:
    settings = config or Settings()
    ledger = ledger_of("double", settings, folder / "out")
    return run_step(ledger, items, settings, {"command": "x"}, lambda m, s: None)


def calls(folder: Path) -> list[str]:
    """Items done since the last look."""
    path = folder / "calls.txt"
    found = sorted(path.read_text().split()) if path.is_file() else []
    path.unlink(missing_ok=True)
    return found


EXPECTED = {str(i): 2 * i for i in range(5)}


@pytest.mark.system
@pytest.mark.parametrize("kind", ["serial", "threads", "processes"])
def test_c13_every_executor_gives_the_same_results_once(numbers: list[Call], tmp_path: Path, kind: str) -> None:
    assert run(numbers, tmp_path, Settings(executor=kind)) == EXPECTED
    assert calls(tmp_path) == list("01234")
    assert run(numbers, tmp_path, Settings(executor="serial", workers=None)) == EXPECTED
    assert calls(tmp_path) == []


def test_c13_unknown_executor_lists_the_known_ones() -> None:
    with (
        pytest.raises(ConfigError, match="executor=gpu: expected one of threads, processes, serial, or dask://"),
        executor("gpu", None),
    ):
        pass


def test_c13_changed_input_or_lost_output_is_done_again(numbers: list[Call], tmp_path: Path) -> None:
    run(numbers, tmp_path)
    calls(tmp_path)
    numbers[1].argument.write_text("10")
    numbers[3].outputs[0].unlink()
    assert run(numbers, tmp_path) == EXPECTED | {"1": 20}
    assert calls(tmp_path) == ["1", "3"]


@pytest.mark.parametrize("kind", ["serial", "threads"])
def test_c13_failures_do_not_stop_the_others_and_are_tried_again(
    numbers: list[Call], tmp_path: Path, kind: str
) -> None:
    numbers[2].argument.write_text("-7")
    with pytest.raises(
        StepError, match=r"double: 1 of 5 items failed, the others are kept:\n.*2\.txt: negative number -7"
    ):
        run(numbers, tmp_path, Settings(executor=kind))
    assert calls(tmp_path) == list("01234")
    numbers[2].argument.write_text("2")
    assert run(numbers, tmp_path) == EXPECTED
    assert calls(tmp_path) == ["2"]


def test_c13_an_input_that_vanished_fails_by_name_also_after_success(numbers: list[Call], tmp_path: Path) -> None:
    run(numbers, tmp_path)
    calls(tmp_path)
    numbers[2].argument.unlink()
    with pytest.raises(FileNotFoundError, match=r"2\.txt"):
        run(numbers, tmp_path)
    assert calls(tmp_path) == ["2"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, ValueError])
def test_c13_work_before_an_interrupt_is_kept(numbers: list[Call], tmp_path: Path, stop: type[BaseException]) -> None:
    def stopping(path: Path) -> int:
        if path.stem == "3":
            raise stop
        return double(path)

    ledger = Ledger(tmp_path / "out", "double", {})
    ledger.prepare(numbers, False, {})
    with pytest.raises(stop):
        run_jobs([job.by(stopping) for job in numbers], ledger, SerialExecutor())
    assert calls(tmp_path) == ["0", "1", "2"]
    outcome = run_jobs(numbers, Ledger(tmp_path / "out", "double", {}), SerialExecutor())
    assert (outcome.results, outcome.done_now) == (EXPECTED, 2)
    assert calls(tmp_path) == ["3", "4"]


def test_c13_a_torn_ledger_costs_one_item_once(numbers: list[Call], tmp_path: Path) -> None:
    run(numbers, tmp_path)
    calls(tmp_path)
    ledger = tmp_path / "out" / "double.done.jsonl"
    text = ledger.read_bytes()
    ledger.write_bytes(text[: len(text) - 20])
    assert run(numbers, tmp_path) == EXPECTED
    assert calls(tmp_path) == ["4"]
    assert run(numbers, tmp_path) == EXPECTED
    assert calls(tmp_path) == []


def slow_first(number: int) -> int:
    time.sleep(0.02 * (5 - number))
    return number


def test_c13_results_are_in_the_order_of_the_jobs_whoever_is_first(tmp_path: Path) -> None:
    jobs = [Call(key=str(number), argument=number, function=slow_first) for number in range(5)]
    config = Settings(executor="threads", workers=5)
    assert list(run(jobs, tmp_path, config)) == ["0", "1", "2", "3", "4"]
    ledger = tmp_path / "out" / "double.done.jsonl"
    assert "0" in ledger.read_text().splitlines()[-1], "no job overtook another"
    ledger.write_text("\n".join(ledger.read_text().splitlines()[:2]) + "\n")  # two are done, the last ones
    assert list(run(jobs[::-1], tmp_path, config)) == ["4", "3", "2", "1", "0"]


def test_c13_settings_decide_but_where_the_work_is_done_does_not(numbers: list[Call], tmp_path: Path) -> None:
    run(numbers, tmp_path, Settings(executor="threads", output_path="a"))
    run(numbers, tmp_path, Settings(executor="serial", output_path="b", workers=None))
    with pytest.raises(
        StepError,
        match=r"out: holds results of double with other settings \(factor: 2 before, 3 now\).*-P replace=True",
    ):
        run(numbers, tmp_path, Settings(factor=3))
    saved = json.loads((tmp_path / "out" / "double.settings.json").read_text())
    assert saved == {"settings": {"factor": 2}, "sources": {}, "command": "x"}


def test_c13_progress_is_reported_item_by_item(numbers: list[Call], tmp_path: Path) -> None:
    seen: list[tuple[dict[str, float], int]] = []
    with ThreadPoolExecutor(2):
        ledger = ledger_of("double", Settings(), tmp_path / "out")
        run_step(ledger, numbers, Settings(), {}, lambda m, s: seen.append((dict(m), s)))
    assert [s for m, s in seen if "preparation/items_per_second" in m] == [1, 2, 3, 4, 5]
    assert seen[-1][0]["preparation/items"] == 5
    assert seen[-1][0]["preparation/done_now"] == 5


def test_c13_records_that_cannot_be_written_are_a_clear_error(numbers: list[Call], tmp_path: Path) -> None:
    (tmp_path / "out" / "double.done.jsonl").mkdir(parents=True)
    with pytest.raises(StepError, match=r"out: double cannot write its records .*Free disk space"):
        run(numbers, tmp_path)


# ---------------------------------------------------------------------------------------------------- real processes


def start(store: str, name: str, config: str, limit: int = 0, **overrides: object) -> subprocess.Popen[str]:
    """An entry point as its own process, as `mlflow run` starts it; `limit` is the largest file it may write."""
    code = f"import runpy, sys; sys.path.insert(0, {str(ROOT / 'code')!r}); sys.argv = sys.argv[1:]; "
    code += f"from tests.limits import limit_file_size; limit_file_size({limit}); "
    code += "runpy.run_path(sys.argv[0], run_name='__main__')"
    options = [f"--config_path={config}", *(f"--{k.replace('__', '.')}={v}" for k, v in overrides.items())]
    script = str(ROOT / "code" / f"{name}.py")
    command = [sys.executable, "-c", code, script, *options] if limit else [sys.executable, script, *options]
    env = os.environ | {"MLFLOW_TRACKING_URI": store, "MLFLOW_EXPERIMENT_NAME": "tests", "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # whoever starts the tests in the background has SIGINT ignored, and children inherit that
    restore = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(command, cwd=ROOT, env=env, preexec_fn=restore, **pipes)


def finished(folder: Path) -> list[str]:
    ledger = folder / "generate_tiles.done.jsonl"
    lines = ledger.read_text().splitlines() if ledger.is_file() else []
    return [json.loads(line)["key"] for line in lines if line.endswith("}")]


@pytest.mark.system
@pytest.mark.parametrize(
    ("number", "kind"), [(signal.SIGINT, "processes"), (signal.SIGTERM, "threads"), (signal.SIGKILL, "serial")]
)
def test_c13_a_stopped_step_leaves_whole_files_and_goes_on(
    store: str, script: Script, tmp_path: Path, number: signal.Signals, kind: str
) -> None:
    scenes = write_scenes(tmp_path / "scenes", 10, (256, 256))
    paths = {"input_path": tmp_path / "scenes", "output_path": tmp_path / "tiles"}
    tiling = {"tiling__size": 48, "tiling__stride": 16}
    config = "configs/demo/generate_test_tiles.py"
    step = start(store, "generate_tiles", config, **paths, **tiling, executor=kind, workers=1)
    while not finished(tmp_path / "tiles") and step.poll() is None:
        try:
            step.wait(0.01)
        except subprocess.TimeoutExpired:
            continue
    step.send_signal(number)
    _, said = step.communicate()
    done = finished(tmp_path / "tiles")
    assert 1 <= len(done) < len(scenes), f"stopped too early or too late: {said}"
    if number is signal.SIGKILL:
        assert step.returncode == -signal.SIGKILL
    else:
        assert step.returncode == 130
        assert "stopped: what was finished is kept; start the same command again to go on" in said
    assert not (tmp_path / "tiles" / TILES).exists()
    images = {p.stem: read_image(p) for p in scenes}
    before = times(tmp_path / "tiles")
    for path in find_rasters(tmp_path / "tiles")[::-3]:
        assert_tile(path, images)

    assert script("generate_tiles", config, **paths, **tiling, executor="serial") == 0
    after = times(tmp_path / "tiles")
    again = {name for name in before if not Path(name).name.startswith(".") and after[name] != before[name]}
    assert not [name for name in again if Path(name).parent.name.removesuffix("_tiles").replace("_3b", "") in done]
    table = read_table(tmp_path / "tiles" / TILES, TILE_COLUMNS, "generate_tiles")
    assert len(table) == len(scenes) * 196
    assert sorted(str(tmp_path / "tiles" / p) for p in table["image"]) == [
        str(p) for p in find_rasters(tmp_path / "tiles")
    ]
    for path in find_rasters(tmp_path / "tiles")[::17]:
        assert_tile(path, images)


def assert_tile(path: Path, images: Mapping[str, np.ndarray]) -> None:
    """A tile holds the pixels of its scene at the place that its name gives."""
    col, row = (int(n) for n in path.stem.split("_")[1:])
    padded = np.full((3, 300, 300), np.nan, np.float32)
    padded[:, :256, :256] = images[path.parent.name.removesuffix("_tiles")]
    assert np.array_equal(read_image(path), padded[:, *Window(row, col, 48, 48).slices], equal_nan=True)


@pytest.mark.system
def test_c13_a_full_disk_stops_a_step_cleanly(store: str, script: Script, tmp_path: Path) -> None:
    """The disk takes the small scene and not the large one."""
    write_area(tmp_path / "raw", "small", grid((64, 64)), labelled=False)
    write_area(tmp_path / "raw", "wide", grid((1100, 1000), (500_000.0, 3_700_000.0)), labelled=False)
    paths = {"input_path": tmp_path / "raw", "output_path": tmp_path / "scenes", "executor": "serial"}
    config = "configs/demo/generate_3b_images.py"
    step = start(store, "generate_3b_images", config, limit=8_000_000, **paths)
    _, said = step.communicate()
    assert step.returncode == 1, said
    assert "s1a_wide_3b_ASC_20150102t145957.tif: cannot be written" in said
    assert "Free disk space" in said
    assert "start the same command again" in said
    before = times(tmp_path / "scenes")
    assert list(before) == ["small/s1a_small_3b_ASC_20150102t145957.tif"]
    assert script("generate_3b_images", config, **paths) == 0
    after = times(tmp_path / "scenes")
    assert before.items() <= after.items()
    assert len(after) == 2
    assert np.isfinite(read_image(find_rasters(tmp_path / "scenes")[1])).mean() > 0.9
