"""What fields are to a result: settings, inputs, outputs, or not decisive."""

from __future__ import annotations

from dataclasses import replace

from swath.config import PROJECT_ROOT, NotDecisive, decisive, inputs_of, load, references_of
from swath.config.classes import configclass
from swath.data.samples.samplers import ShiftCorrection
from swath.prediction.config import InferenceConfig
from swath.steps.config import StepConfig
from swath.training.config import TrainingConfig, WarmStart


def training() -> TrainingConfig:
    return load("configs/demo/training.py", TrainingConfig)


def test_c05_what_does_not_decide_is_left_out_of_the_settings() -> None:
    config = training()
    data = replace(config.data, cache="mmap", cache_path="elsewhere", workers=7, tiles_path="moved")
    other = replace(config, data=data, name="x", log_every=1, checkpoint_every=1, device="cpu", output_path="other")
    assert decisive(other) == decisive(config)
    for changed in (replace(config, seed=9), replace(config, epochs=3), replace(config, data=replace(data, crop=64))):
        assert decisive(changed) != decisive(config)


def test_c05_inputs_are_files_and_folders_in_any_part_of_a_config() -> None:
    config = training()
    data = replace(config.data, tiles_path="a;b/c", sampler=ShiftCorrection(test_path="t", fields=("area",)))
    found = inputs_of(replace(config, data=data, warm_start=WarmStart(weights="w.pt")))
    assert found == {
        "data.tiles_path": [PROJECT_ROOT / "a", PROJECT_ROOT / "b/c"],
        "data.sampler.test_path": [PROJECT_ROOT / "t"],
        "warm_start.weights": [PROJECT_ROOT / "w.pt"],
    }
    warm = replace(config, warm_start=WarmStart(weights="runs:/abc"))
    assert inputs_of(warm)["warm_start.weights"] == []
    assert references_of(warm) == {"warm_start.weights": "runs:/abc"}
    labels = load("configs/demo/inference.py", InferenceConfig)
    labels = replace(labels, also_score={"fine": "f", "coarse": "c"}, labels_path="l")
    assert inputs_of(labels)["also_score"] == [PROJECT_ROOT / "f", PROJECT_ROOT / "c"]


@configclass
class OtherDefault(StepConfig):
    """Gives a field of its base another default, without a word about its role."""

    executor: str = "serial"
    factor: int = 1
    own: NotDecisive[int | None] = None


def test_c05_a_role_is_inherited_with_the_field() -> None:
    assert set(decisive(OtherDefault())) == {"factor"}
