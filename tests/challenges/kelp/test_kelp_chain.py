"""The chain of the kelp challenge in real processes, on few tiles: from files as they are delivered to the archive."""

from __future__ import annotations

import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from swath.config import load
from swath.data.tables import read_scenes
from swath.studies.pipeline import PipelineConfig, PipelineStep
from tests.studies.test_pipeline import project
from tests.synthetic import times

pytestmark = pytest.mark.system

SMALL = {
    "generate_demo_scenes": {"tiles": "24", "aois": "10"},
    "assign_folds": {"folds.folds": "2", "folds.strata": "[]"},
}
QUICK = {"data.samples_per_epoch": "8", "data.batch": "4", "data.crop": "64", "epochs": "1", "validation.panels": "0"}


def small_chain(folder: Path) -> Path:
    """The committed chain with other folders and sizes, as a config file."""
    config = load("configs/kelp/pipeline.py", PipelineConfig)
    steps = [replace(step, parameters=_parameters(step, folder)) for step in config.steps]
    file = folder / "pipeline.py"
    imports = "from swath.studies.pipeline import PipelineConfig, PipelineStep"
    file.write_text(f'"""Small."""\n{imports}\nconfig = {replace(config, steps=tuple(steps))!r}\n')
    return file


def _parameters(step: PipelineStep, folder: Path) -> dict[str, str]:
    moved = {name: text.replace("output/kelp/demo", str(folder)) for name, text in step.parameters.items()}
    if step.entry_point == "cross_validation":
        moved["parameters"] = json.dumps(json.loads(moved["parameters"]) | QUICK)
    return moved | SMALL.get(step.entry_point, {})


def test_c100_tiles_become_a_checked_archive_and_what_is_deleted_is_made_again(tmp_path: Path) -> None:
    database, file = tmp_path / "mlflow.db", small_chain(tmp_path)
    first = project(["-e", "pipeline", "-P", f"config_path={file}"], database)
    assert first.returncode == 0, first.stderr[-3000:]
    scenes = read_scenes(tmp_path / "folds")
    tests = sorted(scenes["key"][scenes["original_split"] == "test"])
    archive = tmp_path / "submission" / "submission.tar"
    with tarfile.open(archive) as packed:
        assert sorted(packed.getnames()) == [f"{key}_kelp.tif" for key in tests]
    for number in (0, 1):
        held = {path.stem for path in (tmp_path / f"two_folds/base/{number}/classes").rglob("*.tif")}
        assert held == set(scenes["key"][scenes["judged_in"] == str(number)])
        mapped = {path.stem for path in (tmp_path / f"two_folds/test/base/{number}/classes").rglob("*.tif")}
        assert mapped == set(tests)
    table = pd.read_csv(tmp_path / "two_folds" / "cross_validation.csv")
    assert table.loc[table["of"] == "all", "scenes"].item() == scenes["judged_in"].notna().sum()
    before = times(tmp_path / "submission" / "tiles") | times(tmp_path / "two_folds")
    content = archive.read_bytes()
    gone = next((tmp_path / "two_folds/test/base/1/classes").rglob("*.tif"))
    gone.unlink()
    second = project(["-e", "pipeline", "-P", f"config_path={file}"], database)
    assert second.returncode == 0, second.stderr[-3000:]
    assert archive.read_bytes() == content
    after = times(tmp_path / "submission" / "tiles") | times(tmp_path / "two_folds")
    changed = {name for name in before if before[name] != after[name]}
    place = f"{gone.parent.name}/{gone.name}"
    assert changed == {f"test/base/1/{kind}/{place}" for kind in ("classes", "probabilities")}
