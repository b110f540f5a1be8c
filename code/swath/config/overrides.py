"""Config files: load one, apply overrides from the command line, check it, resolve it to JSON and build from JSON.

A config file is Python that binds ``config`` to a frozen dataclass (see `configclass`). Things to build stand in
it as ``functools.partial(Class, ...)``. Config files are code: run only those that you would run as a script.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import typing
from collections.abc import Mapping
from functools import partial
from typing import Any

import pydantic
import pydantic.dataclasses

from swath.config.classes import Factory, T
from swath.config.messages import explain, nearest
from swath.config.partials import arguments, children, locate, signature, takes_any_keyword, takes_keyword
from swath.errors import ConfigError

# ------------------------------------------------------------------------------------------------------ overrides


def override(config: T, path: str, text: str) -> T:
    """A copy of `config` with the leaf at the dotted `path` set from `text`.

    The path goes through dataclass fields, dict keys, positions in tuples and keywords of partials. `text` is read
    as the leaf's type: JSON, ``None``, a comma-separated list for tuples, or ``module:Class`` for a factory.
    Raises ConfigError with the nearest right name, or with the type that is expected.
    """
    return typing.cast(T, _override(config, path.split("."), text, path))


def _override(value: Any, parts: list[str], text: str, path: str) -> Any:
    head, rest = parts[0], parts[1:]
    kinds = _leaf_types(value)
    open_ended = isinstance(value, partial) and takes_keyword(signature(value.func), head)
    if head not in kinds and not open_ended:
        raise ConfigError(f"{path}: no field `{head}` there. {nearest(head, list(kinds))}")
    current = dict(children(value)).get(head)
    if rest and current is None:
        current = _default_of(kinds.get(head), rest, text, path)
    new = _override(current, rest, text, path) if rest else _parse(text, kinds.get(head, Any), current, path)
    return _with(value, head, new, path)


def _default_of(kind: Any, rest: list[str], text: str, path: str) -> Any:
    """The config that an optional field stands for, with its defaults, so that one of its fields can be set; that one
    may have no default.
    """
    made = [option for option in typing.get_args(kind) if dataclasses.is_dataclass(option)]
    if len(made) != 1:
        return None
    hints = _hints(made[0]) if len(rest) == 1 else {}
    given = {rest[0]: _parse(text, hints[rest[0]], None, path)} if rest[0] in hints else {}
    try:
        return made[0](**given)  # type: ignore[operator]
    except pydantic.ValidationError as error:
        raise ConfigError(f"{path}: {explain(error)}. Set it in the config file.") from None


def _leaf_types(value: Any) -> dict[str, Any]:
    """Name to type of everything that can be set below `value`."""
    if isinstance(value, partial):
        hints = _hints(value.func)
        return {n: hints.get(n, Any) for n, p in signature(value.func).items() if p.kind is not p.VAR_KEYWORD}
    if dataclasses.is_dataclass(value):
        hints = _hints(type(value))
        return {f.name: hints.get(f.name, Any) for f in dataclasses.fields(value)}
    return {key: _type_of(child) for key, child in children(value)}


def _type_of(value: Any) -> Any:
    """The type that a value without a declared one may change to: any for None, any number for an integer."""
    return Any if value is None else int | float if type(value) is int else type(value)


def _hints(target: Any) -> dict[str, Any]:
    function = target.__init__ if inspect.isclass(target) and not dataclasses.is_dataclass(target) else target
    try:
        return typing.get_type_hints(function)
    except (NameError, TypeError, AttributeError):
        return {}


def _with(value: Any, name: str, new: Any, path: str) -> Any:
    if isinstance(value, partial):
        return partial(value.func, **{**arguments(value), name: new})
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        try:
            return dataclasses.replace(value, **{name: new})
        except pydantic.ValidationError as error:
            raise ConfigError(f"{path}: {explain(error)}") from None
    if isinstance(value, Mapping):
        return {**value, name: new}
    items = list(value)
    items[int(name)] = new
    return type(value)(items)


def _parse(text: str, kind: Any, current: Any, path: str) -> Any:
    """Read `text` as `kind`; candidates are tried in the order in which a person would mean them."""
    if isinstance(current, partial) or kind == Factory:
        return None if text == "None" else _parse_factory(text, current)
    if kind is Any and current is not None:
        kind = type(current)
    if re.fullmatch(r"[\w.]+:[\w.]+", text) and any(
        dataclasses.is_dataclass(option) for option in (kind, *typing.get_args(kind))
    ):
        return _parse_choice(text, kind, path)
    literal = _literal(text)
    split = tuple(_literal(part.strip()) for part in text.split(",") if part.strip())
    words = tuple(part.strip() for part in text.split(",") if part.strip())
    flat = tuple(literal) if isinstance(literal, list) else literal
    candidates = (text, literal, flat, _with_tuples(literal), split, words)
    for candidate in (None, *candidates) if text == "None" else candidates:
        if kind is Any:
            return literal
        try:
            return pydantic.TypeAdapter(kind, config=_config_of(kind)).validate_python(candidate, strict=True)
        except (pydantic.ValidationError, pydantic.errors.PydanticUserError):
            continue
    expected = getattr(kind, "__name__", None) if not typing.get_args(kind) else str(kind)
    raise ConfigError(f"{path}={text}: expected {expected or kind}, got {text!r}")


def _parse_choice(text: str, kind: Any, path: str) -> Any:
    """One of the config classes that a field may hold, ``module:Class``, with its defaults."""
    found = locate(text)
    options = [option for option in (kind, *typing.get_args(kind)) if dataclasses.is_dataclass(option)]
    if found not in options:
        names = ", ".join(f"{option.__module__}:{option.__qualname__}" for option in options)  # type: ignore[union-attr]
        raise ConfigError(f"{path}={text}: expected one of {names}")
    try:
        return found()
    except (pydantic.ValidationError, TypeError) as error:
        why = explain(error) if isinstance(error, pydantic.ValidationError) else str(error)
        raise ConfigError(f"{path}={text}: {why}. Choose it in a config file.") from None


def _config_of(kind: Any) -> pydantic.ConfigDict | None:
    return None if dataclasses.is_dataclass(kind) else pydantic.ConfigDict(arbitrary_types_allowed=True)


def _literal(text: str) -> Any:
    words = {"None": None, "True": True, "False": False}
    if text in words:
        return words[text]
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _with_tuples(literal: Any) -> Any:
    """JSON with tuples for its lists, those within objects and lists as well."""
    if isinstance(literal, dict):
        return {key: _with_tuples(child) for key, child in literal.items()}
    return tuple(map(_with_tuples, literal)) if isinstance(literal, list) else literal


def _parse_factory(text: str, current: Any) -> Any:
    """Another class for a factory; keywords that both take are kept, so a variant needs one override."""
    found = locate(text)
    if not callable(found):
        raise ConfigError(f"{text}: is {found!r}, not something to call. Write it as `module:Class`.")
    kept = arguments(current) if isinstance(current, partial) else {}
    takes = signature(found)
    return partial(found, **{k: v for k, v in kept.items() if k in takes or takes_any_keyword(takes)})
