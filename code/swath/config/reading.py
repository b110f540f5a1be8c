"""Texts of a command line, and JSON values, read as the type that a config declares for them.

A text is JSON first, and plain text then; which of the two a type takes is said at each type below.
"""

from __future__ import annotations

import dataclasses
import json
import re
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, MutableMapping, Sequence
from functools import partial
from typing import Any, Literal

import pydantic

from swath.config.messages import explain
from swath.config.partials import children, locate
from swath.config.resolved import TARGET, build, resolve
from swath.errors import ConfigError

NAME = re.compile(r"[\w.]+:[\w.]+")
"""``module:Class``"""

NOT_FINITE = ("nan", "inf", "-inf")
_WORDS = {"None": None, "True": True, "False": False}
_LISTS = (tuple, list, Sequence, Collection, Iterable)
_OBJECTS = (dict, Mapping, MutableMapping)
_NO_CLASS = "Write it as `module:Class`."


class UnreadableError(ValueError):
    """A text, or a JSON value, is none of a type; the message, where there is one, says why."""


# ---------------------------------------------------------------------------------------------------------------- types


def members(kind: Any) -> list[Any]:
    """The types of a union in the order in which they are tried: as declared, str then, None last; one type is alone.

    Any stands for what says nothing of a value: object, protocols, type variables, names that are not found.
    """
    found = _flat(kind)
    return sorted(found, key=lambda member: 2 if member is types.NoneType else int(member is str))


def _flat(kind: Any) -> list[Any]:
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return [member for option in typing.get_args(kind) for member in _flat(option)]
    if typing.get_origin(kind) is typing.Annotated:
        return _flat(typing.get_args(kind)[0])
    if kind is None:
        return [types.NoneType]
    known = (isinstance(kind, type) or typing.get_origin(kind) is not None) and not getattr(kind, "_is_protocol", False)
    return [kind if known and kind is not object else Any]


def _origin(kind: Any) -> Any:
    return typing.get_origin(kind) or kind


def element(kind: Any, container: Mapping[Any, Any] | Sequence[Any], name: str) -> Any:
    """The declared type of what stands in a mapping under a key, or in a list at a position; Any where there is none.

    Of a union that declares several, those count that the value there is of.
    """
    wanted = _OBJECTS if isinstance(container, Mapping) else _LISTS
    found = []
    for member in members(kind):
        inner = typing.get_args(member)
        if _origin(member) not in wanted or not inner:
            continue
        if wanted is _OBJECTS:
            found.append(inner[1])
        elif not _is_fixed(member):
            found.append(inner[0])
        elif len(inner) == len(container):
            found.append(inner[int(name)])
    if len(found) > 1:
        there = resolve(dict(children(container))[name])
        found = [one for one in found if _is_read(there, one)] or found
    return typing.Union[tuple(found)] if found else Any  # noqa: UP007 - the members are known when it runs


def _is_read(value: Any, kind: Any) -> bool:
    try:
        from_json(value, kind)
    except UnreadableError:
        return False
    return True


def _is_fixed(kind: Any) -> bool:
    """Whether a type is that of tuples of one length."""
    return _origin(kind) is tuple and bool(typing.get_args(kind)) and typing.get_args(kind)[-1] is not Ellipsis


def described(kind: Any) -> str:
    """A type in words: ``int | None``, ``tuple[float, float]``, ``'a' | 'b'``, ``one of module:A, module:B``."""
    options = _flat(kind)
    if len(options) > 1:
        said = list(dict.fromkeys(described(option) for option in options))
        return f"one of {', '.join(said)}" if any(map(dataclasses.is_dataclass, options)) else " | ".join(said)
    only, origin = options[0], _origin(options[0])
    inner = [described(part) for part in typing.get_args(only) if part is not Ellipsis and origin is not Literal]
    if origin is Literal:
        return " | ".join(map(repr, typing.get_args(only)))
    if origin in _LISTS:
        name, rest = "list" if origin is list else "tuple", [] if _is_fixed(only) or origin is list else ["..."]
        return f"{name}[{', '.join([*inner, *rest])}]" if inner else name
    if origin in _OBJECTS:
        return f"dict[{', '.join(inner)}]" if inner else "dict"
    if origin is Callable:
        return "`module:Class`"
    if dataclasses.is_dataclass(only):
        return f"{only.__module__}:{only.__qualname__}"  # type: ignore[union-attr]
    return "None" if only is types.NoneType else getattr(only, "__name__", str(only))


# ---------------------------------------------------------------------------------------------------------------- texts


def from_text(text: str, kind: Any) -> Any:
    """What a person means who writes `text` for a value of the type `kind`; ``None`` is None where it may be, and so is
    ``null`` where no text may be.

    Raises UnreadableError.
    """
    kinds = members(kind)
    nothing = text == "None" or (text == "null" and str not in kinds)
    return None if nothing and types.NoneType in kinds else _first(text, kinds, _text_as)


def _first(given: Any, kinds: Iterable[Any], read: Callable[[Any, Any], Any]) -> Any:
    why = ""
    for kind in kinds:
        try:
            return read(given, kind)
        except UnreadableError as error:
            why = why or str(error)
    raise UnreadableError(why)


def _text_as(text: str, kind: Any) -> Any:
    """A str is the text as it is, lists take commas, and things to build ``module:Class``; all else is JSON."""
    if kind is str:
        return text
    if kind is float and text in NOT_FINITE:
        return float(text)
    if _origin(kind) is Literal:
        return _chosen(text, {str(option): option for option in typing.get_args(kind)})
    if _is_built(kind) and NAME.fullmatch(text):
        return _json_as(text, kind)
    try:
        value = _WORDS[text] if text in _WORDS else json.loads(text)
    except (ValueError, RecursionError):
        if kind is Any:
            return text
        value = None
        if _origin(kind) not in _LISTS:
            raise UnreadableError from None
    if _origin(kind) in _LISTS and not isinstance(value, list):
        return _filled([part.strip() for part in text.split(",") if part.strip()], kind, from_text)
    return _json_as(value, kind)


def _chosen(key: Any, options: Mapping[Any, Any]) -> Any:
    if key not in options:
        raise UnreadableError
    return options[key]


def _filled(parts: Sequence[Any], kind: Any, read: Callable[[Any, Any], Any]) -> Any:
    """A tuple or list whose elements are read one by one."""
    inner = typing.get_args(kind)
    if _is_fixed(kind) and len(inner) != len(parts):
        raise UnreadableError
    kinds = inner if _is_fixed(kind) else [inner[0] if inner else Any] * len(parts)
    made = [read(part, one) for part, one in zip(parts, kinds, strict=True)]
    return made if _origin(kind) is list else tuple(made)


# ----------------------------------------------------------------------------------------------------------------- JSON


def from_json(value: Any, kind: Any) -> Any:
    """A JSON value as one of the type `kind`; raises UnreadableError."""
    return _first(value, members(kind), _json_as)


def _json_as(value: Any, kind: Any) -> Any:
    """Numbers, texts and None are of their own type, whole numbers floats, too; things to build say what they are."""
    origin = _origin(kind)
    if kind is Any:
        return _built(value)
    if kind is float and type(value) is int:
        return _as_float(value)
    if kind in (bool, int, float, str, types.NoneType) and type(value) is kind:
        return value
    if origin is Literal and not isinstance(value, (list, dict)):
        return _chosen((type(value), value), {(type(option), option): option for option in typing.get_args(kind)})
    if origin in _LISTS and isinstance(value, list):
        return _filled(value, kind, from_json)
    if origin in _OBJECTS and isinstance(value, dict) and TARGET not in value:
        keys, values = typing.get_args(kind) or (Any, Any)
        return {from_text(key, keys): from_json(child, values) for key, child in value.items()}
    if _is_built(kind) and isinstance(value, str) and NAME.fullmatch(value):
        return _default(value, kind)
    if _is_built(kind) and isinstance(value, dict) and TARGET in value:
        return _described_by(value, kind)
    raise UnreadableError


def _as_float(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        raise UnreadableError from None


# ------------------------------------------------------------------------------------------------------ things to build


def _is_built(kind: Any) -> bool:
    """Whether values of a type are things to build, or configs."""
    plain = kind in (bool, int, float, str, types.NoneType, Any) or _origin(kind) in (*_LISTS, *_OBJECTS, Literal)
    return not plain


def _default(name: str, kind: Any) -> Any:
    """What ``module:Class`` stands for: a config with its defaults, or a partial without arguments."""
    found = _located(name)
    if _origin(kind) is Callable:
        if not callable(found):
            raise UnreadableError(f"is {found!r}, not something to call. {_NO_CLASS}")
        return partial(found)
    if found is not kind or not dataclasses.is_dataclass(kind):
        raise UnreadableError
    try:
        return found()
    except (pydantic.ValidationError, TypeError) as error:
        raise UnreadableError(f"{_why(error)}. Choose it in a config file.") from None


def _described_by(value: Mapping[str, Any], kind: Any) -> Any:
    """What the JSON form of a config or a partial (`swath.config.resolve`) stands for."""
    found, wanted = _located(value[TARGET]), partial if _origin(kind) is Callable else _origin(kind)
    if dataclasses.is_dataclass(wanted) and not (isinstance(found, type) and issubclass(found, wanted)):
        raise UnreadableError
    made = _built(value)
    if not isinstance(made, wanted):
        raise UnreadableError
    return made


def _located(name: Any) -> Any:
    try:
        return locate(str(name))
    except ConfigError as error:
        raise UnreadableError(str(error)) from None


def _built(value: Any) -> Any:
    try:
        return build(value)
    except (ConfigError, pydantic.ValidationError, TypeError) as error:
        raise UnreadableError(_why(error)) from None


def _why(error: Exception) -> str:
    return explain(error) if isinstance(error, pydantic.ValidationError) else str(error)
