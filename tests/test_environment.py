"""The environment is one: pyproject.toml names ranges, the lock pins them, conda.yaml follows."""

from __future__ import annotations

import tomllib
from importlib import metadata
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]


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
