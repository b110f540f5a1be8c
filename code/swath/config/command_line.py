"""The command line of an entry point: a config file, and overrides of its fields."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence

from swath.config.classes import T
from swath.config.files import load
from swath.config.help import class_help, say
from swath.config.overrides import override_all
from swath.config.partials import check_factories
from swath.config.processes import NAME as NUM_GPUS
from swath.config.ranges import check_ranges
from swath.errors import ConfigError

# --------------------------------------------------------------------------------------------------- command line


DIFF = "bundle_diff"
NOT_FIELDS = ("config_path", "script_path", "debug", DIFF)
"""Parameters of every entry point that are no fields of its config; debug=True shows the traceback of an error,
bundle_diff=False keeps uncommitted code out of the run's artifacts."""


def from_command_line(kind: type[T], argv: Sequence[str] | None = None) -> tuple[T, str]:
    """Read ``--config_path FILE`` and any ``--field value`` overrides; return the config and its path.

    ``--help`` prints every field with its type, default and meaning, then exits. `kind` may be a Protocol that configs of
    several classes fit: the help is then that of the file's.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    pairs = _pairs([a for a in arguments if a not in ("--help", "-h")])
    paths = [value for name, value in pairs if name == "config_path"]
    if "--help" in arguments or "-h" in arguments:
        shown = kind if dataclasses.is_dataclass(kind) or not paths else type(load(paths[-1], kind))
        say(class_help(shown.__module__, shown.__qualname__))
        raise SystemExit(0)
    if not paths:
        raise ConfigError("config_path is missing: pass --config_path configs/<challenge>/<entry_point>.py")
    fields = [(name, value) for name, value in pairs if name not in (*NOT_FIELDS, NUM_GPUS)]
    config = override_all(load(paths[-1], kind), fields)
    for name, value in pairs:
        if name == NUM_GPUS:
            _require_one_process(value)
        elif name == DIFF:
            _require_switch(value)
    check_factories(config, "command line")
    check_ranges(config)
    return config, paths[-1]


def _require_switch(value: str) -> None:
    if value not in ("True", "False"):
        raise ConfigError(f"{DIFF}={value}: must be True or False. Write -P {DIFF}=False (--{DIFF} False).")


def with_diff(arguments: Sequence[str]) -> bool:
    """Whether the run of a command line is to hold the code that is not committed: unless it says bundle_diff=False."""
    given = " ".join(arguments).replace("=", " ").split()
    return f"--{DIFF}" not in given[:-1] or given[given.index(f"--{DIFF}") + 1] != "False"


def _require_one_process(number: str) -> None:
    """Scripts that work in several processes have taken the number out of the command line before."""
    if number not in ("1", "1.0"):
        raise ConfigError(
            f"{NUM_GPUS}={number}: this entry point works in one process; training, pretrain and inference take several. "
            f"Leave {NUM_GPUS} out."
        )


def _pairs(arguments: list[str]) -> list[tuple[str, str]]:
    pairs, rest = [], list(arguments)
    while rest:
        name = rest.pop(0)
        key, equals, value = name[2:].partition("=")
        if not name.startswith("--") or not key:
            raise ConfigError(f"{name!r}: expected `--field value`")
        if not equals and not rest:
            raise ConfigError(f"--{key} has no value")
        pairs.append((key, value if equals else rest.pop(0)))
    return pairs
