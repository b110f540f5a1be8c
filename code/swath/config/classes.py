"""Config classes: frozen, keyword-only and type-checked."""

from __future__ import annotations

import dataclasses
import functools
import typing
from collections.abc import Callable
from typing import Any, TypeVar, dataclass_transform

import pydantic
import pydantic.dataclasses

from swath.config.moved import new_fields

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
    made.__init__ = _taking_old_names(made.__init__)
    return typing.cast(type[T], made)


def _taking_old_names(init: Callable[..., None]) -> Callable[..., None]:
    """Constructor that takes fields by the names that they had before, too (`swath.config.moved.FIELDS`)."""

    @functools.wraps(init)
    def construct(self: Any, *args: Any, **fields: Any) -> None:
        init(self, *args, **new_fields(type(self), fields, [f.name for f in dataclasses.fields(self)]))

    return construct
