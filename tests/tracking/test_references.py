"""Inference takes a model by a run's id, runs:/, models:/ or a folder: one record, one map, one check of its scenes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import mlflow
import numpy as np
import pytest

from swath import tracking
from swath.errors import TrackingError
from swath.geo.raster import read_image
from swath.tracking.references import ModelReference, parse_reference
from tests.conftest import Script
from tests.runs import training_run
from tests.synthetic import write_scenes

pytestmark = pytest.mark.system

ID = "0123456789abcdef" * 2


@dataclass(frozen=True)
class Trained:
    """A model that `scenes[0]` trained, wherever it can be found."""

    run_id: str
    record: Path
    logged: str
    scenes: list[Path]
    masks: Path

    @property
    def references(self) -> dict[str, str]:
        return {
            "run id": self.run_id, "run": f"runs:/{self.run_id}", "artifact": f"runs:/{self.run_id}/model",
            "weights of a run": f"runs:/{self.run_id}/model/weights.safetensors", "folder": str(self.record),
            "weights in a folder": str(self.record / "weights.safetensors"), "version": "models:/water/1",
            "alias": "models:/water@champion", "latest": "models:/water/latest", "logged model": f"models:/{self.logged}",
        }  # fmt: skip


def register(client: mlflow.MlflowClient, run_id: str) -> str:
    """A version of the registered model `water` with the record of a run; it becomes the champion."""
    source = f"{client.get_run(run_id).info.artifact_uri}/model"
    version = client.create_model_version("water", source, run_id).version
    client.set_registered_model_alias("water", "champion", version)
    return str(version)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, store: str) -> Trained:
    folder = tmp_path_factory.mktemp("trained")
    scenes = write_scenes(folder / "scenes", 2, (40, 48), folder / "masks")
    run_id = training_run(folder / "record", train=scenes[:1])
    client = mlflow.MlflowClient()
    client.create_registered_model("water")
    register(client, run_id)
    model = client.create_logged_model(client.get_run(run_id).info.experiment_id, "water", source_run_id=run_id)
    (folder / "logged" / "artifacts").mkdir(parents=True)
    (folder / "record").rename(folder / "logged" / "artifacts" / "record")  # a record may lie deeper in a model
    client.log_model_artifacts(model.model_id, str(folder / "logged"))
    client.finalize_logged_model(model.model_id, "READY")
    return Trained(run_id, folder / "logged" / "artifacts" / "record", model.model_id, scenes, folder / "masks")


@pytest.fixture
def infer(script: Script, trained: Trained, tmp_path: Path) -> Callable[..., int]:
    def run(reference: str, **more: object) -> int:
        settings = {
            "input_path": trained.scenes[1], "labels_path": None, "output_path": tmp_path / "maps", "device": "cpu",
            "sliding.window": 32, "sliding.overlap": 8,
        }  # fmt: skip
        return script("inference", "configs/demo/inference.py", run_id=reference, **(settings | more))

    return run


def only_map(folder: Path) -> np.ndarray:
    (path,) = (folder / "probabilities").rglob("*.tif")
    return read_image(path)


def test_c89_every_way_to_name_a_model_gives_its_map(
    infer: Callable[..., int], trained: Trained, tmp_path: Path, last_run: Callable[[], mlflow.entities.Run]
) -> None:
    assert infer(trained.run_id) == 0
    expected = only_map(tmp_path / "maps")
    assert np.nanstd(expected) > 0
    for number, (name, reference) in enumerate(trained.references.items()):
        output = tmp_path / str(number)
        assert infer(reference, output_path=output) == 0, name
        assert np.array_equal(only_map(output), expected, equal_nan=True), name
        if "folder" not in name:
            assert last_run().data.tags["swath.training_run"] == trained.run_id, name


@pytest.mark.parametrize("name", ["run", "alias", "logged model", "folder", "weights in a folder"])
def test_c89_c83_scenes_that_trained_a_model_are_refused_however_it_is_named(
    infer: Callable[..., int], script: Script, trained: Trained, tmp_path: Path, name: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    reference = trained.references[name]
    home = trained.scenes[0].parent
    assert infer(reference, input_path=home, labels_path=trained.masks / "area0") == 1
    assert "trained this model" in capsys.readouterr().err
    assert infer(reference, input_path=home) == 0
    paths = {"preds_path": tmp_path / "maps/classes", "gt_path": trained.masks / "area0"}
    assert script("validate", "configs/demo/validate.py", **paths) == 1
    assert "trained this model" in capsys.readouterr().err


def test_c83_what_a_refusal_says_can_be_typed(
    infer: Callable[..., int], script: Script, trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"input_path": trained.scenes[0].parent, "labels_path": trained.masks / "area0"}
    assert infer(trained.run_id, **given) == 1
    remedy = dict(re.findall(r"-P (\S+)=(\w+)", capsys.readouterr().err))
    assert remedy == {"allow_leaks": "True"}
    assert infer(trained.run_id, **given, **remedy) == 0
    capsys.readouterr()
    paths = {"preds_path": tmp_path / "maps/classes", "gt_path": trained.masks / "area0"}
    assert script("validate", "configs/demo/validate.py", **paths) == 1
    assert "only `inference` scores these, with -P labels_path=" in capsys.readouterr().err


def test_c89_an_alias_that_moves_on_and_a_folder_that_changes_are_predicted_again(
    infer: Callable[..., int], trained: Trained, tmp_path: Path, last_run: Callable[[], mlflow.entities.Run]
) -> None:
    def settings() -> str:
        return str(json.loads((tmp_path / "maps/inference.settings.json").read_text())["settings"]["run_id"])

    assert infer("models:/water@champion") == 0
    first = only_map(tmp_path / "maps")
    assert settings() == "models:/water/1"
    assert infer("models:/water/1") == 0
    assert last_run().data.metrics["inference/done_now"] == 0
    other = tmp_path / "record"
    version = register(mlflow.MlflowClient(), training_run(other, train=trained.scenes[:1], seed=1))
    try:
        assert infer("models:/water@champion") == 1  # maps of another model are no maps to be written over by chance
        assert infer("models:/water@champion", replace=True) == 0
    finally:
        mlflow.MlflowClient().set_registered_model_alias("water", "champion", "1")
    assert settings() == f"models:/water/{version}"
    second = only_map(tmp_path / "maps")
    assert not np.array_equal(first, second, equal_nan=True)

    assert infer(str(other), replace=True) == 0
    assert np.array_equal(only_map(tmp_path / "maps"), second, equal_nan=True)
    before = settings()
    training_run(other, train=trained.scenes[:1], seed=0)
    assert infer(str(other), replace=True) == 0
    assert settings() != before
    assert np.array_equal(only_map(tmp_path / "maps"), first, equal_nan=True)


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("", "run_id is empty: which model is to be used? Pass -P run_id=<id of a training run>"),
        ("runs:/", "run_id=runs:/: names no run or model"),
        ("nosuchrun", "run_id=nosuchrun: no such run in sqlite:"),
        ("models:/fire/1", "run_id=models:/fire/1: no such model in the registry"),
        ("models:/water@nobody", "run_id=models:/water@nobody: no such model in the registry"),
        ("models:/a/b/c", "run_id=models:/a/b/c: no such model in the registry"),
        ("configs", "run_id=configs: holds no"),
    ],
)
def test_c89_a_reference_to_no_model_is_named_with_the_ways_to_name_one(
    infer: Callable[..., int], capsys: pytest.CaptureFixture[str], reference: str, said: str
) -> None:
    assert infer(reference) == 1
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


def test_c89_references_are_taken_apart(tmp_path: Path) -> None:
    assert parse_reference(f"runs:/{ID}/") == ModelReference("run", ID)
    assert parse_reference(f"runs:/{ID}/deep/er") == ModelReference("run", ID, "deep/er")
    assert parse_reference(f"runs:/{ID}/model/last.safetensors") == ModelReference(
        "run", ID, "model", "last.safetensors"
    )
    assert parse_reference(f"{tmp_path}#0123") == ModelReference("folder", str(tmp_path), "")
    assert parse_reference(ID) == ModelReference("run", ID)
    with pytest.raises(TrackingError, match="run_id is empty"):
        parse_reference("  ")


def test_c62_weights_to_start_from_are_found_by_every_reference(trained: Trained, tmp_path: Path) -> None:
    expected = (trained.record / "weights.safetensors").read_bytes()
    for number, name in enumerate(("run", "artifact", "weights of a run", "alias", "logged model")):
        (tmp_path / str(number)).mkdir()
        found = tracking.located(trained.references[name], "model/weights.safetensors", tmp_path / str(number))
        assert found.read_bytes() == expected, name
    assert tracking.located(str(tmp_path / "a.pt"), "", tmp_path) == tmp_path / "a.pt"
