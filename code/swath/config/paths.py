"""Where the project lies, and the one rule for paths."""

from __future__ import annotations

import os
from pathlib import Path

from swath.errors import ConfigError

PROJECT_ROOT = Path(__file__).resolve().parents[3]
"""The folder of MLproject. Every relative path in a config or on a command line starts here."""


LONGEST_NAME = 255
"""Bytes of a file's name that file systems take."""


def absolute(path: str | Path) -> Path:
    """The one path rule: a relative path starts at the project root, ``~`` at the user's home.

    Raises ConfigError for what no file system takes as a path: a null byte, a home of nobody, a circle of links, or a
    name of more than 255 bytes.
    """
    given = str(path)
    long = [part for part in given.split("/") if len(os.fsencode(part)) > LONGEST_NAME]
    if long:
        raise ConfigError(
            f"path {given[:60]}...: a name of {len(os.fsencode(long[0]))} bytes; file systems take {LONGEST_NAME}. "
            "Shorten it."
        )
    try:
        return (PROJECT_ROOT / Path(path).expanduser()).resolve()
    except (ValueError, RuntimeError, OSError) as error:
        raise ConfigError(f"path {given!r}: no file can be called so ({error}). Correct the path.") from None


def relative(path: str | Path) -> str:
    """`path` as text that is short to read: relative to the project root where it lies inside, else absolute."""
    full = absolute(path)
    return full.relative_to(PROJECT_ROOT).as_posix() if full.is_relative_to(PROJECT_ROOT) else str(full)
