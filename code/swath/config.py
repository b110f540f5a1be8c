"""Config files: load one, apply overrides from the command line, check it, resolve it to JSON and build from JSON.

A config file is Python that binds ``config`` to a frozen dataclass (see `configclass`). Things to build stand in
it as ``functools.partial(Class, ...)``. Config files are code: run only those that you would run as a script.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import importlib
import importlib.util
import inspect
import json
import re
import sys
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, dataclass_transform

import pydantic
import pydantic.dataclasses

from swath.errors import ConfigError
from swath.help import describe

PROJECT_ROOT = Path(__file__).resolve().parents[2]
"""The folder of MLproject. Every relative path in a config or on a command line starts here."""

TARGET = "_target_"
"""Key under which the JSON form of a partial names what it builds, as ``module:qualified.name``."""

PARTIAL = "_partial_"
"""Key that tells the JSON form of a partial of a dataclass from that of the dataclass itself."""

Factory = Callable[..., Any]
"""Type of a config field that holds ``functools.partial(Class, ...)``: called once the missing arguments are known."""

T = TypeVar("T")


@dataclass_transform(kw_only_default=True, frozen_default=True)
def configclass(cls: type[T]) -> type[T]:
    """Turn a class into a config: frozen, keyword-only, type-checked, no unknown field, docstrings as field help."""
    settings = pydantic.ConfigDict(
        extra="forbid", strict=True, arbitrary_types_allowed=True, use_attribute_docstrings=True
    )
    made: Any = pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=settings)(cls)
    return typing.cast(type[T], made)


@configclass
class StepConfig:
    """Where a preparation step's items are worked on; decides nothing about the result."""

    executor: str = "threads"
    """Where the work is done: threads, processes, serial, or a cluster: dask://<host>:<port> of its scheduler."""
    workers: int | None = None
    """Number of threads or processes; None takes one per core. A cluster works with all that it has."""


def absolute(path: str | Path) -> Path:
    """The one path rule: a relative path starts at the project root, ``~`` at the user's home."""
    return (PROJECT_ROOT / Path(path).expanduser()).resolve()


def relative(path: str | Path) -> str:
    """`path` as text that is short to read: relative to the project root where it lies inside, else absolute."""
    full = absolute(path)
    return full.relative_to(PROJECT_ROOT).as_posix() if full.is_relative_to(PROJECT_ROOT) else str(full)


# ---------------------------------------------------------------------------------------------------- loading


def load(path: str | Path, kind: type[T]) -> T:
    """Import the config file at `path` and return its ``config``.

    Raises ConfigError when the file is missing, does not bind ``config``, or binds something other than `kind`.
    """
    file = absolute(path)
    if not file.is_file():
        near = difflib.get_close_matches(
            file.name, [p.name for p in file.parent.glob("*.py")] if file.parent.is_dir() else [], n=1
        )
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ConfigError(f"config_path={path}: no such file (looked for {file}).{hint}")
    config = getattr(_import_file(file), "config", None)
    if not isinstance(config, kind):
        found = "nothing" if config is None else type(config).__name__
        raise ConfigError(
            f"{file}: `config` must be a {kind.__name__}, found {found}. Bind `config = {kind.__name__}(...)`."
        )
    _check_factories(config, file.name)
    return config


def _import_file(file: Path) -> ModuleType:
    """Import under the dotted name from the project root, so that relative imports and pickling work."""
    try:
        if file.is_relative_to(PROJECT_ROOT):
            if str(PROJECT_ROOT) not in sys.path:
                sys.path.insert(0, str(PROJECT_ROOT))
            return importlib.import_module(".".join(file.relative_to(PROJECT_ROOT).with_suffix("").parts))
        name = f"swath_config_{hashlib.sha256(str(file).encode()).hexdigest()[:12]}"
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module
    except pydantic.ValidationError as error:
        raise ConfigError(f"{file}: {_explain(error)}") from None
    except (SyntaxError, ImportError, AttributeError, TypeError, NameError) as error:
        raise ConfigError(f"{file}: cannot be imported: {type(error).__name__}: {error}") from error


def _explain(error: pydantic.ValidationError) -> str:
    """One sentence per wrong field: its name, what is expected, what was given, and the nearest right name."""
    kind = next((c for c in _config_classes() if c.__name__ == error.title), None)
    known = [f.name for f in dataclasses.fields(kind)] if kind else []
    sentences = []
    for item in error.errors():
        name = ".".join(str(part) for part in item["loc"])
        if item["type"] == "unexpected_keyword_argument":
            sentences.append(f"unknown field `{name}` in {error.title}. {_nearest(name, known)}")
        elif item["type"] in ("missing_keyword_only_argument", "missing_argument", "missing"):
            sentences.append(f"field `{name}` of {error.title} is missing")
        else:
            sentences.append(f"field `{name}` of {error.title}: {item['msg']}, got {item['input']!r}")
    return "; ".join(sentences)


def _config_classes() -> Iterator[type]:
    for module in list(sys.modules.values()):
        if getattr(module, "__name__", "").split(".")[0].startswith(("swath", "configs", "__main__")):
            yield from (v for v in vars(module).values() if isinstance(v, type) and dataclasses.is_dataclass(v))


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"Did you mean `{near[0]}`?" if near else f"Known: {', '.join(sorted(known))}."


# -------------------------------------------------------------------------------------------- factories (partials)


def _signature(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(function).parameters)


def _takes_any_keyword(parameters: Mapping[str, inspect.Parameter]) -> bool:
    return any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())


def _takes(parameters: Mapping[str, inspect.Parameter], name: str) -> bool:
    """Whether a callable takes the keyword; one that takes any still refuses what looks like a slip of the pen."""
    if name in parameters:
        return True
    return _takes_any_keyword(parameters) and not difflib.get_close_matches(name, list(parameters), n=1, cutoff=0.85)


def _check_factories(value: Any, where: str) -> None:
    """Refuse a partial whose keywords its class does not take, before any data is read."""
    if isinstance(value, partial):
        parameters = _signature(value.func)
        for name in value.keywords:
            if not _takes(parameters, name):
                raise ConfigError(
                    f"{where}: {value.func.__qualname__} takes no `{name}`. {_nearest(name, list(parameters))}"
                )
        _target_name(value.func, where)
    elif callable(value) and not dataclasses.is_dataclass(value):
        _target_name(value, where)
    for key, child in _children(value):
        _check_factories(child, f"{where}: {key}" if where.endswith(".py") else f"{where}.{key}")


def _arguments(value: partial[Any]) -> dict[str, Any]:
    """What a partial binds, positional arguments by their names."""
    return dict(zip(_signature(value.func), value.args, strict=False)) | value.keywords


def _children(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, partial):
        yield from _arguments(value).items()
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from ((f.name, getattr(value, f.name)) for f in dataclasses.fields(value))
    elif isinstance(value, Mapping):
        yield from ((str(k), v) for k, v in value.items())
    elif isinstance(value, (tuple, list)):
        yield from ((str(i), v) for i, v in enumerate(value))


def _target_name(function: Callable[..., Any], where: str) -> str:
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "<lambda>")
    if module is None or "<" in name:
        raise ConfigError(f"{where}: {name} cannot be named in JSON; use a class or function of a module, not a lambda")
    return f"{module}:{name}"


def locate(name: str) -> Any:
    """The object that ``module:qualified.name`` names. Raises ConfigError when there is none."""
    module_name, _, qualified = name.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
        for part in qualified.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise ConfigError(f"{name}: cannot be imported: {error}. Write it as `module:Class`.") from None
    return found


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
    open_ended = isinstance(value, partial) and _takes(_signature(value.func), head)
    if head not in kinds and not open_ended:
        raise ConfigError(f"{path}: no field `{head}` there. {_nearest(head, list(kinds))}")
    current = dict(_children(value)).get(head)
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
        raise ConfigError(f"{path}: {_explain(error)}. Set it in the config file.") from None


def _leaf_types(value: Any) -> dict[str, Any]:
    """Name to type of everything that can be set below `value`."""
    if isinstance(value, partial):
        hints = _hints(value.func)
        return {n: hints.get(n, Any) for n, p in _signature(value.func).items() if p.kind is not p.VAR_KEYWORD}
    if dataclasses.is_dataclass(value):
        hints = _hints(type(value))
        return {f.name: hints.get(f.name, Any) for f in dataclasses.fields(value)}
    return {key: _type_of(child) for key, child in _children(value)}


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
        return partial(value.func, **{**_arguments(value), name: new})
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        try:
            return dataclasses.replace(value, **{name: new})
        except pydantic.ValidationError as error:
            raise ConfigError(f"{path}: {_explain(error)}") from None
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
    candidates = (text, literal, tuple(literal) if isinstance(literal, list) else literal, split, words)
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
        why = _explain(error) if isinstance(error, pydantic.ValidationError) else str(error)
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


def _parse_factory(text: str, current: Any) -> Any:
    """Another class for a factory; keywords that both take are kept, so a variant needs one override."""
    found = locate(text)
    if not callable(found):
        raise ConfigError(f"{text}: is {found!r}, not something to call. Write it as `module:Class`.")
    kept = _arguments(current) if isinstance(current, partial) else {}
    takes = _signature(found)
    return partial(found, **{k: v for k, v in kept.items() if k in takes or _takes_any_keyword(takes)})


# ------------------------------------------------------------------------------------------------ resolve and build


def resolve(value: Any, where: str = "config") -> Any:
    """`value` as JSON types: dataclasses and dicts become objects, partials objects with a ``_target_``."""
    if isinstance(value, partial):
        return _callable_form(value.func, where) | {k: resolve(v, f"{where}.{k}") for k, v in _arguments(value).items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: resolve(getattr(value, f.name), f"{where}.{f.name}") for f in dataclasses.fields(value)}
        return {TARGET: _target_name(type(value), where)} | fields
    if isinstance(value, Mapping):
        return {str(k): resolve(v, f"{where}.{k}") for k, v in value.items()}
    if isinstance(value, (tuple, list)):
        return [resolve(v, where) for v in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if callable(value):
        return _callable_form(value, where)
    raise ConfigError(f"{where}: {value!r} has no JSON form; config fields hold plain values and functools.partial")


def _callable_form(function: Callable[..., Any], where: str) -> dict[str, Any]:
    form: dict[str, Any] = {TARGET: _target_name(function, where)}
    return form | {PARTIAL: True} if dataclasses.is_dataclass(function) else form


def build(resolved: Any) -> Any:
    """The inverse of `resolve`: dataclasses are constructed (and checked), other targets become partials."""
    if isinstance(resolved, dict):
        values = {k: build(v) for k, v in resolved.items() if k not in (TARGET, PARTIAL)}
        if TARGET not in resolved:
            return values
        target = locate(resolved[TARGET])
        is_value = isinstance(target, type) and dataclasses.is_dataclass(target) and PARTIAL not in resolved
        return target(**values) if is_value else partial(target, **values)
    return tuple(build(v) for v in resolved) if isinstance(resolved, list) else resolved


def leaves(resolved: Any, prefix: str = "") -> dict[str, Any]:
    """Flat ``{"data.crop": 256, "model": "module:Class", ...}`` of a resolved config, for tables and comparison."""
    if isinstance(resolved, dict) and resolved:
        flat: dict[str, Any] = {}
        for key, child in resolved.items():
            if key not in (TARGET, PARTIAL):
                flat |= leaves(child, f"{prefix}.{key}" if prefix else key)
            elif prefix and key == TARGET:
                flat[prefix] = child
        return flat
    if isinstance(resolved, list) and any(isinstance(child, dict) for child in resolved):
        return {k: v for i, child in enumerate(resolved) for k, v in leaves(child, f"{prefix}.{i}").items()}
    return {prefix: resolved}


def digest(value: Any) -> str:
    """Twelve hexadecimal digits that change when the JSON form of `value` changes."""
    text = json.dumps(resolve(value), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def sources(config_path: str | Path) -> list[Path]:
    """The config file and the files that it imports from its challenge folders, for the reproduction bundle."""
    file = absolute(config_path)
    loaded = (getattr(m, "__file__", None) for n, m in list(sys.modules.items()) if n.startswith("configs."))
    return sorted({file, *(Path(f).resolve() for f in loaded if f)})


# --------------------------------------------------------------------------------------------------- command line


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
        print(describe(shown.__module__, shown.__qualname__))
        raise SystemExit(0)
    if not paths:
        raise ConfigError("config_path is missing: pass --config_path configs/<challenge>/<entry_point>.py")
    config = load(paths[-1], kind)
    for name, value in pairs:
        if name not in ("config_path", "script_path"):
            config = override(config, name, value)
    _check_factories(config, "command line")
    return config, paths[-1]


def _pairs(arguments: list[str]) -> list[tuple[str, str]]:
    pairs, rest = [], list(arguments)
    while rest:
        name = rest.pop(0)
        if not name.startswith("--"):
            raise ConfigError(f"{name!r}: expected `--field value`")
        key, equals, value = name[2:].partition("=")
        if not equals and not rest:
            raise ConfigError(f"--{key} has no value")
        pairs.append((key, value if equals else rest.pop(0)))
    return pairs
