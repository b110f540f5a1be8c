"""Where the project lies, and the one rule for paths."""

from __future__ import annotations

from pathlib import Path

PROJECT_ROOT = Path(__file__).resolve().parents[3]
"""The folder of MLproject. Every relative path in a config or on a command line starts here."""


def absolute(path: str | Path) -> Path:
    """The one path rule: a relative path starts at the project root, ``~`` at the user's home."""
    return (PROJECT_ROOT / Path(path).expanduser()).resolve()


def relative(path: str | Path) -> str:
    """`path` as text that is short to read: relative to the project root where it lies inside, else absolute."""
    full = absolute(path)
    return full.relative_to(PROJECT_ROOT).as_posix() if full.is_relative_to(PROJECT_ROOT) else str(full)
