"""Trainings on kelp tiles: every committed config takes a step on generated tiles, and maps a tile at its own size."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from mlflow.entities import Run

from swath import config as configs
from swath import tracking
from swath.challenges.kelp.indices import BEST_INDICES
from swath.challenges.kelp.product import BANDS, MISSING, SIDE
from swath.challenges.kelp.simulate import KelpScenesConfig
from swath.data.samples.samplers import TileQuality, quality_weights
from swath.data.samples.tile_tables import read_tiles
from swath.geo.raster import RasterReader, find_rasters
from swath.nn.networks.pretrained import without_weights
from swath.nn.resizing import Pad, Resize
from swath.nn.tta import predictor
from swath.training.config import TrainingConfig
from swath.training.loop import Reports
from swath.training.model_record import fetch_record
from swath.training.trainer import build_training
from tests.conftest import ROOT, Script

TRAININGS = sorted(path.stem for path in (ROOT / "configs" / "kelp").glob("training*.py"))


def start(name: str, config: str, **overrides: object) -> None:
    """Run a step's script in this process."""
    arguments = [f"--config_path=configs/kelp/{config}.py", "--executor=serial"]
    arguments += [f"--{key.replace('__', '.')}={value}" for key, value in overrides.items()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [name, *arguments])
        assert tracking.cli(importlib.import_module(name).main) == 0


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, store: str) -> Path:
    """Folder of generated tiles as the guide's steps leave them: input, scenes, grouped, folds, tiles, tiles_sahi."""
    folder = tmp_path_factory.mktemp("kelp")
    scenes = KelpScenesConfig(output_path=str(folder / "input"), aois=8, tiles=14, seed=1)
    scenes.finish({job.key: job.run() for job in scenes.jobs()})
    start("import_scenes", "import_scenes", input_path=folder / "input", output_path=folder / "scenes")
    start("group_scenes", "group_scenes", input_path=folder / "scenes", output_path=folder / "grouped")
    start("assign_folds", "assign_folds", input_path=folder / "grouped", output_path=folder / "folds", folds__folds=2)
    for kind in ("", "_sahi"):
        tiles = folder / f"tiles{kind}"
        start("generate_tiles", f"generate_tiles{kind}", input_path=folder / "folds", output_path=tiles)
        start("generate_tiles_stats", f"generate_tiles_stats{kind}", input_path=tiles)
    return folder


def committed(name: str) -> TrainingConfig:
    return configs.load(f"configs/kelp/{name}.py", TrainingConfig)


def in_small(name: str, made: Path, output: Path) -> TrainingConfig:
    """A committed training from random weights, on small crops of the generated tiles, for one step."""
    config = committed(name)
    tiles = made / Path(config.data.tiles_path).name
    data = replace(config.data, tiles_path=str(tiles), crop=64, batch=2, samples_per_epoch=2)
    return replace(
        config,
        data=data,
        model=without_weights(config.model),
        epochs=1,
        precision="fp32",
        device="cpu",
        output_path=str(output),
    )


def first_image(folder: Path) -> torch.Tensor:
    """float32 (1, 7, 350, 350) of a test tile, NaN where missing."""
    with RasterReader(find_rasters(folder / "input" / "test" / "images")[0], (MISSING,)) as reader:
        return torch.from_numpy(reader.image())[None]


@pytest.mark.system
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", TRAININGS)
def test_c48_c57_c64_every_training_of_the_guide_takes_a_step_and_maps_a_tile_at_its_own_size(
    name: str, made: Path, tmp_path: Path
) -> None:
    training = build_training(in_small(name, made, tmp_path), Reports.none())
    before = {key: value.clone() for key, value in training.model.state_dict().items()}
    batch = next(iter(training.batches.training_loader(0)))
    found = training.learner.step(batch, 1)
    assert np.isfinite(float(found["training/loss"]))
    after = training.model.state_dict()
    assert all(torch.isfinite(value).all() for value in after.values())
    assert any(not torch.equal(after[key], before[key]) for key in before if key.startswith("network."))
    probability = predictor(training.model.eval(), "off", torch.device("cpu"))(first_image(made))["kelp"]
    assert probability.shape == (1, 2, SIDE, SIDE)
    torch.testing.assert_close(probability.sum(1), torch.ones(1, SIDE, SIDE))


@pytest.mark.parametrize("name", TRAININGS)
def test_c64_every_training_selects_by_the_score_of_the_challenge(name: str) -> None:
    config = committed(name)
    assert config.validation.metric == "validation/f1_fg"
    assert list(config.tasks) == ["kelp"]
    assert config.tasks["kelp"].classes == ("background", "kelp")
    assert config.data.split.column == "split_0"  # type: ignore[union-attr]


def test_c44_c48_c53_recipes_are_those_of_the_winners() -> None:
    best, third, sahi = (committed(f"training_{name}") for name in ("k_best", "third_place", "sahi"))
    made = best.channels(available=BANDS)
    assert made.names == ("R", "G", "B", "SWIR", "NIR", "QA", "DEM", *BEST_INDICES)
    assert len(made.names) == 24
    assert isinstance(best.data.sampler, TileQuality)
    assert list(best.data.sampler.factors.values()) == [3, 0.2, 0, -1, 0.5, 0.25, -1]
    assert best.resize == Pad(multiple=32)
    assert isinstance(third.resize, Resize)
    assert isinstance(sahi.resize, Resize)
    assert third.resize.apply(torch.zeros(1, 1, 350, 350)).shape[-1] == 768
    assert sahi.resize.apply(torch.zeros(1, 1, 128, 128)).shape[-1] == 320
    assert sahi.channels.keywords == best.channels.keywords


def test_c53_generated_tiles_have_every_column_that_the_weights_ask_for(made: Path) -> None:
    sampler = committed("training_k_best").data.sampler
    assert isinstance(sampler, TileQuality)
    tiles = read_tiles(made / "tiles")
    weights = quality_weights(tiles, sampler.factors, sampler.floor)
    shares = {name: tiles[name] / 100 for name in tiles if name.endswith("_pct")}
    expected = (
        3 * tiles["has_target"] + 0.2 * (1 - shares["target_pct"]) - (1 - shares["corrupted_pct"])
        + 0.5 * (1 - shares["water_pct"]) + 0.25 * (1 - shares["dem_missing_pct"]) - (1 - shares["dem_zero_pct"])
    ).astype(float)  # fmt: skip
    expected = (expected - expected.min()) / (expected.max() - expected.min())
    np.testing.assert_allclose(weights, expected.clip(lower=sampler.floor))
    assert weights[tiles["has_target"].astype(bool)].min() > weights[~tiles["has_target"].astype(bool)].max()


def test_c34_slices_of_128_px_cover_every_tile_and_know_their_fold(made: Path) -> None:
    slices, tiles = read_tiles(made / "tiles_sahi"), read_tiles(made / "tiles")
    slices = slices[slices["split_0"].notna()]  # without those of mislabelled tiles
    assert set(slices["scene"]) == set(tiles["scene"])
    assert set(zip(slices["row"], slices["col"], strict=True)) <= {(r, c) for r in (0, 128, 256) for c in (0, 128, 256)}
    assert (slices[["height", "width"]] == 128).all().all()
    sides = tiles.set_index("scene")["split_0"]
    assert (slices["split_0"].to_numpy() == sides[slices["scene"]].to_numpy()).all()
    area = slices.groupby("scene")[["core_height", "core_width"]].apply(lambda t: (t.iloc[:, 0] * t.iloc[:, 1]).sum())
    assert (area == SIDE**2).all()


def test_c48_c91_a_training_that_enlarges_its_input_leaves_a_run_that_maps_tiles(
    made: Path, tmp_path: Path, script: Script, last_run: Callable[[], Run]
) -> None:
    settings = {
        "data.tiles_path": made / "tiles", "data.samples_per_epoch": 8, "data.limit": 4, "epochs": 1, "device": "cpu",
        "resize": '{"_target_": "swath.nn.resizing:Resize", "factor": 1.5, "mode": "bicubic"}', "model.filters": "4,8",
        "output_path": tmp_path / "training",
    }  # fmt: skip
    assert script("training", "configs/kelp/training_demo.py", **settings) == 0
    run_id = last_run().info.run_id
    assert script(
        "inference", "configs/demo/inference.py", run_id=run_id, input_path=made / "scenes", output_path=tmp_path / "maps",
        only='{"original_split": ["test"]}', labels_path=None, sliding__window=SIDE, sliding__overlap=0, device="cpu",
    ) == 0  # fmt: skip
    maps = find_rasters(tmp_path / "maps" / "probabilities")
    assert len(maps) == len(find_rasters(made / "input" / "test" / "images"))
    record = fetch_record(run_id, tracking.fetch)
    assert record.model.resize == Resize(factor=1.5, mode="bicubic")
    for path in maps:
        key = path.stem
        with RasterReader(made / "input" / "test" / "images" / f"{key}_satellite.tif", (MISSING,)) as reader:
            image = torch.from_numpy(reader.image())[None]
        expected = predictor(record.model, "off", torch.device("cpu"))(image)["kelp"][0, 1]
        with RasterReader(path) as reader:
            np.testing.assert_allclose(reader.image()[-1], expected, atol=1e-3)
