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


WILDCARDS = "*?["
"""What makes a path a pattern."""


def is_pattern(path: str) -> bool:
    """Whether a path stands for any number of files or folders."""
    return any(sign in path for sign in WILDCARDS)


def matches(pattern: str | Path) -> list[Path]:
    """What there is by a pattern like ``output/folds/*``, sorted; ``**`` stands for any folders below each other."""
    whole = PROJECT_ROOT / Path(pattern).expanduser()
    root = Path(whole.anchor)
    return sorted(root.glob(str(whole.relative_to(root))))


def places(text: str) -> list[Path]:
    """The files and folders of a text like ``output/a;output/b``; a pattern, ``output/folds/*``, is all that match it.

    A place that has the signs of a pattern in its name is that place.
    """
    parts = [part.strip() for part in text.split(";") if part.strip()]
    found: list[Path] = []
    for part in parts:
        place = absolute(part)
        found += matches(part) if is_pattern(part) and not place.exists() else [place]
    return found


def relative(path: str | Path) -> str:
    """`path` as text that is short to read: relative to the project root where it lies inside, else absolute."""
    full = absolute(path)
    return full.relative_to(PROJECT_ROOT).as_posix() if full.is_relative_to(PROJECT_ROOT) else str(full)
