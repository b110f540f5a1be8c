"""What is current, asked of each step: its own records answer, whatever was done by hand meanwhile."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest

from swath import config as configs
from swath.challenges.unosat.scenes import Generate3bConfig
from swath.data.tiles.cutting import TilesConfig
from swath.geo.windows import ConstantSize
from swath.prediction.config import InferenceConfig
from swath.prediction.postprocess import PostprocessConfig
from swath.prediction.thresholds import ThresholdSearchConfig
from swath.studies.current import made_by
from swath.training.config import TrainingConfig
from swath.training.identity import training_identity
from tests.conftest import Script
from tests.synthetic import grid, write_area

LastRun = Callable[[], mlflow.entities.Run]


def nothing(identity: str) -> None:
    """No training was ever finished."""


@pytest.fixture
def cut(tmp_path: Path, script: Script) -> TilesConfig:
    """The config of tiles that were cut from two areas."""
    for number, area in enumerate(("east", "west")):
        write_area(tmp_path / "raw", area, grid((96, 96), (400_000.0 + 30_000 * number, 3_700_000.0)))
    raw = {"input_path": tmp_path / "raw", "output_path": tmp_path / "scenes"}
    assert script("generate_3b_images", "configs/demo/generate_3b_images.py", **raw) == 0
    paths = {"input_path": tmp_path / "scenes", "output_path": tmp_path / "tiles"}
    sizes = {
        "tiling": "swath.geo.windows:ConstantSize",
        "tiling.size": 48,
        "tiling.min_overlap": 0,
        "missing_zones": None,
    }
    assert script("generate_tiles", "configs/demo/generate_test_tiles.py", **paths, **sizes, executor="serial") == 0
    return TilesConfig(
        input_path=str(tmp_path / "scenes"),
        output_path=str(tmp_path / "tiles"),
        tiling=ConstantSize(size=48, min_overlap=0),
    )


def test_c13_a_step_names_the_run_that_left_its_results(cut: TilesConfig, last_run: LastRun) -> None:
    assert made_by(cut, nothing) == last_run().info.run_id
    assert made_by(replace(cut, workers=3, executor="processes"), nothing) == last_run().info.run_id
    assert made_by(replace(cut, tiling=ConstantSize(size=32, min_overlap=0)), nothing) is None


@pytest.mark.parametrize("name", ["tiles/tiles.parquet", "tiles/images/*/tile_48_0.tif", "scenes/scenes.parquet"])
def test_c01_whatever_is_gone_is_noticed(cut: TilesConfig, tmp_path: Path, name: str) -> None:
    next(tmp_path.glob(name)).unlink()
    assert made_by(cut, nothing) is None


def test_c13_other_pixels_of_equal_size_and_time_are_noticed(cut: TilesConfig, tmp_path: Path) -> None:
    for pattern in ("tiles/images/*/tile_48_0.tif", "scenes/east/*.tif"):
        path = next(tmp_path.glob(pattern))
        before, content = path.stat(), path.read_bytes()
        path.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert made_by(cut, nothing) is None, pattern
        path.write_bytes(content)
        assert made_by(cut, nothing) is not None, pattern


def test_c13_a_copy_with_other_times_and_paths_is_current(
    cut: TilesConfig, tmp_path: Path, script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id, copy = made_by(cut, nothing), tmp_path / "copy"
    for folder in ("raw", "scenes", "tiles"):
        shutil.copytree(tmp_path / folder, copy / folder, copy_function=shutil.copyfile)
        shutil.rmtree(tmp_path / folder)
    moved = replace(cut, input_path=str(copy / "scenes"), output_path=str(copy / "tiles"))
    assert made_by(moved, nothing) == run_id
    raw = {"input_path": copy / "raw", "output_path": copy / "scenes"}
    assert script("generate_3b_images", "configs/demo/generate_3b_images.py", **raw) == 0
    assert "0 of 2 items done now, 2 before" in capsys.readouterr().out
    assert made_by(moved, nothing) == run_id  # the table of scenes names what is there now


def test_c01_other_settings_by_hand_are_noticed_and_refused_until_they_are_replaced(
    cut: TilesConfig, tmp_path: Path, script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    scenes = Generate3bConfig(input_path=str(tmp_path / "raw"), output_path=str(tmp_path / "scenes"))
    assert made_by(scenes, nothing) is not None
    by_hand = {"input_path": tmp_path / "raw", "output_path": tmp_path / "scenes", "missing_values": "0"}
    start = ("generate_3b_images", "configs/demo/generate_3b_images.py")
    assert script(*start, **by_hand) == 1
    assert "with other settings (missing_values: [] before, [0.0] now)" in capsys.readouterr().err
    assert made_by(scenes, nothing) is not None
    assert script(*start, **by_hand, replace=True) == 0
    assert "2 of 2 items done now" in capsys.readouterr().out
    assert made_by(scenes, nothing) is None
    assert made_by(replace(scenes, missing_values=(0.0,)), nothing) is not None


def training_config(tiles: Path, output: Path) -> tuple[str, dict[str, str]]:
    """A training of seconds: its config file, and its overrides."""
    return "configs/demo/training.py", {
        "data.tiles_path": str(tiles), "data.crop": "32", "data.samples_per_epoch": "16", "epochs": "1",
        "model": "tests.synthetic:TinyNet", "output_path": str(output), "data.split.validation_areas": "north",
    }  # fmt: skip


def overridden(path: str, parameters: dict[str, str], kind: type) -> object:
    config = configs.load(path, kind)
    for name, text in parameters.items():
        config = configs.override(config, name, text)
    return config


def require_followers_current(folder: Path, script: Script, last_run: LastRun) -> None:
    """What decides on maps, or cleans them, is asked too, and notices what is gone."""
    paths = {"input_path": str(folder / "maps"), "labels_path": str(folder / "masks")}
    search = {**paths, "output_path": str(folder / "threshold")}
    filters = {**paths, "output_path": str(folder / "clean"), "opening": "1", "allow_selection_set": "True"}
    for name, parameters, kind, gone in (
        ("threshold_search", search, ThresholdSearchConfig, "threshold.json"),
        ("postprocess", filters, PostprocessConfig, "filters.csv"),
    ):
        assert script(name, f"configs/demo/{name}.py", **parameters) == 0
        config = overridden(f"configs/demo/{name}.py", parameters, kind)
        assert made_by(config, nothing) == last_run().info.run_id
        (folder / Path(parameters["output_path"]) / gone).unlink()
        assert made_by(config, nothing) is None


@pytest.mark.system
def test_c01_a_training_is_found_by_what_decides_it_and_an_inference_by_its_maps(
    tiles: Path, tmp_path: Path, script: Script, last_run: LastRun, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("scenes", "masks", "tiles"):
        shutil.copytree(tiles.parent / folder, tmp_path / folder)
    file, parameters = training_config(tmp_path / "tiles", tmp_path / "training")
    assert script("training", file, **parameters) == 0
    run = last_run()
    config = overridden(file, parameters, TrainingConfig)
    assert isinstance(config, TrainingConfig)
    known = {run.data.tags["swath.identity"]: run.info.run_id}
    assert made_by(config, known.get) == run.info.run_id
    cached = replace(config, name="x", log_every=3, checkpoint_every=7, device="cpu")
    cached = replace(cached, data=replace(cached.data, cache="mmap", cache_path=str(tmp_path / "cache"), workers=2))
    assert made_by(cached, known.get) == run.info.run_id
    assert made_by(replace(config, epochs=2), known.get) is None

    inference = {
        "run_id": run.info.run_id, "input_path": str(tmp_path / "scenes"), "labels_path": str(tmp_path / "masks"),
        "output_path": str(tmp_path / "maps"), "areas": "north", "allow_selection_set": "True", "sliding.tta": "off",
    }  # fmt: skip
    assert script("inference", "configs/demo/inference.py", **inference) == 0
    maps = overridden("configs/demo/inference.py", inference, InferenceConfig)
    assert isinstance(maps, InferenceConfig)
    assert made_by(maps, nothing) == last_run().info.run_id
    assert made_by(replace(maps, areas=("north", "south")), nothing) is None
    require_followers_current(tmp_path, script, last_run)

    classes = {path: path.read_bytes() for path in (tmp_path / "maps").rglob("*.tif")}
    assert script("inference", "configs/demo/inference.py", **inference | {"sliding.tta": "d4"}) == 1
    error = capsys.readouterr().err
    assert "holds results of inference with other settings (sliding.tta: off before, d4 now)" in error
    assert "-P replace=True" in error
    assert script("inference", "configs/demo/inference.py", **inference | {"sliding.overlap": "9999"}) == 1
    assert {path: path.read_bytes() for path in (tmp_path / "maps").rglob("*.tif")} == classes
    assert made_by(maps, nothing) is not None
    assert script("inference", "configs/demo/inference.py", **inference | {"sliding.tta": "d4", "replace": True}) == 0
    assert made_by(maps, nothing) is None

    mask = next((tmp_path / "masks").rglob("*.tif"))
    content = mask.read_bytes()
    mask.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    tta = replace(maps, sliding=replace(maps.sliding, tta="d4"))
    assert made_by(tta, nothing) is None  # scores are of other labels
    assert training_identity(config) == next(iter(known))  # the training has tiles of its own

    tile = next((tmp_path / "tiles" / "images").rglob("*.tif"))
    before, pixels = tile.stat(), tile.read_bytes()
    tile.write_bytes(pixels[:-1] + bytes([pixels[-1] ^ 1]))
    os.utime(tile, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert made_by(config, known.get) is None
