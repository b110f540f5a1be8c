"""What version 0.1.0 left, before its modules moved, is read by their new names: records, states, ledgers."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import swath.config
from swath.config import build, digest, resolve
from swath.data.tables import read_scenes
from swath.errors import StepError
from swath.geo.raster import find_rasters, read_image
from swath.nn.resizing import Pad
from swath.prediction.config import InferenceConfig
from swath.prediction.scenes import predict_scenes
from swath.steps.executors import SerialExecutor
from swath.steps.ledger import Ledger
from swath.steps.run import run_jobs
from swath.training.loop import Reports
from swath.training.model_record import read_record
from swath.training.trainer import build_training
from tests.before_the_move.training import EPOCHS, HERE, KILLED_AT, STEPS, config, make_tiles
from tests.jobs import Call


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project's root with the scenes and tiles that version 0.1.0 was given."""
    monkeypatch.setattr("swath.config.paths.PROJECT_ROOT", tmp_path)
    make_tiles(tmp_path)
    return tmp_path


def test_c88_c89_a_model_record_of_before_maps_a_scene_as_before(project: Path) -> None:
    assert "swath.nn.unet:UNet" in (HERE / "model" / "model.json").read_text()
    scenes = read_scenes(project / "scenes")
    settings = InferenceConfig(run_id="before", input_path="scenes", output_path="maps", device="cpu")
    predict_scenes(settings, read_record(HERE / "model"), scenes, project / "maps")
    probability = read_image(find_rasters(project / "maps" / "probabilities")[2])[0]
    before = np.loadtxt(HERE / "probabilities.txt", dtype=np.float32)  # every eighth pixel
    np.testing.assert_allclose(probability[::8, ::8], before, atol=2e-4)


def test_c88_a_training_of_before_goes_on(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.copytree(HERE / "training", project / "training")
    logged: list[int] = []
    reports = Reports(metrics=lambda values, step: logged.append(step), evaluation=lambda *_: None)
    training = build_training(config(), reports)
    with caplog.at_level(logging.INFO, "swath.training"):
        found = training.run().state_dict()
    assert f"going on at iteration {KILLED_AT - 1} of {STEPS * EPOCHS}" in caplog.text
    assert logged[:STEPS] == list(range(1, STEPS + 1))  # what was logged before the kill
    whole = read_record(HERE / "model").model.state_dict()
    assert all(torch.allclose(found[name], whole[name], atol=1e-4) for name in whole if name in found)
    assert set(whole) == set(found)


def test_c88_a_config_of_version_0_2_keeps_its_digest_until_a_new_field_says_something() -> None:
    asked = config()
    assert digest(asked) == "85b43c014155"  # as version 0.2.0 named its state
    assert digest(replace(asked, data=replace(asked.data, echo=1))) == digest(asked)
    for other in (
        replace(asked, data=replace(asked.data, echo=2)),
        replace(asked, validation=replace(asked.validation, tta="d4")),
        replace(asked, validation=replace(asked.validation, training_scores=True)),
        replace(asked, resize=Pad()),
    ):
        assert digest(other) != digest(asked)
        assert resolve(build(resolve(other))) == resolve(other)  # what is recorded is whole


def test_c13_a_ledger_of_before_is_given_up_with_a_message_unless_its_settings_were_others(
    project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {
        "input_path": "scenes", "masks_path": None, "write": True, "missing_values": [],
        "tiling": "swath.geo.windows:ConstantSize", "tiling.size": 48, "tiling.min_overlap": 8,
        "policy": "swath.data.samplers:TargetPresence", "loss": "swath.nn.losses:CrossEntropy",
    }  # fmt: skip
    folder = project / "step"
    folder.mkdir()
    (folder / "step.done.jsonl").write_text(json.dumps({"key": "a", "digest": "0123456789ab", "result": "A"}) + "\n")
    (folder / "step.settings.json").write_text(json.dumps({"settings": settings}))
    items = [Call(key="a", argument="A", function=str.lower)]

    now = {name: renamed(value) for name, value in settings.items() if not name.endswith("_path")}
    with pytest.raises(StepError, match=r"other settings \(tiling.size: 48 before, 64 now\)"):
        Ledger(folder, "step", now | {"tiling.size": 64}).prepare(items, False, {})
    ledger = Ledger(folder, "step", now)
    ledger.prepare(items, False, {})
    assert ledger.finished(items) == {}
    assert "made by version 0.2 or older of swath" in caplog.text
    assert "they are made again" in caplog.text
    assert run_jobs(items, ledger, SerialExecutor()).results == {"a": "a"}
    assert Ledger(folder, "step", now).finished(items) == {"a": "a"}


def renamed(value: Any) -> Any:
    """The name that a class has now."""
    if not isinstance(value, str) or ":" not in value:
        return value
    found = swath.config.locate(value)
    return f"{found.__module__}:{found.__qualname__}"
