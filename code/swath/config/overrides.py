"""Overrides of a config's leaves from texts, as on a command line: ``data.crop=256``."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import logging
import typing
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Any

import pydantic
import pydantic.dataclasses

from swath.config.classes import Factory, T
from swath.config.messages import explain, nearest
from swath.config.moved import new_field, new_name
from swath.config.partials import arguments, children, signature, takes_any_keyword, takes_keyword
from swath.config.reading import NAME, UnreadableError, described, element, from_text, members
from swath.errors import ConfigError

log = logging.getLogger("swath.config")


def override(config: T, path: str, text: str) -> T:
    """A copy of `config` with the leaf at the dotted `path` set from `text`.

    The path goes through dataclass fields, dict keys, positions in tuples and keywords of partials. `text` is read
    as the type that is declared for the leaf (see `swath.config.reading`); where none is, as that of its value, and
    where that is None, as JSON or else as it is. Whatever `resolve` gives is read as well.
    Raises ConfigError with the nearest right name, or with the type that is expected.
    """
    return typing.cast(T, _override(config, type(config), path.split("."), text, path))


def override_all(config: T, pairs: Sequence[tuple[str, str]]) -> T:
    """A copy of `config` with several leaves set, by (dotted path, text), in any order.

    A value that fits only together with a later one, such as 24 tiles of at most so many places, is set after it.
    Raises ConfigError of the first that fits with none of the others.
    """
    waiting = list(pairs)
    while waiting:
        left: list[tuple[str, str]] = []
        first: ConfigError | None = None
        for path, text in waiting:
            try:
                config = override(config, path, text)
            except ConfigError as error:
                left.append((path, text))
                first = first or error
        if first is not None and len(left) == len(waiting):
            raise first
        waiting = left
    return config


def _override(value: Any, kind: Any, parts: list[str], text: str, path: str) -> Any:
    kinds, below = _kinds_below(value, kind), dict(children(value))
    head, rest = new_field(_called(value), parts[0], kinds), parts[1:]
    open_ended = isinstance(value, partial) and takes_keyword(signature(value.func), head)
    if head not in kinds and not open_ended:
        raise ConfigError(f"{path}: no field `{head}` there. {nearest(head, list(kinds))}")
    current, declared = below.get(head), kinds.get(head, Any)
    if rest and current is None:
        current = _default_of(declared, rest, text, path)
    if head in below:
        declared = _with_current(declared, below[head])
    new = _override(current, declared, rest, text, path) if rest else _read(text, declared, current, path)
    return _with(value, head, new, path)


def _called(value: Any) -> Any:
    """The class whose fields stand below a value."""
    return value.func if isinstance(value, partial) else type(value)


def _default_of(kind: Any, rest: list[str], text: str, path: str) -> Any:
    """The config that an optional field stands for, with its defaults, so that one of its fields can be set; that one
    may have no default.
    """
    made: list[Any] = [option for option in members(kind) if dataclasses.is_dataclass(option)]
    if len(made) != 1:
        return None
    hints = _hints(made[0]) if len(rest) == 1 else {}
    name = new_field(made[0], rest[0], hints)
    given = {name: _read(text, hints[name], None, path)} if name in hints else {}
    try:
        return made[0](**given)
    except pydantic.ValidationError as error:
        raise ConfigError(f"{path}: {explain(error)}. Set it in the config file.") from None


# ---------------------------------------------------------------------------------------------------------------- types


def _kinds_below(value: Any, kind: Any) -> dict[str, Any]:
    """Name to declared type of everything that can be set below a `value` that is declared as `kind`."""
    if isinstance(value, partial):
        hints = _hints(value.func)
        takes = {name: p for name, p in signature(value.func).items() if p.kind is not p.VAR_KEYWORD}
        return {name: _or_none(hints.get(name, Any), p.default is None) for name, p in takes.items()}
    if dataclasses.is_dataclass(value):
        hints = _hints(type(value))
        return {f.name: hints.get(f.name, Any) for f in dataclasses.fields(value)}
    declared = {name: element(kind, value, name) for name, _ in children(value)}
    numbers = {name for name, child in children(value) if type(child) is int and declared[name] is Any}
    return declared | dict.fromkeys(numbers, int | float)


def _or_none(kind: Any, optional: bool) -> Any:
    return typing.Optional[kind] if optional and kind is not Any else kind  # noqa: UP045 - known when it runs


def _with_current(kind: Any, current: Any) -> Any:
    """A declared type with that of the value which is there: it alone where none is declared, None where it is None,
    and whole numbers stay whole where one stands for a float.
    """
    if Any in members(kind):
        return _or_none(_type_of(current), type(None) in members(kind))
    if type(current) is int and float in members(kind) and int not in members(kind):
        return int | kind
    return _or_none(kind, current is None)


def _type_of(value: Any) -> Any:
    """The type that a value without a declared one may change to: any for None."""
    if value is None:
        return Any
    if callable(value) and (isinstance(value, (partial, type)) or not dataclasses.is_dataclass(value)):
        return _or_none(Factory, optional=True)
    return type(value)


def _hints(target: Any) -> dict[str, Any]:
    return _hints_of(target) if isinstance(target, Hashable) else {}


@functools.cache
def _hints_of(target: Any) -> dict[str, Any]:
    function = target.__init__ if inspect.isclass(target) and not dataclasses.is_dataclass(target) else target
    try:
        return typing.get_type_hints(function)
    except (NameError, TypeError, AttributeError):
        return {}


# --------------------------------------------------------------------------------------------------------------- values


def _with(value: Any, name: str, new: Any, path: str) -> Any:
    if isinstance(value, partial):
        return partial(value.func, **{**arguments(value), name: new})
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        try:
            return dataclasses.replace(value, **{name: new})
        except pydantic.ValidationError as error:
            raise ConfigError(f"{path}: {explain(error)}") from None
    if isinstance(value, Mapping):
        return {key: new if str(key) == name else child for key, child in value.items()}
    items = list(value)
    items[int(name)] = new
    return type(value)(items)


def _read(text: str, kind: Any, current: Any, path: str) -> Any:
    try:
        new = from_text(text, kind)
    except UnreadableError as error:
        why = str(error).removeprefix(f"{text}: ") or f"expected {described(kind)}, got {text!r}"
        raise ConfigError(f"{path}={text}: {why}") from None
    if not isinstance(new, str):
        _warn_of_old_names(text, path)
    if isinstance(new, partial) and isinstance(current, partial) and NAME.fullmatch(text):
        return partial(new.func, **_kept(new.func, current))
    same = isinstance(new, (tuple, list, dict)) and type(new) is type(current) and new == current
    return current if same else new  # 1 stays 1, and does not become 1.0


def _kept(function: Callable[..., Any], current: partial[Any]) -> dict[str, Any]:
    """Keywords that another class takes as well, so that a variant needs one override."""
    takes = signature(function)
    return {k: v for k, v in arguments(current).items() if k in takes or takes_any_keyword(takes)}


def _warn_of_old_names(text: str, path: str) -> None:
    for old in dict.fromkeys(NAME.findall(text)):
        if new_name(old) != old:
            log.warning("%s: %s is %s now", path, old, new_name(old))
