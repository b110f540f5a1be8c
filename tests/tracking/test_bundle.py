"""What a run leaves in the store says nothing of the machine and its user, and code that is not committed on request only."""

from __future__ import annotations

import platform
import re
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyarrow import parquet

from tests.synthetic import grid, write_area
from tests.tracking.test_local import clone, environment, only_run_named

pytestmark = pytest.mark.system

HOME, USER = "home-of-anna", "annauser"
BINARY = (".png", ".webp", ".safetensors", ".parquet", ".shp", ".shx", ".dbf")
CHAIN = '''"""A chain of seconds: mlflow run ."""

from swath.studies.pipeline import PipelineConfig, PipelineStep


def step(name, **parameters):
    return PipelineStep(
        entry_point=name, config_path=f"configs/demo/{name}.py",
        parameters={key.replace("__", "."): value for key, value in parameters.items()},
    )


config = PipelineConfig(
    steps=(
        step("generate_3b_images", input_path="input/raw", output_path="output/scenes"),
        step("rasterize", input_path="input/raw", output_path="output/masks"),
        step(
            "generate_tiles", input_path="output/scenes", masks_path="output/masks", output_path="output/tiles",
            tiling__size="48", tiling__min_overlap="8",
        ),
        step("generate_tiles_stats", input_path="output/tiles"),
        step("eda", input_path="output/tiles", scenes_path="output/scenes", output_path="output/eda"),
        step(
            "training", data__tiles_path="output/tiles", data__crop="32", data__samples_per_epoch="16", epochs="1",
            data__split__validation_areas="north", model="swath.nn.networks.unet:UNet", model__filters="4,8",
            output_path="output/training",
        ),
        step(
            "inference", run_id="{training}", input_path="output/scenes", labels_path="output/masks",
            output_path="output/maps", areas="north", allow_selection_set="True",
        ),
        step("to_submission", input_path="output/maps/probabilities", scenes_path="output/scenes", min_area="0"),
    ),
)
'''


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project below the home of a user, with changes that are not committed, after a chain and two other steps."""
    home = tmp_path_factory.mktemp("machine") / HOME
    project = clone(home / "work" / "swath")
    (project / "configs/demo/chain.py").write_text(CHAIN)
    (project / "notes.txt").write_text("nothing\n")
    git(project, "init", "--quiet")
    git(project, "add", "code", "configs", "notes.txt")
    git(project, "-c", f"user.name={USER}", "-c", "user.email=a@example.org", "commit", "--quiet", "-m", "first")
    (project / "notes.txt").write_text("NOTE-OF-MINE\n")
    with (project / "code/swath/labels.py").open("a") as file:
        file.write("# CHANGED-LINE\n")
    (project / "code/not_added.py").write_text('"""NEW-FILE"""\n')
    for i, area in enumerate(("east", "north")):
        write_area(project / "input/raw", area, grid((96, 112), (400_000.0 + 20_000 * i, 3_700_000.0)), seed=i)
    done = start(project, "pipeline", "--config_path=configs/demo/chain.py")
    assert done.returncode == 0, done.stderr + done.stdout
    return project


def git(project: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=project, check=True, capture_output=True)


def start(project: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    owner = {"HOME": str(project.parents[1]), "USER": USER, "LOGNAME": USER}
    command = [sys.executable, str(project / f"code/{script}.py"), *arguments]
    return subprocess.run(
        command, cwd=project, env=environment(project) | owner, capture_output=True, text=True, check=False, timeout=500
    )


def texts(project: Path) -> Iterator[tuple[str, str]]:
    """(where, text) of everything in the store: artifacts with what is packed in them, and the database but for the
    columns that say where artifacts lie.
    """
    for path in sorted((project / "mlruns").rglob("*")):
        if path.suffix == ".parquet":
            table = parquet.read_table(path)
            yield path.name, f"{table.schema} {table.schema.metadata} {table.to_pydict()}"
        elif path.suffix == ".zip":
            with zipfile.ZipFile(path) as packed:
                yield from ((f"{path.name}/{name}", packed.read(name).decode("latin-1")) for name in packed.namelist())
        elif path.is_file():
            yield str(path.relative_to(project)), path.read_bytes().decode("latin-1")
    with sqlite3.connect(project / "mlflow.db") as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for name in tables:
            found = database.execute(f'SELECT * FROM "{name}"')
            columns = [column[0] for column in found.description]
            for row in found:
                for column, value in zip(columns, row, strict=True):
                    if column not in ("artifact_uri", "artifact_location", "user_id"):  # those that MLflow decides
                        yield f"{name}.{column}", str(value)


def told(project: Path) -> list[str]:
    """Where something of the machine or its user stands."""
    secrets = (HOME, USER, str(project), str(project.parents[2]))
    found = [f"{where}: {secret}" for where, text in texts(project) for secret in secrets if secret in text]
    host = re.compile(
        rf"(?<!\w){re.escape(platform.node())}(?!\w)"
    )  # may be two letters, which pictures hold by chance
    return found + [
        f"{where}: host" for where, text in texts(project) if not where.endswith(BINARY) and host.search(text)
    ]


def test_c130_a_chain_leaves_nothing_of_the_machine_and_its_user(project: Path) -> None:
    names = {where.rpartition("/")[2] for where, _ in texts(project)}
    assert {"config.json", "provenance.json", "uncommitted.diff", "model.json", "tiles_used.parquet"} <= names
    assert {"report.html", "scores.parquet", "north.shp", "tags.value", "params.value"} <= names
    assert told(project) == []


def test_c130_paths_that_a_user_types_are_shortened(project: Path) -> None:
    elsewhere = project.parents[2] / USER / "sets of scenes"
    elsewhere.mkdir(parents=True)
    done = start(
        project, "generate_tiles", f"--config_path={project}/configs/demo/generate_test_tiles.py",
        f"--input_path={project}/output/scenes", "--output_path", str(elsewhere / "tiles"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    failed = start(
        project, "generate_tiles", f"--config_path={project}/configs/demo/generate_test_tiles.py",
        f"--input_path={project}/output/scenes", f"--output_path={elsewhere}/tiles", "--tiling.size=32", "--tiling.stride=32",
    )  # fmt: skip
    assert failed.returncode == 1
    assert str(elsewhere) in failed.stderr  # what is printed is for the user
    assert any("holds results of generate_tiles with other settings" in text for _, text in texts(project))
    assert told(project) == []
    command = only_run_named(project, "generate_tiles").data.params
    assert command["cfg.input_path"] == "output/scenes"
    assert command["cfg.output_path"].startswith("sets of scenes/tiles@")


def test_c04_the_diff_is_that_of_code_and_configs(project: Path) -> None:
    diffs = [path.read_text() for path in (project / "mlruns").rglob("uncommitted.diff")]
    assert len(diffs) >= 9
    assert all("CHANGED-LINE" in diff and "NOTE-OF-MINE" not in diff for diff in diffs)
    assert [path.read_text() for path in (project / "mlruns").rglob("untracked/code/not_added.py")]


def test_c04_uncommitted_code_is_left_out_on_request(project: Path) -> None:
    before = set((project / "mlruns").rglob("*"))
    command = ["--config_path=configs/demo/generate_test_tiles.py", "--input_path=output/scenes"]
    done = start(project, "generate_tiles", *command, "--output_path=output/again", "--bundle_diff", "False")
    assert done.returncode == 0, done.stderr
    new = {path.name for path in set((project / "mlruns").rglob("*")) - before}
    assert {"config.json", "provenance.json", "generate_test_tiles.py"} <= new
    assert not {"uncommitted.diff", "untracked", "not_added.py"} & new
    wrong = start(project, "generate_tiles", *command, "--output_path=output/again", "--bundle_diff=no")
    assert wrong.returncode == 1
    assert "bundle_diff=no: must be True or False. Write -P bundle_diff=False" in wrong.stderr


def test_c04_a_chain_hands_the_request_on_and_is_current_after_it(project: Path) -> None:
    before = set((project / "mlruns").rglob("uncommitted.diff"))
    done = start(project, "pipeline", "--config_path=configs/demo/chain.py", "--bundle_diff=False", "--replace=True")
    assert done.returncode == 0, done.stderr
    assert set((project / "mlruns").rglob("uncommitted.diff")) == before
    again = start(project, "pipeline", "--config_path=configs/demo/chain.py", "--bundle_diff=False")
    assert again.stdout.count("done before") >= 6  # what runs record of paths changes nothing in what is current
    assert told(project) == []
