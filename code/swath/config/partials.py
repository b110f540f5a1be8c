"""`functools.partial` in configs: what one takes and binds, and the names of what it calls."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from swath.config.messages import nearest
from swath.config.moved import new_name
from swath.errors import ConfigError


def signature(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The parameters of a callable by name; one that does not tell them, such as `dict`, takes any keyword."""
    try:
        return dict(inspect.signature(function).parameters)
    except (ValueError, TypeError):
        return {"keywords": inspect.Parameter("keywords", inspect.Parameter.VAR_KEYWORD)}


def takes_any_keyword(parameters: Mapping[str, inspect.Parameter]) -> bool:
    """Whether one of the parameters is ``**keywords``."""
    return any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())


def takes_keyword(parameters: Mapping[str, inspect.Parameter], name: str) -> bool:
    """Whether a callable takes the keyword; one that takes any still refuses what looks like a slip of the pen."""
    if name in parameters:
        return True
    return takes_any_keyword(parameters) and not difflib.get_close_matches(name, list(parameters), n=1, cutoff=0.85)


def check_factories(value: Any, where: str) -> None:
    """Refuse a partial whose keywords its class does not take, before any data is read."""
    if isinstance(value, partial):
        parameters = signature(value.func)
        for name in value.keywords:
            if not takes_keyword(parameters, name):
                raise ConfigError(
                    f"{where}: {value.func.__qualname__} takes no `{name}`. {nearest(name, list(parameters))}"
                )
        target_name(value.func, where)
    elif callable(value) and not dataclasses.is_dataclass(value):
        target_name(value, where)
    for key, child in children(value):
        check_factories(child, f"{where}: {key}" if where.endswith(".py") else f"{where}.{key}")


def arguments(value: partial[Any]) -> dict[str, Any]:
    """What a partial binds, positional arguments by their names."""
    return dict(zip(signature(value.func), value.args, strict=False)) | value.keywords


def children(value: Any) -> Iterator[tuple[str, Any]]:
    """(name, value) of what lies directly below a value of a config: fields, keys, positions, keywords of a partial."""
    if isinstance(value, partial):
        yield from arguments(value).items()
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from ((f.name, getattr(value, f.name)) for f in dataclasses.fields(value))
    elif isinstance(value, Mapping):
        yield from ((str(k), v) for k, v in value.items())
    elif isinstance(value, (tuple, list)):
        yield from ((str(i), v) for i, v in enumerate(value))


def target_name(function: Callable[..., Any], where: str) -> str:
    """``module:qualified.name`` of a class or function; ConfigError, which begins with `where`, for a lambda."""
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "<lambda>")
    if module is None or "<" in name:
        raise ConfigError(f"{where}: {name} cannot be named in JSON; use a class or function of a module, not a lambda")
    return f"{module}:{name}"


def locate(name: str) -> Any:
    """The object that ``module:qualified.name`` names, also by a name that it had before it moved.

    Raises ConfigError when there is none.
    """
    module_name, _, qualified = new_name(name).partition(":")
    try:
        found: Any = importlib.import_module(module_name)
        for part in qualified.split("."):
            found = getattr(found, part)
    except (Exception, SystemExit) as error:  # a module may do anything when it is imported
        raise ConfigError(
            f"{name}: cannot be imported: {str(error) or type(error).__name__}. Write it as `module:Class`."
        ) from error
    return found
