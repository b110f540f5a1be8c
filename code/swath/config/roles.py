"""What a field is to the identity of a result: a setting that decides it, an input, an output, or nothing of it.

A field says so by its type: ``InputPath``, ``OutputPath``, ``NotDecisive[int]``; every other field is a setting.
"""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Iterator, Mapping
from enum import Enum
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

from swath.config.partials import arguments
from swath.config.paths import absolute, places
from swath.config.resolved import leaves, resolve, without_added_fields

T = TypeVar("T")


class Role(Enum):
    """What a field is to a result, other than a setting that decides it."""

    INPUT = "input"
    OUTPUT = "output"
    NOT_DECISIVE = "not decisive"


InputPath = Annotated[str, Role.INPUT]
"""A file, a folder, or several separated by ``;``, or a pattern of such: known by what is in it, not by its path."""

OutputPath = Annotated[str, Role.OUTPUT]
"""Where results go."""

NotDecisive = Annotated[T, Role.NOT_DECISIVE]
"""A value that changes how, not what: workers, names, caches."""


def decisive(config: Any) -> dict[str, Any]:
    """The settings that decide a result, flat as `leaves` gives them: no inputs, outputs, or what is not decisive."""
    apart = [name for name, _, _ in _fields_with_roles(config)]
    return {
        name: value
        for name, value in leaves(without_added_fields(resolve(config))).items()
        if not any(name == one or name.startswith(f"{one}.") for one in apart)
    }


def inputs_of(config: Any) -> dict[str, list[Path]]:
    """Name of each field that is an input, and holds one, to the files and folders that it names.

    ``runs:/...`` and ``models:/...`` are no files; they never change.
    """
    found: dict[str, list[Path]] = {}
    for name, role, value in _fields_with_roles(config):
        if role is Role.INPUT and value:
            texts = value.values() if isinstance(value, Mapping) else [value]
            parts = [part for text in texts for part in str(text).split(";")]
            found[name] = [place for part in parts if ":/" not in part for place in places(part)]
    return found


def outputs_of(config: Any) -> list[Path]:
    """Folders and files that the fields of a config name as outputs, and its own `output` where it has one.

    The latter is where results go when the field is left open.
    """
    named = [absolute(str(value)) for _, role, value in _fields_with_roles(config) if role is Role.OUTPUT and value]
    own = getattr(config, "output", None)
    return list(dict.fromkeys([*named, *([own] if isinstance(own, Path) else [])]))


def references_of(config: Any) -> dict[str, str]:
    """Name of each field that is an input to its text, where that is no path: ``runs:/...``, ``models:/...``."""
    return {
        name: value
        for name, role, value in _fields_with_roles(config)
        if role is Role.INPUT and isinstance(value, str) and ":/" in value
    }


def _fields_with_roles(value: Any, where: str = "") -> Iterator[tuple[str, Role, Any]]:
    """(name of the leaf, role, value) of every field that has one, in whatever stands below `value`."""
    for name, child, kind in fields_of(value):
        full = f"{where}.{name}" if where else name
        role = _role(kind)
        if role is None:
            yield from _fields_with_roles(child, full)
        else:
            yield full, role, child


def fields_of(value: Any) -> list[tuple[str, Any, Any]]:
    """(name, value, declared type) of what stands directly below a value of a config."""
    if isinstance(value, partial):
        hints = _hints(value.func)
        return [(name, child, hints.get(name)) for name, child in arguments(value).items()]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        hints = _hints(type(value))
        return [(f.name, getattr(value, f.name), hints.get(f.name)) for f in dataclasses.fields(value)]
    if isinstance(value, Mapping):
        return [(str(name), child, None) for name, child in value.items()]
    if isinstance(value, (tuple, list)):
        return [(str(number), child, None) for number, child in enumerate(value)]
    return []


@cache
def _hints(target: Any) -> dict[str, Any]:
    """Declared types of a class's fields, or of the parameters of what a partial calls."""
    found: dict[str, Any] = {}
    if dataclasses.is_dataclass(target):
        owners = [one for one in inspect.getmro(target) if one is not object]  # type: ignore[arg-type]
    else:
        owners = [target.__init__ if inspect.isclass(target) else target]  # type: ignore[list-item]
    for owner in owners:
        for name, kind in _declared(owner).items():
            if _role(found.get(name)) is None:  # a class that gives a field another default keeps its role
                found[name] = kind
    return found


def _declared(owner: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(owner, include_extras=True)
    except (NameError, TypeError):  # a library's own names that are not there at run time: no roles of ours
        return {}


def _role(kind: Any) -> Role | None:
    """The role that a declared type names: itself, one member of a union, or what a container holds."""
    for extra in getattr(kind, "__metadata__", ()):
        if isinstance(extra, Role):
            return extra
    for inner in typing.get_args(kind):
        found = _role(inner)
        if found is not None:
            return found
    return None
