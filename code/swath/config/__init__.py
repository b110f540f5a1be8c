"""Config files: load one, apply overrides from the command line, check it, resolve it to JSON and build from JSON.

A config file is Python that binds ``config`` to a frozen dataclass (see `configclass`). Things to build stand in
it as ``functools.partial(Class, ...)``. Config files are code: run only those that you would run as a script.

Names are imported when they are asked for, so that ``--help`` (`swath.config.help`) does not wait for pydantic.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from swath.config.classes import Factory, configclass
    from swath.config.command_line import from_command_line
    from swath.config.files import load, sources
    from swath.config.overrides import override, override_all
    from swath.config.partials import locate
    from swath.config.paths import PROJECT_ROOT, absolute, relative
    from swath.config.places import recorded, recorded_arguments, recorded_text
    from swath.config.resolved import build, digest, leaves, resolve, without_added_fields
    from swath.config.roles import InputPath, NotDecisive, OutputPath, decisive, inputs_of, outputs_of, references_of
    from swath.config.trust import build_from_record

__all__ = [
    "PROJECT_ROOT",
    "Factory",
    "InputPath",
    "NotDecisive",
    "OutputPath",
    "absolute",
    "build",
    "build_from_record",
    "configclass",
    "decisive",
    "digest",
    "from_command_line",
    "inputs_of",
    "leaves",
    "load",
    "locate",
    "outputs_of",
    "override",
    "override_all",
    "recorded",
    "recorded_arguments",
    "recorded_text",
    "references_of",
    "relative",
    "resolve",
    "sources",
    "without_added_fields",
]

_MODULES = {
    "classes": ("Factory", "configclass"),
    "command_line": ("from_command_line",),
    "files": ("load", "sources"),
    "overrides": ("override", "override_all"),
    "partials": ("locate",),
    "paths": ("PROJECT_ROOT", "absolute", "relative"),
    "places": ("recorded", "recorded_arguments", "recorded_text"),
    "resolved": ("build", "digest", "leaves", "resolve", "without_added_fields"),
    "roles": ("InputPath", "NotDecisive", "OutputPath", "decisive", "inputs_of", "outputs_of", "references_of"),
    "trust": ("build_from_record",),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
