"""Config classes: frozen, keyword-only and type-checked."""

from __future__ import annotations

import typing
from collections.abc import Callable
from typing import Any, TypeVar, dataclass_transform

import pydantic
import pydantic.dataclasses

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
