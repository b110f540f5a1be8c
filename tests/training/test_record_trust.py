"""A run's model record comes from elsewhere: it runs nobody's code, and damaged weights are told."""

from __future__ import annotations

import json
import logging
import pickle
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import mlflow
import pytest
import torch

from swath.errors import ConfigError, TrackingError, TrainingError
from swath.nn.networks.unet import UNet
from swath.training.checkpoint import load_state, read_tensors
from swath.training.config import ValidationConfig
from swath.training.model_record import DESCRIPTION, DIGESTS, WEIGHTS, read_record, write_record
from tests.before_the_move.training import HERE
from tests.conftest import Script
from tests.runs import training_run
from tests.synthetic import write_scenes
from tests.trainings import small, trained


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """The record of a training of version 0.1.0, as a copy."""
    return Path(shutil.copytree(HERE / "model", tmp_path / "model"))


def changed(record: Path, **entries: object) -> None:
    path = record / DESCRIPTION
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


@pytest.fixture(scope="module")
def written(tiles: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The record of a small training that kept its last weights, too."""
    root = tmp_path_factory.mktemp("record")
    config = small(tiles, root / "out", epochs=2, model=partial(UNet, filters=(4, 8)))
    training, _ = trained(replace(config, validation=ValidationConfig(panels=0, keep_last=True)))
    write_record(training, root / "model")
    return root / "model"


# ------------------------------------------------------------------------------------------------------- what is built


@pytest.mark.parametrize("part", ["channels", "fill", "normaliser", "model"])
def test_c130_a_record_that_names_a_callable_does_not_run_it(record: Path, tmp_path: Path, part: str) -> None:
    changed(record, **{part: {"_target_": "tests.training.test_record_trust:leave_a_trace", "folder": str(tmp_path)}})
    with pytest.raises(TrackingError, match=r"model\.json: .*leave_a_trace is not built.*-P trust=tests"):
        read_record(record)
    assert not (tmp_path / "ran").exists()
    with pytest.raises(TrackingError, match="no model can be built"):  # it is called now, and is no part of a model
        read_record(record, trust=("tests",))
    assert (tmp_path / "ran").exists()


def leave_a_trace(folder: str, **arguments: object) -> None:
    """What an attacker would run."""
    (Path(folder) / "ran").touch()
    raise TypeError("no part of a model")


def test_c130_inference_refuses_such_a_record_and_says_what_to_type(
    script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenes = write_scenes(tmp_path / "scenes", 2, (64, 64))
    run_id = training_run(tmp_path / "record", train=scenes[:1])
    hub = {"_target_": "torch.hub:load", "repo_or_dir": str(tmp_path), "model": "evil", "source": "local"}
    (tmp_path / "hubconf.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    changed(tmp_path / "record", model=hub)
    mlflow.MlflowClient().log_artifact(run_id, str(tmp_path / "record" / DESCRIPTION), "model")
    given = {"run_id": run_id, "input_path": scenes[1], "labels_path": None, "output_path": tmp_path / "maps"}
    assert script("inference", "configs/demo/inference.py", **given) == 1
    said = capsys.readouterr().err
    assert "torch.hub:load is not built" in said
    assert "-P trust=torch.hub (--trust torch.hub)" in said
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("entries", [{"model": 7}, {"bands": None}, {"tasks": {"water": 7}}, {"sha256": 7}])
def test_c130_a_description_that_is_none_is_an_error(record: Path, entries: dict[str, object]) -> None:
    changed(record, **entries)
    with pytest.raises((TrackingError, ConfigError)):
        read_record(record)


# ------------------------------------------------------------------------------------------------------------- weights


def flipped(path: Path) -> None:
    """Flip one bit in the last tensor of a file."""
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)


def test_c130_a_flipped_bit_in_weights_is_told(written: Path, tmp_path: Path) -> None:
    record = Path(shutil.copytree(written, tmp_path / "copy"))
    assert set(json.loads((record / DESCRIPTION).read_text())[DIGESTS]) == {
        p.name for p in record.glob("*.safetensors")
    }
    assert len(list(record.glob("*.safetensors"))) == 2
    for name in ("best", "last"):
        read_record(record, name)
    last = next(path for path in record.glob("*.safetensors") if path.name != WEIGHTS)
    flipped(last)
    read_record(record)
    with pytest.raises(TrackingError, match=rf"{last.name}: is damaged .* Fetch the run's folder model again"):
        read_record(record, "last")
    flipped(record / WEIGHTS)
    with pytest.raises(TrackingError, match=r"weights\.safetensors: is damaged"):
        read_record(record)


def test_c89_a_record_without_digests_is_read_with_a_notice(record: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "swath.training"):
        read_record(record)
    assert "has no digest of it" in caplog.text


# ------------------------------------------------------------------------------------------------------------- pickles


class Bomb:
    """A pickle that leaves a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_c130_a_state_or_weights_with_a_pickle_in_them_run_nothing(tmp_path: Path, save: object) -> None:
    state, ran = tmp_path / "state.pt", tmp_path / "ran"
    save({"iteration": 3, "model": {"a": Bomb(ran)}}, state)  # type: ignore[operator]
    with pytest.raises(TrainingError, match=r"state\.pt: cannot be read"):
        load_state(state)
    with pytest.raises(ConfigError, match=r"state\.pt: cannot be read as weights"):
        read_tensors(state)
    assert not ran.exists()
    torch.load(state, weights_only=False) if save is torch.save else pickle.loads(state.read_bytes())
    assert ran.exists()  # the bomb works
