"""What file and folder names say of scenes: area and date."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from datetime import datetime
from pathlib import Path

from swath.errors import CatalogError, ConfigError
from swath.files import leads_outside

_DATE_IN_NAME = re.compile(r"(?<!\d)(\d{4})(-?)(\d{2})\2(\d{2})(?:t(\d{6}))?(?!\d)", re.IGNORECASE)
_YEARS = range(1960, 2100)
"""Years of satellite scenes; other digits in a name are a number of something else."""


def without_parts(name: str, parts: Collection[str]) -> str:
    """A name without those of its parts between underscores that are among `parts`: ``s1_vh_1`` without vh is ``s1_1``."""
    kept = [part for i, part in enumerate(name.split("_")) if i == 0 or part not in parts]
    return "_".join(kept)


def area_of(path: Path, root: Path, pattern: str | None = None) -> str:
    """The area a file belongs to: its first folder below `root`, whatever it is called, else the root's name.

    ``38SNE/date1/x.tif`` and ``38SNE/s1a_20150102/x.tif`` belong to 38SNE. `pattern`, a regular expression, finds the
    area in the path below `root` instead: its first group, or all that it matches where it has none. Raises ConfigError
    for a pattern that is no regular expression, CatalogError for a path that it does not fit.
    """
    inside = path.relative_to(root) if path.is_relative_to(root) else path
    if pattern is not None:
        return _matched(pattern, inside, path)
    return inside.parts[0] if len(inside.parts) > 1 else root.name


def _matched(pattern: str, inside: Path, path: Path) -> str:
    try:
        found = re.search(pattern, inside.as_posix())
    except re.error as error:
        raise ConfigError(
            f"area_pattern={pattern!r}: no regular expression ({error}). Pass one that finds the area in a path, such as "
            "'[^/]+' for the first folder."
        ) from None
    area = found and (found[1] if found.re.groups else found[0])
    if not area or leads_outside(area):
        what = f"finds {area!r}, which is no name of a folder," if area else "finds no area"
        raise CatalogError(
            f"{path}: area_pattern={pattern!r} {what} in {inside.as_posix()}. Change the pattern, or take the file "
            "out of the folder."
        )
    return str(area)


def date_of(path: Path) -> str:
    """Acquisition time in a file name, as ``YYYYMMDDTHHMMSS`` or ``YYYYMMDD``; empty when there is none.

    The first eight digits, or ``YYYY-MM-DD``, that are a day of the calendar: a catalogue number is no date.
    """
    for year, _, month, day, time in _DATE_IN_NAME.findall(path.stem):
        if int(year) not in _YEARS or not _parses(f"{year}{month}{day}", "%Y%m%d"):
            continue
        of_day = f"T{time}" if time and _parses(time, "%H%M%S") else ""
        return f"{year}{month}{day}{of_day}"
    return ""


def _parses(digits: str, layout: str) -> bool:
    try:
        datetime.strptime(digits, layout)
    except ValueError:
        return False
    return True


def listing(names: Iterable[str]) -> str:
    """The first five names, and how many more there are."""
    listed = list(names)
    return ", ".join(listed[:5]) + (f" and {len(listed) - 5} more" if len(listed) > 5 else "")
