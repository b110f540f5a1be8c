"""The environment is one: pyproject.toml names ranges, the lock pins them, conda.yaml follows."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import tomllib
from contextlib import closing
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import ROOT, child_environment


def ranges() -> dict[str, Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + [r for extra in project["optional-dependencies"].values() for r in extra]
    return {canonicalize_name(r.name): r for r in map(Requirement, wanted)}


def pins() -> list[Requirement]:
    lines = (line.split("#")[0].strip() for line in (ROOT / "requirements.lock").read_text().splitlines())
    return [Requirement(line) for line in lines if line]


def pinned_here() -> dict[str, str]:
    """Package to the version that the lock pins for this Python and platform."""
    here = [r for r in pins() if r.marker is None or r.marker.evaluate()]
    return {canonicalize_name(r.name): next(iter(r.specifier)).version for r in here}


def test_c08_lock_pins_every_dependency_inside_its_range() -> None:
    pinned = pinned_here()
    for name, requirement in ranges().items():
        assert name in pinned, f"{name}: not in requirements.lock; run `make lock`"
        assert requirement.specifier.contains(pinned[name]), (
            f"{name}: {pinned[name]} is outside {requirement.specifier}"
        )


def test_c08_lock_names_no_hosts_and_pins_exactly() -> None:
    text = (ROOT / "requirements.lock").read_text()
    assert "://" not in text
    assert all(str(r.specifier).startswith("==") for r in pins())


def test_c08_conda_has_the_same_dependencies() -> None:
    conda = yaml.safe_load((ROOT / "conda.yaml").read_text())
    (pip,) = (entry["pip"] for entry in conda["dependencies"] if isinstance(entry, dict))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert pip == project["dependencies"] + project["optional-dependencies"]["dask"]
    others = [entry for entry in conda["dependencies"] if isinstance(entry, str)]
    assert any(
        entry.startswith("conda-forge::gdal") for entry in others
    )  # a plain `gdal` would be built from source by pip
    assert not any("-e" in entry.split() for entry in pip)


def test_c08_installed_versions_are_the_locked_ones() -> None:
    pinned = pinned_here()
    for name in ("torch", "mlflow", "pytorch-ignite", "rasterio", "segmentation-models-pytorch"):
        assert metadata.version(name) == pinned[name]


def test_c08_license_is_apache_2() -> None:
    assert "Apache License" in (ROOT / "LICENSE").read_text()[:200]
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["license"] == "Apache-2.0"


@pytest.mark.slow
def test_c08_an_entry_point_runs_in_the_environment_that_uv_makes(tmp_path: Path) -> None:
    """What `mlflow run . --env-manager uv` does in a clean clone; versions are held to the lock's by uv's own variable."""
    if shutil.which("uv") is None:
        pytest.skip("uv is not on PATH")
    project, environments, made = (tmp_path / name for name in ("clone", "environments", "raw"))
    subprocess.run(["git", "clone", "--quiet", "--depth=1", ROOT.as_uri(), str(project)], check=True)
    store = tmp_path / "mlflow.db"
    known = child_environment(store) | {
        "MLFLOW_ENV_ROOT": str(environments),
        "UV_CONSTRAINT": str(ROOT / "requirements.lock"),
    }
    environment = {name: value for name, value in known.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    command = [
        "mlflow",
        "run",
        str(project),
        "-e",
        "generate_demo_scenes",
        "--env-manager",
        "uv",
        "-P",
        f"output_path={made}",
    ]
    try:
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=1200
        )
        assert done.returncode == 0, done.stderr[-4000:]
        assert list(made.rglob("*.tif"))
        (home,) = environments.iterdir()
        versions = {
            canonicalize_name(f.metadata["Name"]): f.version for f in metadata.distributions(path=_packages(home))
        }
        assert [name for name, pin in pinned_here().items() if versions.get(name, pin) != pin] == []
        assert {"torch", "mlflow", "rasterio", "distributed"} <= set(versions)
        assert list(
            home.glob("lib/python3.11/site-packages/mlflow/__pycache__/*.pyc")
        )  # uv compiles none, a start does
    finally:
        shutil.rmtree(environments, ignore_errors=True)
    with closing(sqlite3.connect(store)) as rows:
        assert rows.execute("SELECT status FROM runs").fetchall() == [("FINISHED",)]
        assert rows.execute("SELECT value FROM tags WHERE key = 'mlflow.project.env'").fetchall() == [("uv",)]


def _packages(environment: Path) -> list[str]:
    return [str(path) for path in environment.glob("lib/python3.*/site-packages")]
