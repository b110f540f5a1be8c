"""What file and folder names say of scenes: area and date."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from pathlib import Path

_DATE_FOLDER = re.compile(r"\d{4}-?\d{2}-?\d{2}.*")
_DATE_IN_NAME = re.compile(r"(?<!\d)(\d{8})(?:t(\d{6}))?(?!\d)", re.IGNORECASE)


def without_parts(name: str, parts: Collection[str]) -> str:
    """A name without those of its parts between underscores that are among `parts`: ``s1_vh_1`` without vh is ``s1_1``."""
    kept = [part for i, part in enumerate(name.split("_")) if i == 0 or part not in parts]
    return "_".join(kept)


def area_of(path: Path, root: Path) -> str:
    """The area a file belongs to: its deepest folder below `root` that is not named by a date, else the root's name.

    ``train/aoi1/20170314T115609/x.tif`` belongs to aoi1, whatever the root.
    """
    folders = [part for part in path.relative_to(root).parts[:-1] if not _DATE_FOLDER.fullmatch(part)]
    return folders[-1] if folders else root.name


def date_of(path: Path) -> str:
    """Acquisition time in a file name, as ``YYYYMMDDTHHMMSS`` or ``YYYYMMDD``; empty when there is none."""
    found = _DATE_IN_NAME.search(path.stem)
    return "" if found is None else found[1] + (f"T{found[2]}" if found[2] else "")


def listing(names: Iterable[str]) -> str:
    """The first five names, and how many more there are."""
    listed = list(names)
    return ", ".join(listed[:5]) + (f" and {len(listed) - 5} more" if len(listed) > 5 else "")
