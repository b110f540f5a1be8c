"""What runs say of paths: where something lies in the project, and no user, home or folder of this machine besides.

Records beside results, on this machine, hold paths as they are; what goes to a tracking store is read by others.
"""

from __future__ import annotations

import getpass
import hashlib
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from swath.config import paths

_ABSOLUTE = re.compile(r"(?<![\w.:/~<>*)\]%@-])~?/[^\s:;,'\"()\[\]{}<>|]*[^\s:;,'\"()\[\]{}<>|.]")
"""An absolute path, or one below ``~``, in a text: not within a word, a URL or a relative path."""

_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]*@")
_RUN_ID = re.compile(r"[0-9a-f]{32}")
KEPT = 2
"""Parts of a path outside of the project that are recorded."""


def recorded(value: Any) -> Any:
    """JSON data with paths as they are recorded: relative ones as they are, those in the project relative to it.

    Of others the last two parts and eight digits of a digest stay, ``sets/scenes@1f2e3d4c``, so that equal paths can be
    told; names of the user and the home folder, and credentials in URLs, never do.
    """
    if isinstance(value, Mapping):
        return {name: recorded(child) for name, child in value.items()}
    if isinstance(value, (list, tuple)):
        return [recorded(child) for child in value]
    return _recorded_value(value) if isinstance(value, str) else value


def recorded_arguments(arguments: list[str]) -> list[str]:
    """The same for a command line, whose arguments may be ``--field=value``."""
    found = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        split = name.startswith("--") and bool(equals)
        found.append(f"{name}={recorded(value)}" if split else str(recorded(argument)))
    return found


def recorded_text(text: str) -> str:
    """The same for paths in a text for people, such as an error."""
    root = str(paths.PROJECT_ROOT)
    text = text.replace(f"{root}/", "")
    text = re.sub(rf"{re.escape(root)}(?!\.?[\w-])", ".", text)  # a folder beside it may begin with its name
    text = text.replace(f"{_home()}/", "~/")
    return _ABSOLUTE.sub(lambda found: _short(found[0]), _CREDENTIALS.sub("", text))


def _recorded_value(text: str) -> str:
    """A value of a config: a path, or several separated by ``;``, may hold blanks; all else is a text."""
    return ";".join(_short(part) if _leads_to_user(part) else recorded_text(part) for part in text.split(";"))


def _leads_to_user(text: str) -> bool:
    """Whether a text is an absolute path, or a relative one through a folder of the user."""
    is_path = text.startswith(("/", "~/")) or (text.startswith("../") and _user() in Path(text).parts)
    return is_path and not any(sign in text for sign in "\n\0")


def _short(text: str) -> str:
    with suppress(RuntimeError, OSError, ValueError):  # no home, or a text that only looks like a path
        full = paths.absolute(text)
        if full.is_relative_to(paths.PROJECT_ROOT):
            return full.relative_to(paths.PROJECT_ROOT).as_posix()
        text = str(full)
    inside = text.removeprefix(f"{_home()}/") if text != _home() else ""
    parts = [part for part in Path(inside).parts if part not in ("/", _user())]
    kept = [part for part in parts[:-KEPT] if _RUN_ID.fullmatch(part)] + parts[-KEPT:]
    return f"{'/'.join(kept)}@{hashlib.sha256(text.encode(errors='surrogateescape')).hexdigest()[:8]}"


def _home() -> str:
    with suppress(RuntimeError):
        return str(Path.home())
    return "~"


def _user() -> str:
    with suppress(KeyError, OSError, ImportError):
        return getpass.getuser()
    return ""
