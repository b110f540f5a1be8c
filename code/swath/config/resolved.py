"""Configs as JSON types and back, flat for comparison, and as a digest."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from swath.config.moved import ADDED_FIELDS, new_fields
from swath.config.partials import arguments, locate, target_name
from swath.errors import ConfigError

TARGET = "_target_"
"""Key under which the JSON form of a partial names what it builds, as ``module:qualified.name``."""

PARTIAL = "_partial_"
"""Key that tells the JSON form of a partial of a dataclass from that of the dataclass itself."""


# ------------------------------------------------------------------------------------------------ resolve and build


def resolve(value: Any, where: str = "config") -> Any:
    """`value` as JSON types: dataclasses and dicts become objects, partials objects with a ``_target_``."""
    if isinstance(value, partial):
        return _callable_form(value.func, where) | {k: resolve(v, f"{where}.{k}") for k, v in arguments(value).items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: resolve(getattr(value, f.name), f"{where}.{f.name}") for f in dataclasses.fields(value)}
        return {TARGET: target_name(type(value), where)} | fields
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
    form: dict[str, Any] = {TARGET: target_name(function, where)}
    return form | {PARTIAL: True} if dataclasses.is_dataclass(function) else form


def build(resolved: Any, find: Callable[[str], Any] = locate) -> Any:
    """The inverse of `resolve`: dataclasses are constructed (and checked), other targets become partials.

    `find` gives what a ``_target_`` names. `locate` finds everything that can be imported, so `resolved` has to be as
    trusted as a config file; what comes from elsewhere goes through `swath.config.trust.build_from_record`.
    """
    if isinstance(resolved, dict):
        values = {k: build(v, find) for k, v in resolved.items() if k not in (TARGET, PARTIAL)}
        if TARGET not in resolved:
            return values
        target = find(resolved[TARGET])
        if not (isinstance(target, type) and dataclasses.is_dataclass(target)):
            return partial(target, **values)
        values = new_fields(target, values, [f.name for f in dataclasses.fields(target)])
        return partial(target, **values) if PARTIAL in resolved else target(**values)
    return tuple(build(v, find) for v in resolved) if isinstance(resolved, list) else resolved


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


def without_added_fields(resolved: Any) -> Any:
    """JSON data of `resolve` without the fields that a later version added and that are at their defaults there.

    Such a config says what it said before, so what was done with it is still known by its digest.
    """
    if isinstance(resolved, Mapping):
        added = ADDED_FIELDS.get(str(resolved.get(TARGET)), {})
        kept = {k: v for k, v in resolved.items() if k not in added or v != added[k]}
        return {k: without_added_fields(v) for k, v in kept.items()}
    return [without_added_fields(v) for v in resolved] if isinstance(resolved, list) else resolved


def digest(value: Any) -> str:
    """Twelve hexadecimal digits that change when the JSON form of `value` changes; `without_added_fields`."""
    text = json.dumps(without_added_fields(resolve(value)), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
