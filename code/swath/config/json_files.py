"""JSON in files, checked against the shape that its reader counts on: damage is an error that names file and value."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pydantic

from swath.errors import SwathError

SHOWN = 60
"""Characters of a wrong value that an error shows."""


class Shape(pydantic.BaseModel):
    """Base of the shapes of JSON objects: declared fields have exactly their types, and others may stand beside them."""

    model_config = pydantic.ConfigDict(strict=True, extra="allow")


def read_json(path: Path, shape: Any, kind: type[SwathError], remedy: str) -> Any:
    """The JSON value in a file, as Python's JSON types, once it has the shape: a `Shape`, or a type such as ``list[str]``.

    Raises `kind`, which names the file, the wrong value and the `remedy`, a whole sentence, when the file cannot be read,
    is not JSON, or has another shape.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise kind(f"{path}: cannot be read ({error}). {remedy}") from error
    return parse_json(text, shape, kind, str(path), remedy)


def parse_json(text: str | bytes, shape: Any, kind: type[SwathError], where: str, remedy: str) -> Any:
    """The JSON value in a text, as `read_json` gives that of a file; `where` begins the error."""
    try:
        value = json.loads(text)
        json.dumps(value, ensure_ascii=False).encode()  # halves of characters are no text, and no name of a file
    except (ValueError, RecursionError) as error:  # of UTF-8, of JSON, or nested too deeply
        raise kind(f"{where}: is not JSON ({error}). It is damaged or was edited. {remedy}") from error
    check_shape(value, shape, kind, where, remedy)
    return value


def check_shape(value: Any, shape: Any, kind: type[SwathError], where: str, remedy: str) -> None:
    """Raise `kind` when a JSON value has not the shape; see `read_json`."""
    try:
        _adapter(shape).validate_python(value, strict=True)
    except pydantic.ValidationError as error:
        fault = _first_fault(error)
        raise kind(f"{where}: {fault}. It is damaged or was edited. {remedy}") from error


def short(value: Any) -> str:
    """A wrong value as an error shows it: its beginning where it is long."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


@functools.cache
def _adapter(shape: Any) -> pydantic.TypeAdapter[Any]:
    return pydantic.TypeAdapter(shape)


def _first_fault(error: pydantic.ValidationError) -> str:
    item = error.errors(include_url=False)[0]
    name = ".".join(str(part) for part in item["loc"])
    if item["type"] == "missing":
        return f"`{name}` is missing"
    said = f"{item['msg'][:1].lower()}{item['msg'][1:]}".replace(" or instance of", ", not")
    place = f"`{name}`: " if name else ""
    return f"{place}{said.partition(', not')[0]}, got {short(item['input'])}"
