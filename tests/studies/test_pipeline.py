"""Entry points as `mlflow run` starts them, and the chain of all of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import mlflow
import pytest

from swath import config as configs
from swath.errors import ConfigError
from swath.studies.pipeline import PipelineConfig, PipelineStep, chain_of, config_of, fill_in, plan_steps
from tests.conftest import ROOT, Script, child_environment
from tests.synthetic import times

pytestmark = pytest.mark.system


def project(arguments: list[str], database: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mlflow", "run", str(ROOT), "--env-manager", "local", *arguments]
    return subprocess.run(
        command, cwd=database.parent, env=child_environment(database), capture_output=True, text=True, check=False
    )


def chain(folder: Path) -> Path:
    """Two steps of the demo at small size."""
    file = folder / "pipeline.py"
    file.write_text(
        '"""A chain for a test."""\nfrom swath.studies.pipeline import PipelineConfig, PipelineStep\n'
        f"root = {str(folder)!r}\n"
        "config = PipelineConfig(name='small', steps=(\n"
        "    PipelineStep(entry_point='generate_demo_scenes', config_path='configs/demo/generate_demo_scenes.py',\n"
        "        parameters={'output_path': root + '/raw', 'size': '96', 'executor': 'serial'}),\n"
        "    PipelineStep(entry_point='generate_3b_images', config_path='configs/demo/generate_3b_images.py',\n"
        "        parameters={'input_path': root + '/raw/train', 'output_path': root + '/scenes', 'executor': 'serial'}),\n"
        "), results={'scenes': root + '/scenes'})\n"
    )
    return file


@pytest.mark.slow
def test_c85_a_chain_goes_on_after_a_step_whose_run_is_not_whole_and_ends_with_its_status(tmp_path: Path) -> None:
    """The store takes values, and no file: something else lies where the artifacts should go."""
    database, file = tmp_path / "mlflow.db", chain(tmp_path)
    (tmp_path / "taken").touch()
    client = mlflow.MlflowClient(f"sqlite:///{database}")
    client.create_experiment("half", artifact_location=(tmp_path / "taken/artifacts").as_uri())
    environment = child_environment(database) | {"MLFLOW_EXPERIMENT_NAME": "half"}
    done = subprocess.run(
        [sys.executable, str(ROOT / "code/pipeline.py"), "--config_path", str(file)], cwd=ROOT, env=environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 75, done.stderr[-3000:]
    assert (tmp_path / "scenes" / "scenes.parquet").is_file(), "the chain did not go on"
    *_, second, third, last = done.stderr.strip().splitlines()
    assert second.startswith("step generate_demo_scenes: its results are there, but not all of its run"), done.stderr
    assert third.startswith("step generate_3b_images: its results are there")
    assert last.startswith(f"not delivered to sqlite:///{database}: ")
    found = client.search_runs([client.get_experiment_by_name("half").experiment_id])
    assert sorted(run.info.run_name for run in found) == ["generate_3b_images", "generate_demo_scenes", "small"]
    assert {run.info.status for run in found} == {"FINISHED"}


def test_c01_pipeline_runs_children_and_a_second_start_does_only_what_is_missing(tmp_path: Path) -> None:
    database, file = tmp_path / "mlflow.db", chain(tmp_path)
    first = project(["-e", "pipeline", "-P", f"config_path={file}"], database)
    assert first.returncode == 0, first.stderr[-3000:]
    assert "==> generate_demo_scenes" in first.stdout
    assert (tmp_path / "scenes" / "scenes.parquet").is_file()
    client = mlflow.MlflowClient(f"sqlite:///{database}")
    runs = {run.info.run_name: run for run in client.search_runs(["0"])}
    assert set(runs) == {"small", "generate_demo_scenes", "generate_3b_images"}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    parent = runs["small"].info.run_id
    assert runs["generate_3b_images"].data.tags["mlflow.parentRunId"] == parent

    before = times(tmp_path, "*.[ts]*")
    again = project(["-e", "pipeline", "-P", f"config_path={file}"], database)
    assert again.returncode == 0, again.stderr[-3000:]
    assert "done before: generate_demo_scenes" in again.stdout
    assert "done before: generate_3b_images" in again.stdout
    assert {name: time for name, time in times(tmp_path, "*.[ts]*").items() if before.get(name) != time} == {}

    labels, scene = tmp_path / "raw/train/alder/alder.shp", next(tmp_path.glob("scenes/birch/*.tif"))
    for lost in (labels, scene):
        lost.unlink()
    third = project(["-e", "pipeline", "-P", f"config_path={file}"], database)
    assert third.returncode == 0, third.stderr[-3000:]
    assert "generate_demo_scenes: 1 of 6 items done now, 5 before" in third.stdout
    assert "generate_3b_images: 1 of 8 items done now, 7 before" in third.stdout
    made = {name for name, time in times(tmp_path, "*.[ts]*").items() if before.get(name) != time}
    assert {"raw/train/alder/alder.shp", scene.relative_to(tmp_path).as_posix()} <= made
    rasters = {name for name in made if name.endswith(".tif") and not name.startswith("raw/train/alder")}
    assert rasters == {scene.relative_to(tmp_path).as_posix()}


def scene_config(folder: Path, name: str, seed: int) -> None:
    """A config of the demo's scenes, small, in a folder of its own."""
    (folder / f"scenes_{name}.py").write_text(
        '"""Scenes for a test."""\nfrom dataclasses import replace\nfrom swath.config import load\n'
        "from swath.steps.config import Step\n"
        f"config = replace(load('configs/demo/generate_demo_scenes.py', Step), output_path={str(folder / name)!r},\n"
        f"    size=96, executor='serial', seed={seed})\n"
    )


def test_c01_a_pattern_is_a_step_with_each_config_and_a_new_config_is_the_only_new_step(tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    scene_config(tmp_path, "b", 1)
    scene_config(tmp_path, "d", 2)
    file = tmp_path / "pipeline.py"
    file.write_text(
        '"""A chain for a test."""\nfrom swath.studies.pipeline import PipelineConfig, PipelineStep\n'
        f"config = PipelineConfig(steps=(PipelineStep(entry_point='generate_demo_scenes',\n"
        f"    config_path={str(tmp_path / 'scenes_*.py')!r}),))\n"
    )
    first = project(["-e", "pipeline", "-P", f"config_path={file}"], database)
    assert first.returncode == 0, first.stderr[-3000:]
    named = f"{tmp_path.name}_scenes"
    assert steps_told(first.stdout) == [f"==> {named}_b", f"==> {named}_d"]
    assert all(list((tmp_path / name).rglob("*.tif")) for name in "bd")
    for name, seed in (("a", 3), ("c", 4)):
        scene_config(tmp_path, name, seed)
    again = project(["-e", "pipeline", "-P", f"config_path={file}"], database)
    assert again.returncode == 0, again.stderr[-3000:]
    assert steps_told(again.stdout) == [
        f"==> {named}_a",
        f"done before: {named}_b",
        f"==> {named}_c",
        f"done before: {named}_d",
    ]


def steps_told(printed: str) -> list[str]:
    """The lines in which a pipeline says what it starts and what was done before."""
    return [line for line in printed.splitlines() if line.startswith(("==> ", "done before: "))]


def test_c01_configs_are_trained_one_by_one_instead_of_the_chain() -> None:
    demo = configs.load(ROOT / "configs/demo/pipeline.py", PipelineConfig)
    pattern = "configs/unosat/training_fpn_*.py"
    planned = plan_steps(chain_of(configs.override(demo, "configs", pattern)))
    files = sorted(p.relative_to(ROOT).as_posix() for p in ROOT.glob(pattern))
    assert len(files) == 3
    assert [p.step.config_path for p in planned] == files
    assert {p.step.entry_point for p in planned} == {"training"}
    assert [p.step.label for p in planned] == [f"unosat_{Path(f).stem}" for f in files]


@pytest.mark.parametrize("pattern", ["configs/unosat/trainings_*.py", "configs/nowhere/*.py", "configs/demo/gone.py"])
def test_c01_a_pattern_that_matches_nothing_is_named_before_anything_runs(
    script: Script, pattern: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script("pipeline", "configs/demo/pipeline.py", configs=pattern) == 1
    assert f"error: configs={pattern}: no config file matches" in capsys.readouterr().err


def test_c01_a_pattern_of_a_step_that_matches_nothing_names_the_step() -> None:
    step = PipelineStep(entry_point="training", config_path="configs/nowhere/*.py", name="all of them")
    with pytest.raises(ConfigError, match=r"step all of them: config_path=configs/nowhere/\*\.py: no config file"):
        plan_steps(PipelineConfig(steps=(step,)))


def test_c01_a_failing_entry_point_returns_non_zero_and_says_what_to_do(tmp_path: Path) -> None:
    done = project(["-e", "generate_tiles", "-P", f"input_path={tmp_path / 'nowhere'}"], tmp_path / "mlflow.db")
    assert done.returncode != 0
    assert f"{tmp_path / 'nowhere'}: no such folder. Set input_path" in done.stderr


def test_c02_c03_overrides_reach_nested_fields_and_wrong_names_are_answered(
    script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script("training", "configs/demo/training.py", **{"data.corp": 64}) == 1
    assert "Did you mean `crop`?" in capsys.readouterr().err
    assert script("training", "configs/demo/training.py", **{"data.crop": "large"}) == 1
    assert "data.crop=large: expected int | None" in capsys.readouterr().err


def test_every_committed_config_loads_and_resolves() -> None:
    for path in sorted((ROOT / "configs").rglob("*.py")):
        config = configs.load(path, object)
        assert type(configs.build(configs.resolve(config))) is type(config), path


def test_help_lists_every_field_with_its_meaning(
    script: Script, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import training

    monkeypatch.setattr(sys, "argv", ["training.py", "--help"])
    with pytest.raises(SystemExit) as stop:
        training.main()
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert "--data.crop  int 1..65536 | None [256]" in text
    assert "Side of the random crops in pixels" in text


def test_pipeline_refuses_references_to_no_step() -> None:
    demo = configs.load(ROOT / "configs/demo/pipeline.py", PipelineConfig)
    from dataclasses import replace

    steps = tuple(
        replace(s, parameters={"run_id": "{trainign}"}) if s.entry_point == "inference" else s for s in demo.steps
    )
    with pytest.raises(ConfigError, match="refers to no earlier step"):
        plan_steps(replace(demo, steps=steps))


def test_pipeline_parameters_may_be_json_objects() -> None:
    only = '{"date": ["20150102"]}'
    step = PipelineStep(entry_point="inference", config_path="configs/demo/inference.py", parameters={"only": only})
    plan_steps(PipelineConfig(steps=(step,)))
    assert fill_in({"only": only, "run_id": "{training}"}, {"training": "abc"}) == {"only": only, "run_id": "abc"}
    assert config_of(step.config_path, {"only": only}).only == {"date": ("20150102",)}


@pytest.mark.real_data
def test_real_scenes_to_shapefiles(real_data: Path, tmp_path: Path, script: Script) -> None:
    """Two real labelled areas and one real test area through every step, with a network of seconds."""
    for side, area in (("train", "aoi1"), ("train", "aoi3"), ("test", "aoi5")):
        (tmp_path / "raw" / side).mkdir(parents=True, exist_ok=True)
        (tmp_path / "raw" / side / area).symlink_to(real_data / side / area)
    out, unosat = tmp_path, "configs/unosat"
    common = {"executor": "threads"}
    for side in ("train", "test"):
        paths = {"input_path": out / "raw" / side, "output_path": out / "scenes" / side}
        assert script("generate_3b_images", f"{unosat}/generate_3b_images.py", **paths, **common) == 0
    assert (
        script("rasterize", f"{unosat}/rasterize.py", input_path=out / "raw/train", output_path=out / "masks", **common)
        == 0
    )
    paths = {"input_path": out / "scenes/train", "masks_path": out / "masks", "output_path": out / "tiles"}
    assert script("generate_tiles", f"{unosat}/generate_tiles.py", **paths, **common) == 0
    assert script("generate_tiles_stats", f"{unosat}/generate_tiles_stats.py", input_path=out / "tiles", **common) == 0
    training = {
        "data.tiles_path": out / "tiles", "data.split.validation_areas": "aoi3", "model": "tests.synthetic:TinyNet", "epochs": 2,
        "data.samples_per_epoch": 160, "data.crop": 64, "optimizer.lr": 0.01, "ema_decay": "None", "output_path": out / "training",
    }  # fmt: skip
    assert script("training", f"{unosat}/training.py", **training) == 0
    client = mlflow.MlflowClient()
    ids = [e.experiment_id for e in client.search_experiments()]
    run = client.search_runs(ids, order_by=["attributes.start_time DESC"], max_results=1)[0]
    assert run.data.metrics["best/validation/iou_fg"] > 0.4
    inference = {
        "run_id": run.info.run_id,
        "input_path": out / "scenes/test",
        "output_path": out / "predictions",
        "sliding.tta": "off",
    }
    assert script("inference", f"{unosat}/inference.py", **inference) == 0
    submission = {
        "input_path": out / "predictions/probabilities",
        "output_path": out / "submission",
        "scenes_path": out / "scenes/test",
    }
    assert script("to_submission", f"{unosat}/to_submission.py", **submission) == 0
    from swath.geo.vector import read_polygons

    water = read_polygons(out / "submission" / "aoi5.shp", "id")
    assert water.crs.to_epsg() == 32646
    assert 10 < water.area.sum() / 1e6 < 150  # km2, of an area of 419 km2
