"""What was left out, and why: noted where it happens, said and recorded by the step or the run that it happens in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import astuple, dataclass
from pathlib import Path


@dataclass(frozen=True)
class LeftOut:
    """So many things of a file or folder that were not used, and why."""

    count: int
    things: str
    """Such as ``features`` or ``rasters``."""
    where: str
    """The file or folder."""
    why: str

    @property
    def line(self) -> str:
        """A sentence for people."""
        return f"left out: {self.count} {self.things} of {self.where}: {self.why}"


Notices = list[LeftOut]

_OF_CONTEXT: ContextVar[Notices | None] = ContextVar("left_out", default=None)
_OF_PROCESS: list[Notices] = []
"""The innermost run last: it gets what threads note that have no context of their own."""


def leave_out(count: int, things: str, where: Path | str, why: str) -> None:
    """Note that `count` things were not used; nothing for 0."""
    if count:
        note([LeftOut(int(count), things, str(where), why)])


def note(found: Sequence[LeftOut]) -> None:
    """Pass on what was noted elsewhere, such as in another process."""
    here = _OF_CONTEXT.get()
    if here is None and _OF_PROCESS:
        here = _OF_PROCESS[-1]
    if here is not None:
        here += [notice for notice in found if notice not in here]


@contextmanager
def collected() -> Iterator[Notices]:
    """A list of what this thread notes in the block, instead of whoever collected before."""
    found: Notices = []
    token = _OF_CONTEXT.set(found)
    try:
        yield found
    finally:
        _OF_CONTEXT.reset(token)


@contextmanager
def collected_from_all_threads() -> Iterator[Notices]:
    """A list of what any thread of the process notes in the block that does not collect for itself."""
    found: Notices = []
    _OF_PROCESS.append(found)
    try:
        yield found
    finally:
        _OF_PROCESS.remove(found)


def as_rows(notices: Sequence[LeftOut]) -> list[list[int | str]]:
    """Of JSON's types; `from_rows` is the way back."""
    return [list(astuple(notice)) for notice in notices]


def from_rows(rows: Sequence[Sequence[int | str]]) -> Notices:
    """The inverse of `as_rows`."""
    return [LeftOut(int(count), str(things), str(where), str(why)) for count, things, where, why in rows]


def as_csv(notices: Sequence[LeftOut]) -> str:
    """A table with a header: count, things, where, why."""
    cells = [("count", "things", "where", "why"), *(astuple(notice) for notice in notices)]
    return "".join(",".join('"' + str(cell).replace('"', '""') + '"' for cell in row) + "\n" for row in cells)
