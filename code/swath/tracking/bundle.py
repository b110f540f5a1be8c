"""What reproduces a run beside its config: command, commit, versions."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from swath import config as configs
from swath.version import version

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


def recorded_provenance(config_path: str) -> dict[str, Any]:
    """`provenance` without folders of this machine, for a tracking store."""
    arguments = [Path(sys.executable).name, *configs.recorded_arguments(sys.argv)]
    return configs.recorded(provenance(config_path)) | {"command": shlex.join(arguments)}


def provenance(config_path: str) -> dict[str, Any]:
    """Command, commit and versions: what else than the config decides a result."""
    return {
        "command": shlex.join([Path(sys.executable).name, *sys.argv]),
        "config_path": config_path,
        "commit": git("rev-parse", "HEAD").strip() or "unknown",
        "versions": versions(),
        "machine": machine(),
    }


def versions() -> dict[str, str]:
    """Versions of Python, the packages that decide results, and GDAL."""
    found = {"swath": version(), "python": sys.version.split()[0]}
    for package in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    with suppress(ImportError):
        from rasterio import __gdal_version__

        found["gdal"] = __gdal_version__
    return found


def machine() -> dict[str, Any]:
    """What results may depend on in the last digits: processor, threads of arithmetic, GPUs."""
    found: dict[str, Any] = {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    }
    torch = sys.modules.get("torch")  # steps that do not compute with it do not import it
    if torch is not None:
        found["threads"] = torch.get_num_threads()
        gpus = range(torch.cuda.device_count() if torch.cuda.is_available() else 0)
        found["gpus"] = [torch.cuda.get_device_name(gpu) for gpu in gpus]
    return found


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def uncommitted() -> str:
    """What differs from the last commit in the code and the config files; the project may hold what concerns nobody."""
    return git("diff", "HEAD", "--", "code", "configs") or "no uncommitted changes\n"


def untracked_sources() -> list[str]:
    """Python files below code/ and configs/ that git does not know, relative to the project: no diff holds them."""
    return git("ls-files", "--others", "--exclude-standard", "--", "code/*.py", "configs/*.py").splitlines()


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
