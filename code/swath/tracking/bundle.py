"""What reproduces a run beside its config: command, commit, versions."""

from __future__ import annotations

import shlex
import subprocess
import sys
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from swath import config as configs

PACKAGES = (
    "torch",
    "torchvision",
    "pytorch-ignite",
    "segmentation-models-pytorch",
    "timm",
    "mlflow",
    "rasterio",
    "numpy",
)


def provenance(config_path: str) -> dict[str, Any]:
    """Command, commit and versions: what else than the config decides a result."""
    return {
        "command": shlex.join([Path(sys.executable).name, *sys.argv]),
        "config_path": config_path,
        "commit": git("rev-parse", "HEAD").strip() or "unknown",
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Versions of Python, the packages that decide results, and GDAL."""
    found = {"python": sys.version.split()[0]}
    for package in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    with suppress(ImportError):
        from rasterio import __gdal_version__

        found["gdal"] = __gdal_version__
    return found


def git(*arguments: str) -> str:
    """What git prints in the project's folder; nothing where it fails or is not there."""
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=configs.PROJECT_ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
