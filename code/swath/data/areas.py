"""To which area a raster belongs: as a table of scenes says, as a pattern finds in its path, or by its first folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from swath.config import InputPath, absolute, configclass
from swath.data.naming import area_of, listing
from swath.data.tables import SCENES, read_scenes, texts_of
from swath.errors import CatalogError

DEFAULT_COLUMN = "area"


@configclass
class AreaFields:
    """Fields of a config that say how the area of a raster is found."""

    scenes_path: InputPath | None = None
    """Folder with a scenes.parquet that names areas; None takes the first folder below input_path."""
    area_column: str = DEFAULT_COLUMN
    """Column of scenes.parquet that holds the area."""
    area_pattern: str | None = None
    """Regular expression that finds the area in a path below input_path, such as '38[A-Z]{3}'."""

    @property
    def area_rule(self) -> AreaRule:
        """What these fields say."""
        scenes = absolute(self.scenes_path) if self.scenes_path else None
        return AreaRule(pattern=self.area_pattern, scenes=scenes, column=self.area_column)


@dataclass(frozen=True, kw_only=True)
class AreaRule:
    """What says which area a raster belongs to: `pattern`, else a table that lists it, else its first folder."""

    pattern: str | None = None
    """Regular expression that finds the area in a path below the input (see `area_of`)."""
    scenes: Path | None = None
    """A scenes.parquet, or the folder that it lies in; None takes the one beside the rasters, if there is one."""
    column: str = DEFAULT_COLUMN
    """Column of that table that holds the area."""

    def areas(self, rasters: Sequence[tuple[str, Path]], root: Path) -> list[str]:
        """The area of each (key, path below `root`), in their order.

        Raises CatalogError when a table lists some of the rasters and not all, when a row has no area, or when `column`
        is not the usual one and no raster is listed at all.
        """
        if self.pattern is None:
            listed = self._listed(rasters, root)
            if listed is not None:
                return listed
        return [area_of(path, root, self.pattern) for _, path in rasters]

    def tells(self, rasters: Sequence[tuple[str, Path]], root: Path) -> bool:
        """Whether a pattern or a table says the areas, so that folders need not."""
        return self.pattern is not None or self._listed(rasters, root) is not None

    def _listed(self, rasters: Sequence[tuple[str, Path]], root: Path) -> list[str] | None:
        """Areas by the table; None where there is no table, or it lists other scenes."""
        home = self.home(root)
        if home is None:
            return None
        scenes = read_scenes(home)
        values = texts_of(scenes, self.column, "area_column")
        by_key = dict(zip(scenes["key"], values, strict=True))
        by_file = dict(zip(scenes["image"], values, strict=True))
        found = [by_file[str(path)] if str(path) in by_file else by_key.get(key, "") for key, path in rasters]
        missing = [key for (key, _), area in zip(rasters, found, strict=True) if area == ""]
        if len(missing) == len(rasters) and self.column == DEFAULT_COLUMN:
            return None
        if missing:
            raise CatalogError(
                f"{home / SCENES}: does not list {listing(missing)}. Name the table of these scenes in scenes_path, or "
                "find areas in paths: area_pattern='[^/]+' is the first folder."
            )
        self._require_values(rasters, found, home)
        return [str(area) for area in found]

    def home(self, root: Path | None) -> Path | None:
        """The folder of the table: the one that is named, else `root`; None where neither has a table."""
        named = self.scenes.parent if self.scenes is not None and self.scenes.name == SCENES else self.scenes
        for folder in (named, root):
            if folder is not None and (folder / SCENES).is_file():
                return folder
        return None

    def by_path(self, root: Path) -> Callable[[str], str]:
        """A function from the path of a raster to its area, empty where the pattern does not fit."""

        def area(path: str) -> str:
            try:
                return area_of(Path(path), root, self.pattern)
            except CatalogError:
                return ""

        return area

    def _require_values(self, rasters: Sequence[tuple[str, Path]], areas: Sequence[str | None], home: Path) -> None:
        empty = [key for (key, _), area in zip(rasters, areas, strict=True) if area is None]
        if empty:
            raise CatalogError(
                f"{home / SCENES}: column {self.column!r} is empty for {listing(empty)}. Fill it in, or name another "
                "column in area_column."
            )


def images_by_area(rule: AreaRule) -> dict[str, list[Path]]:
    """Area to the images of the scenes that `rule` names, by its table, else by pattern or folder; some may fit no pattern."""
    folder = rule.home(None) or rule.scenes
    if folder is None:
        return {}
    scenes = read_scenes(folder)
    areas = scenes[rule.column] if (folder / SCENES).is_file() else scenes["image"].map(rule.by_path(folder))
    found: dict[str, list[Path]] = {}
    for image, area in zip(scenes["image"], areas, strict=True):
        found.setdefault(str(area), []).append(Path(image))
    return found
