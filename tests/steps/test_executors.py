"""Where the work is done decides nothing: threads, processes and a cluster whose workers die leave the same bytes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from swath.challenges.unosat.labels import RasterizeConfig, find_labels, label_job, write_mask
from swath.challenges.unosat.scenes import Generate3bConfig, find_pairs, write_3b
from swath.data.pairing import pair_masks
from swath.data.tables import TILE_COLUMNS, TILES, read_scenes, read_table, write_table
from swath.data.tiles.cutting import cut_jobs, cut_scene
from swath.data.tiles.statistics import scene_jobs, scene_statistics
from swath.errors import ConfigError, StepError
from swath.geo.windows import ConstantSize
from swath.steps import executors
from swath.steps.executors import executor
from swath.steps.ledger import Ledger
from swath.steps.run import run_jobs
from tests.dask_cluster import Cluster, cluster, free_port
from tests.jobs import Call
from tests.steps.test_run import finished, start
from tests.synthetic import grid, write_area, write_scenes

if TYPE_CHECKING:
    from tests.conftest import Script  # worker processes import this module and need no MLflow

TILES_CONFIG = "configs/demo/generate_test_tiles.py"
TILING = {"tiling__size": 48, "tiling__stride": 24}


def contents(folder: Path) -> dict[str, bytes]:
    """Every raster below a folder, byte by byte."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*.tif"))}


def prepared(raw: Path, output: Path, kind: str, workers: int | None) -> tuple[dict[str, bytes], list[Any]]:
    """Rasters and results of the whole preparation, from raw rasters to statistics, by one executor."""
    mask = RasterizeConfig(input_path=str(raw), output_path=str(output / "masks"))
    tiling = ConstantSize(size=48, min_overlap=8)
    results: list[Any] = []
    with executor(kind, workers) as pool:

        def step(function: Callable[[Any], Any], jobs: Mapping[str, Any]) -> None:
            ledger = Ledger(output / "ledgers", function.__name__, {})
            ledger.prepare([], False, {})
            calls = [Call(key=key, argument=job, function=function) for key, job in jobs.items()]
            results.append(run_jobs(calls, ledger, pool).results)

        step(write_3b, {p.key: p for p in find_pairs(raw, output / "scenes", "3b")})
        Generate3bConfig(input_path=str(raw), output_path=str(output / "scenes")).finish(results[-1])
        pairs = find_pairs(raw, output / "masks", "vh")
        step(write_mask, {p.key: label_job(path, p, mask) for path, p in find_labels(pairs, raw)})
        mask.finish(results[-1])
        scenes = read_scenes(output / "scenes")
        cuts = cut_jobs(scenes, pair_masks(scenes, output / "masks"), output / "tiles", tiling)
        step(cut_scene, {cut.key: cut for cut in cuts})
        write_table(output / "tiles" / TILES, [row for rows in results[-1].values() for row in rows])
        tiles = read_table(output / "tiles" / TILES, TILE_COLUMNS, "generate_tiles")
        step(scene_statistics, {job.key: job for job in scene_jobs(tiles, output / "tiles", 1.0)})
    text = json.dumps([dict(sorted(found.items())) for found in results]).replace(str(output), "")
    return contents(output), json.loads(text)


@pytest.fixture(scope="module")
def areas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("raw")
    for i, area in enumerate(("east", "north", "south")):
        write_area(root, area, grid((96, 112), (400_000.0 + 20_000 * i, 3_700_000.0)), seed=i)
    return root


@pytest.fixture(scope="module")
def dask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    pytest.importorskip("distributed")
    with cluster(tmp_path_factory.mktemp("dask")) as running:
        yield running


@pytest.fixture(scope="module")
def serial(areas: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], list[Any]]:
    found = prepared(areas, tmp_path_factory.mktemp("serial"), "serial", None)
    assert len(found[0]) > 20
    assert [len(results) for results in found[1]] == [3, 3, 3, 3]
    return found


@pytest.mark.system
@settings(max_examples=6, deadline=None)
@given(workers=st.integers(1, 9) | st.none())
def test_c13_the_whole_preparation_is_equal_by_any_number_of_threads(
    areas: Path, serial: tuple[dict[str, bytes], list[Any]], workers: int | None
) -> None:
    with TemporaryDirectory() as folder:
        assert prepared(areas, Path(folder), "threads", workers) == serial


@pytest.mark.system
def test_c13_the_whole_preparation_is_equal_by_processes(
    areas: Path, serial: tuple[dict[str, bytes], list[Any]], tmp_path: Path
) -> None:
    assert prepared(areas, tmp_path, "processes", 2) == serial


# ------------------------------------------------------------------------------------------------------ errors first


def opened(kind: str) -> None:
    with executor(kind, None):
        pass


def test_a_cluster_without_the_package_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ConfigError, match=r"executor=dask://head:8786: .*`distributed` is not installed.*pip install"):
        opened("dask://head:8786")


def test_a_cluster_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr(executors, "CONNECT_SECONDS", 0.5)
    kind = f"dask://127.0.0.1:{free_port()}"
    with pytest.raises(ConfigError, match=rf"executor={kind}: no Dask scheduler answers there .*dask scheduler"):
        opened(kind)


def test_a_cluster_without_workers_says_how_to_start_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    with cluster(tmp_path, workers=0) as empty:
        empty.wait()
        monkeypatch.setattr(executors, "CONNECT_SECONDS", 2)
        with pytest.raises(ConfigError, match=r"no workers.*dask worker tcp://"):
            opened(empty.kind)


def test_workers_that_cannot_import_swath_are_named_and_others_get_it_from_the_client(
    dask: Cluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(executors, "PROJECT_ROOT", tmp_path)
        with pytest.raises(
            ConfigError, match=rf"\d of \d processes there cannot import swath, tcp:.*swath.*where {tmp_path} is"
        ):
            opened(dask.kind)
    opened(dask.kind)


# ------------------------------------------------------------------------------------------------------ real clusters


def kill_when(folder: Path, process: subprocess.Popen[bytes], items: int) -> threading.Thread:
    """A thread that kills `process` as soon as the ledger in `folder` has that many items."""

    def watch() -> None:
        while len(finished(folder)) < items:
            time.sleep(0.01)
        process.kill()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


@pytest.mark.slow
def test_an_interrupted_client_stops_the_items_on_the_cluster(
    dask: Cluster, store: str, script: Script, tmp_path: Path
) -> None:
    scenes = write_scenes(tmp_path / "scenes", 24, (256, 256))
    paths = {"input_path": tmp_path / "scenes", "output_path": tmp_path / "tiles"}
    step = start(store, "generate_tiles", TILES_CONFIG, **paths, **TILING, executor=dask.kind)
    while not finished(tmp_path / "tiles") and step.poll() is None:
        time.sleep(0.01)
    step.send_signal(signal.SIGINT)
    _, said = step.communicate()
    assert step.returncode == 130, said
    time.sleep(2)  # what was running when the signal came ends
    left = len(list((tmp_path / "tiles").rglob("*.tif")))
    assert len(finished(tmp_path / "tiles")) < len(scenes), "stopped too late to show anything"
    time.sleep(1)
    assert len(list((tmp_path / "tiles").rglob("*.tif"))) == left < 100 * len(scenes)
    assert script("generate_tiles", TILES_CONFIG, **paths, **TILING, executor="threads") == 0
    assert len(list((tmp_path / "tiles").rglob("*.tif"))) == 100 * len(scenes)


@pytest.mark.system
def test_a_killed_worker_leaves_the_result_whole_and_equal(dask: Cluster, script: Script, tmp_path: Path) -> None:
    scenes = write_scenes(tmp_path / "scenes", 12, (256, 256))
    run = partial(script, "generate_tiles", TILES_CONFIG, input_path=tmp_path / "scenes", **TILING)
    killed = kill_when(tmp_path / "dask", dask.workers[0], 2)
    assert run(output_path=tmp_path / "dask", executor=dask.kind) == 0
    killed.join(5)
    assert dask.workers[0].wait(5) == -signal.SIGKILL
    assert dask.workers[1].poll() is None
    assert run(output_path=tmp_path / "serial", executor="serial") == 0
    assert contents(tmp_path / "dask") == contents(tmp_path / "serial")
    tables = [read_table(tmp_path / kind / TILES, TILE_COLUMNS, "generate_tiles") for kind in ("dask", "serial")]
    assert_frame_equal(*tables)
    assert len(tables[0]) == 100 * len(scenes)
    done = finished(tmp_path / "dask")
    assert sorted(done) == sorted({p.stem.replace("_3b", "") for p in scenes})


@pytest.mark.slow
def test_a_lost_scheduler_is_an_error_that_keeps_what_is_done(
    dask: Cluster, script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Last of the cluster's tests."""
    write_scenes(tmp_path / "scenes", 12, (256, 256))
    run = partial(script, "generate_tiles", TILES_CONFIG, input_path=tmp_path / "scenes", **TILING)
    kill_when(tmp_path / "tiles", dask.scheduler, 1)
    assert run(output_path=tmp_path / "tiles", executor=dask.kind) == 1
    assert "the scheduler went away. What was finished is kept" in capsys.readouterr().err
    assert 1 <= len(finished(tmp_path / "tiles")) < 12
    assert run(output_path=tmp_path / "tiles", executor="serial") == 0


def test_an_item_that_kills_its_workers_is_an_error_about_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = pytest.importorskip("distributed")

    class Client:
        """A client whose cluster is always there."""

        def __init__(self, *_: object, **__: object) -> None: ...
        def __enter__(self) -> Client:
            return self

        def __exit__(self, *_: object) -> None: ...
        def get_executor(self, **_: object) -> executors.SerialExecutor:
            return executors.SerialExecutor()

    monkeypatch.setattr(distributed, "Client", Client)
    monkeypatch.setattr(executors, "_meet_workers", lambda *_: None)
    with pytest.raises(StepError, match="took several workers down"), executor("dask://head", None):
        raise distributed.KilledWorker("cut", SimpleNamespace(address="tcp://10.0.0.1:1"), 3)
