"""Model records that are damaged: what, not is named with its file and what to do, whatever it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas as gpd
import pytest

from swath.errors import CatalogError, SwathError, TrackingError, TrainingError
from swath.nn.resizing import Resize
from swath.training.model_record import DESCRIPTION, INDEX, TILES, WEIGHTS, read_record
from tests.conftest import Script
from tests.runs import training_run
from tests.synthetic import cut_in_half, write_scenes

TRUST = ("tests",)
"""The network of the records is of the tests."""


@pytest.fixture
def record(store: str, tmp_path: Path) -> Path:
    """The record of a model that was trained on one scene."""
    scenes = write_scenes(tmp_path / "scenes", 1, (32, 40))
    training_run(tmp_path / "record", scenes)
    return tmp_path / "record"


Edit = Callable[[dict[str, Any]], Any]


def without(name: str) -> Edit:
    return lambda found: {key: value for key, value in found.items() if key != name}


def with_(**values: Any) -> Edit:
    return lambda found: found | values


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda found: [found], "should be a valid dictionary"),
        (lambda found: None, "should be a valid dictionary, got None"),
        *((without(name), f"`{name}` is missing") for name in ("channels", "model", "tasks", "rgb", "bands")),
        (with_(bands="vh"), "`bands`: input should be a valid list, got 'vh'"),
        (with_(bands=[1, 2, 3]), "`bands.0`: input should be a valid string, got 1"),
        (with_(bands=[]), "`bands`: list should have at least 1 item"),
        (with_(tasks={}), "`tasks`: dictionary should have at least 1 item"),
        (with_(tasks={"water": 2}), "`tasks.water`: input should be a valid dictionary, got 2"),
        (with_(model="tests.synthetic:PixelNet"), "`model`: input should be a valid dictionary"),
        (with_(missing_zones=64), "`missing_zones`: input should be a valid dictionary, got 64"),
        (with_(model={"_target_": "tests.synthetic:PixelNet", "depth": 3}), "unexpected keyword argument 'depth'"),
        (with_(model={"_target_": "tests.synthetic:PixelNet", "width": -1}), "no model can be built"),
        (with_(model={"_target_": "tests.synthetic:PixelNet", "width": "wide"}), "no model can be built"),
        (with_(model={}), "no model can be built"),
        (with_(tasks={"water": {"classes": 2}}), "no model can be built"),
        (with_(resize=2.0), "`resize`: input should be a valid dictionary, got 2.0"),
        (with_(resize={"_target_": "swath.geo.zones:MissingZones"}), "resize: no such part"),
        (with_(resize={"_target_": "swath.nn.resizing:Resize", "zoom": 2.0}), "no model can be built"),
    ],
)
def test_c129_a_damaged_description_is_named_with_what_is_wrong(record: Path, edit: Edit, said: str) -> None:
    path = record / DESCRIPTION
    path.write_text(json.dumps(edit(json.loads(path.read_text()))))
    with pytest.raises(TrackingError) as error:
        read_record(record, trust=TRUST)
    for word in (str(path), said, "Pass a training's run id, or fetch the record of the run again."):
        assert word in str(error.value)


def test_c48_c89_a_record_brings_back_the_size_that_the_network_sees(record: Path) -> None:
    path = record / DESCRIPTION
    description = json.loads(path.read_text())
    assert read_record(record, trust=TRUST).model.resize is None
    path.write_text(json.dumps(description | {"resize": {"_target_": "swath.nn.resizing:Resize", "factor": 1.5}}))
    assert read_record(record, trust=TRUST).model.resize == Resize(factor=1.5)
    path.write_text(json.dumps(without("resize")(description)))  # version 0.3.0 and before knew none
    assert read_record(record, trust=TRUST).model.resize is None


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00\x00", b"[" * 100_000, b'{"bands": ' + b"9" * 5000])
def test_c129_a_description_that_is_no_json_is_named(record: Path, content: bytes) -> None:
    (record / DESCRIPTION).write_bytes(content)
    with pytest.raises(TrackingError, match=rf"{DESCRIPTION}: is not JSON.*Pass a training's run id"):
        read_record(record, trust=TRUST)


@pytest.mark.parametrize(
    ("index", "said"),
    [
        ("{", "is not JSON"),
        ("[]", "should be a valid dictionary"),
        ('{"last": "weights.safetensors"}', "`last`: input should be a valid dictionary"),
        ('{"last": {}}', "`last.file` is missing"),
        ('{"last": {"file": 5}}', "`last.file`: input should be a valid string, got 5"),
        ('{"last": {"file": "../elsewhere.safetensors"}}', "'../elsewhere.safetensors' is no name of a file beside it"),
        ('{"last": {"file": ""}}', "'' is no name of a file beside it"),
    ],
)
def test_c129_a_damaged_index_of_weights_is_named(record: Path, index: str, said: str) -> None:
    (record / INDEX).write_text(index)
    assert read_record(record, trust=TRUST).bands == ("vh", "vv", "mean")  # the best ones are not in it
    with pytest.raises(SwathError) as error:
        read_record(record, "last", TRUST)
    assert str(record) in str(error.value)
    assert said in str(error.value)


def test_c129_damaged_weights_are_named(record: Path) -> None:
    cut_in_half(record / WEIGHTS)
    with pytest.raises(TrainingError, match=rf"{WEIGHTS}: cannot be read as safetensors"):
        read_record(record, trust=TRUST)


def test_c129_a_damaged_table_of_tiles_is_named(record: Path) -> None:
    path = record / TILES
    frame = gpd.read_parquet(path)
    frame.assign(height=-5).to_parquet(path)
    with pytest.raises(CatalogError, match=rf"{TILES}: column `height`, row 0 at key '.*': holds -5, not"):
        read_record(record, trust=TRUST)
    cut_in_half(path)
    with pytest.raises(CatalogError, match=rf"{TILES}: cannot be read as a table"):
        read_record(record, trust=TRUST)


def test_c129_inference_with_a_damaged_record_is_one_line(
    script: Script, record: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = record / DESCRIPTION
    path.write_text(path.read_text().replace('"bands"', '"bonds"'))
    given = {"run_id": record, "input_path": tmp_path / "scenes", "output_path": tmp_path / "maps", "labels_path": None}
    assert script("inference", "configs/demo/inference.py", **given) == 1
    said = capsys.readouterr().err
    assert "error: " in said
    assert f"{DESCRIPTION}: `bands` is missing" in said
    assert "Traceback" not in said
    assert not list((tmp_path / "maps").rglob("*.tif"))
