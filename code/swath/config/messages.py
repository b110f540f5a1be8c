"""What to say of a wrong field: its name, what is expected, and the nearest right name."""

from __future__ import annotations

import dataclasses
import difflib
import sys
from collections.abc import Iterator, Sequence

import pydantic
import pydantic.dataclasses


def explain(error: pydantic.ValidationError) -> str:
    """One sentence per wrong field: its name, what is expected, what was given, and the nearest right name."""
    kind = next((c for c in _config_classes() if c.__name__ == error.title), None)
    known = [f.name for f in dataclasses.fields(kind)] if kind else []
    sentences = []
    for item in error.errors():
        name = ".".join(str(part) for part in item["loc"])
        if item["type"] == "unexpected_keyword_argument":
            sentences.append(f"unknown field `{name}` in {error.title}. {nearest(name, known)}")
        elif item["type"] in ("missing_keyword_only_argument", "missing_argument", "missing"):
            sentences.append(f"field `{name}` of {error.title} is missing")
        else:
            sentences.append(f"field `{name}` of {error.title}: {item['msg']}, got {item['input']!r}")
    return "; ".join(sentences)


def _config_classes() -> Iterator[type]:
    for module in list(sys.modules.values()):
        if getattr(module, "__name__", "").split(".")[0].startswith(("swath", "configs", "__main__")):
            yield from (v for v in vars(module).values() if isinstance(v, type) and dataclasses.is_dataclass(v))


def nearest(name: str, known: Sequence[str]) -> str:
    """A sentence that names the known name nearest to a wrong one, or all of them where none is near."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"Did you mean `{near[0]}`?" if near else f"Known: {', '.join(sorted(known))}."
