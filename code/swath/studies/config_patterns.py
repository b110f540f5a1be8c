"""Patterns of config files: one entry point with each of many configs, as a loop in a shell would start it."""

from __future__ import annotations

from pathlib import Path

from swath.config import PROJECT_ROOT, relative
from swath.config.paths import matches
from swath.errors import ConfigError


def matching_configs(pattern: str, field: str = "configs") -> list[str]:
    """The config files that a pattern like ``configs/ai4arctic/training_*.py`` stands for, sorted.

    A relative one starts at the project's root, and so do the paths that are returned; ``**`` stands for any folders.
    Raises ConfigError that names the pattern, as the value of `field`, when there is no such file.
    """
    found = [path for path in matches(pattern) if path.suffix == ".py"]
    if not found:
        folder = (PROJECT_ROOT / Path(pattern).expanduser()).parent
        there = sorted(path.name for path in folder.glob("*.py")) if folder.is_dir() else []
        have = f"It has {', '.join(there[:8])}{', ...' if len(there) > 8 else ''}" if there else "It has no config"
        raise ConfigError(f"{field}={pattern}: no config file matches (looked in {folder}). {have}.")
    return [relative(path) for path in found]


def label_of(config_path: str) -> str:
    """A name for what is done with a config: ``ai4arctic_training_basilico`` for a file in configs/ai4arctic."""
    parts = Path(config_path).with_suffix("").parts
    below = parts[1:] if parts[0] == "configs" else parts[-2:]
    return "_".join(below)
