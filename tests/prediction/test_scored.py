"""Which labels an inference is scored against: none that is asked for may be lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from swath.config.overrides import override
from swath.errors import ConfigError
from swath.prediction.config import InferenceConfig
from swath.prediction.scored import label_folders
from tests.conftest import Script
from tests.runs import training_run
from tests.synthetic import write_scenes


def config(**changes: object) -> InferenceConfig:
    return InferenceConfig(run_id="r", input_path="scenes", output_path="maps", **changes)


def test_c76_labels_by_the_prefix_of_their_scores() -> None:
    assert label_folders(config()) == {}
    assert label_folders(config(labels_path="a")) == {"test": "a"}
    found = label_folders(config(labels_path="a", also_score={"official": "b"}, score_prefix="own"))
    assert list(found.items()) == [("own", "a"), ("official", "b")]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"also_score": {"official": "b"}}, r"also_score\.official=b: nothing is scored without labels_path"),
        (
            {"labels_path": "a", "also_score": {"test": "b"}},
            r"also_score\.test=b: test is the score_prefix .*labels_path=a",
        ),
        ({"labels_path": "a", "also_score": {"classes": "b"}}, r"also_score\.classes=b: no name for scores"),
        ({"labels_path": "a", "also_score": {"baseline": "b"}}, r"also_score\.baseline=b: no name for scores"),
        ({"labels_path": "a", "also_score": {"../out": "b"}}, r"also_score\.\.\./out=b: no name for scores"),
    ],
)
def test_c76_scores_that_would_be_lost_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        label_folders(config(**changes))


def test_c76_c83_labels_that_nothing_is_scored_by_are_refused_before_anything_is_predicted(
    script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_scenes(tmp_path / "scenes", 1, (40, 40), tmp_path / "masks")
    seen = write_scenes(tmp_path / "seen", 1, (40, 40))
    paths = {"input_path": tmp_path / "scenes", "output_path": tmp_path / "maps", "labels_path": None}
    given = {
        "run_id": training_run(tmp_path / "record", seen),
        "also_score": json.dumps({"official": str(tmp_path / "masks")}),
    }
    assert script("inference", "configs/demo/inference.py", **paths, **given) == 1
    error = capsys.readouterr().err
    assert f"Set labels_path={tmp_path / 'masks'}" in error
    assert not (tmp_path / "maps").exists()


def test_c76_maps_without_any_labels_are_asked_for_as_the_message_says() -> None:
    wanted = override(config(also_score={"official": "b"}), "also_score", "{}")
    assert label_folders(wanted) == {}
