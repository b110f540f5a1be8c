"""The image of a scene, by what its table says of it: what jobs that read one scene carry."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swath.data.tables import Row, bands_of, missing_of
from swath.geo.raster import RasterReader


@dataclass(frozen=True, kw_only=True)
class SceneImage:
    """A scene's file, values that are no measurement in it, and names of its bands where the table gives them."""

    path: Path
    missing: tuple[float, ...] = ()
    bands: tuple[str, ...] | None = None

    @classmethod
    def of(cls, row: Row) -> SceneImage:
        """That of a row of a table of scenes with `image`."""
        return cls(path=Path(row["image"]), missing=missing_of(row), bands=bands_of(row))

    def reader(self) -> RasterReader:
        """A reader of the file. Raises RasterError where it cannot be opened."""
        return RasterReader(self.path, self.missing, self.bands)

    @property
    def said(self) -> dict[str, Any]:
        """What the table says above the file itself, of JSON's types: a part of what decides a job's result."""
        return {"missing": list(self.missing), "bands": self.bands and list(self.bands)}
