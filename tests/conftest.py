"""Fixtures: a tracking store of the tests' own, scripts run in this process, a small trained chain."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import pytest

from swath import tracking
from tests.synthetic import grid, write_area

ROOT = Path(__file__).resolve().parents[1]
REAL_DATA = ROOT.parent / "shared" / "data" / "s1_flood"

Script = Callable[..., int]


def child_environment(database: Path) -> dict[str, str]:
    """Environment of an entry point started as a process of its own, with a tracking store of its own."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
    return inherited | {
        "PATH": f"{Path(sys.executable).parent}:{inherited.get('PATH', '')}",
        "PYTHONPATH": f"{ROOT / 'code'}:{ROOT}",
        "MLFLOW_TRACKING_URI": f"sqlite:///{database}",
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A SQLite tracking store for the whole session."""
    folder = tmp_path_factory.mktemp("store")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment(experiment_id=mlflow.create_experiment("tests", artifact_location=str(folder / "artifacts")))
    yield uri
    mlflow.set_tracking_uri(None)


@pytest.fixture
def script(store: str, monkeypatch: pytest.MonkeyPatch) -> Script:
    """Run an entry point's script in this process, as its command line would; return the exit status.

    Records of the tests' models name networks of the tests, which `inference` builds only where it is told to.
    """

    def run(name: str, config_path: str | Path, **overrides: object) -> int:
        if name == "inference":
            overrides = {"trust": "tests"} | overrides
        arguments = [f"--config_path={config_path}", *(f"--{k.replace('__', '.')}={v}" for k, v in overrides.items())]
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
        return tracking.cli(importlib.import_module(name).main)

    return run


@pytest.fixture(scope="session")
def last_run(store: str) -> Callable[[], mlflow.entities.Run]:
    """The run that was started last in the tests' store."""

    def newest() -> mlflow.entities.Run:
        client = mlflow.MlflowClient()
        ids = [e.experiment_id for e in client.search_experiments()]
        return client.search_runs(ids, order_by=["attributes.start_time DESC"], max_results=1)[0]

    return newest


@pytest.fixture(scope="session")
def tiles(tmp_path_factory: pytest.TempPathFactory, store: str) -> Path:
    """Tiles of three small areas with statistics, made by the entry points; beside them, in `unlabelled`, without masks."""
    folder = tmp_path_factory.mktemp("tiles")
    for i, area in enumerate(("east", "north", "south")):
        write_area(folder / "raw", area, grid((96, 112), (400_000.0 + 20_000 * i, 3_700_000.0)), seed=i)
    steps: list[tuple[str, str, dict[str, object]]] = [
        ("generate_3b_images", "generate_3b_images", {"input_path": folder / "raw", "output_path": folder / "scenes"}),
        ("rasterize", "rasterize", {"input_path": folder / "raw", "output_path": folder / "masks"}),
        ("generate_tiles", "generate_tiles", {
            "input_path": folder / "scenes", "masks_path": folder / "masks", "output_path": folder / "tiles",
            "tiling.size": 48, "tiling.min_overlap": 8,
        }),
        ("generate_tiles_stats", "generate_tiles_stats", {"input_path": folder / "tiles"}),
        ("generate_tiles", "generate_tiles", {
            "input_path": folder / "scenes", "masks_path": None, "output_path": folder / "unlabelled",
            "tiling.size": 48, "tiling.min_overlap": 8,
        }),
        ("generate_tiles_stats", "generate_tiles_stats", {"input_path": folder / "unlabelled"}),
    ]  # fmt: skip
    for name, config, overrides in steps:
        arguments = [
            f"--config_path=configs/demo/{config}.py",
            "--executor=serial",
            *(f"--{k}={v}" for k, v in overrides.items()),
        ]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", [name, *arguments])
            assert tracking.cli(importlib.import_module(name).main) == 0
    return folder / "tiles"


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Two small labelled areas in the UNOSAT layout, 20 km apart."""
    for i, area in enumerate(("north", "south")):
        write_area(tmp_path / "raw", area, grid((96, 112), (400_000.0 + 20_000 * i, 3_700_000.0)), seed=i)
    return tmp_path / "raw"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The real Sentinel-1 scenes, where they are at hand."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"real Sentinel-1 scenes are not at hand ({REAL_DATA})")
    return REAL_DATA
