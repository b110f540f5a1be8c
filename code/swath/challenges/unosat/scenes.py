"""The UNOSAT layout: single-band VH and VV rasters in folders by area and date, one label shapefile per area."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from swath.config import InputPath, OutputPath, absolute, configclass
from swath.data.naming import area_of, listing, without_parts
from swath.data.tables import SCENES, scene_row, write_table
from swath.errors import CatalogError, RasterError
from swath.geo.grid import Window
from swath.geo.layout import RasterInfo, RasterSpec
from swath.geo.raster import RasterReader, describe, find_rasters
from swath.geo.raster_writer import RasterWriter
from swath.geo.windows import bricks
from swath.geo.zones import MissingZones, Zones, find_zones, zones_from
from swath.notices import leave_out
from swath.steps.config import Step
from swath.steps.job import Report

BANDS = ("vh", "vv", "mean")
"""Bands of a 3-band scene, linear backscatter: VH, VV and (VH + VV) / 2."""

NAME_PARTS = ("vh", "vv", "3b")
"""Parts of file names that tell the rasters of one scene apart."""

_MISSION = re.compile(r"(?<![a-z0-9])(s[1-6][a-d]|l[cteom]0\d)(?![a-z0-9])", re.IGNORECASE)

NODATA = -99999.0
BLOCK = 256
BRICK_PIXELS = BLOCK * 16384
"""Full rows up to 16384 px wide: files in strips are then read once, and 30 bytes a pixel are 120 MB."""


@configclass
class Generate3bConfig(Step):
    """VH and VV rasters to 3-band scenes."""

    step_name = "generate_3b_images"

    input_path: InputPath
    """Folder of areas, with single-band rasters whose names contain _vh_ and _vv_."""
    output_path: OutputPath
    """Folder for <area>/<name with _3b_>.tif and scenes.parquet."""
    missing_values: tuple[float, ...] = ()
    """Values that mean no measurement though the headers do not say so, wherever they stand, such as -32768."""
    missing_zones: MissingZones | None = MissingZones()
    """Zones that mean no measurement: 0 in VH and VV on 64 connected pixels or more, as terrain correction leaves them;
    linear backscatter is above 0. They become nodata. None: zeros are measurements."""
    area_pattern: str | None = None
    """Regular expression that finds the area in a path below input_path; None takes the first folder."""

    def jobs(self) -> list[SceneJob]:
        """A job per pair of rasters. Raises CatalogError when there is none, or a twin is missing."""
        source = absolute(self.input_path)
        pairs = find_pairs(source, self.output, "3b", self.missing_values, self.area_pattern, self.missing_zones)
        return [SceneJob(pair) for pair in pairs]

    def finish(self, results: Mapping[str, Any]) -> Report:
        """Write scenes.parquet; say where zones are missing."""
        rows = [
            scene_row(self.output / result["image"], self.output, result["area"], key) | {"mission": mission_of(key)}
            for key, result in results.items()
        ]
        write_table(self.output / SCENES, rows)
        return replace(zone_report(results, self.missing_zones), written=[self.output / SCENES])


def zone_report(results: Mapping[str, Any], rule: MissingZones | None) -> Report:
    """How many zones of how many scenes are missing, from the results of the scenes' jobs."""
    counts = [result["zones"] for result in results.values() if "zones" in result]
    if rule is None or not counts:
        return Report()
    zones, scenes = sum(counts), sum(count > 0 for count in counts)
    line = (
        f"zones of {rule.value:g} in VH and VV, {rule.min_pixels} px or more: {zones} in {scenes} of {len(counts)} scenes, "
        "taken as missing"
    )
    return Report(metrics={"preparation/zones": zones, "preparation/scenes_with_zones": scenes}, lines=[line])


def mission_of(name: str) -> str:
    """Satellite in a file's name (Sentinel ``s1a``, Landsat ``lc08``), lower case; empty when there is none."""
    found = _MISSION.search(name)
    return found[1].lower() if found else ""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """The two rasters of one acquisition, the area it belongs to, and where its product goes."""

    vh: Path
    vv: Path
    area: str
    output: Path
    root: Path
    """The folder of all products."""
    missing: tuple[float, ...] = ()
    """Values of the two that mean no measurement, besides nodata."""
    zones: MissingZones | None = None
    """Which zones of both mean no measurement."""

    @property
    def name(self) -> str:
        """The product's path below the folder of all products."""
        return self.output.relative_to(self.root).as_posix()

    @property
    def key(self) -> str:
        return without_parts(self.output.stem, NAME_PARTS)


@dataclass(frozen=True)
class SceneJob:
    """One 3-band scene to write."""

    pair: Pair

    @property
    def key(self) -> str:
        return self.pair.key

    @property
    def inputs(self) -> tuple[Path, Path]:
        return self.pair.vh, self.pair.vv

    @property
    def outputs(self) -> tuple[Path]:
        return (self.pair.output,)

    @property
    def decided_by(self) -> Any:
        """The area that the folders say."""
        return self.pair.area

    def run(self) -> dict[str, Any]:
        """Write the scene."""
        return write_3b(self.pair)


def find_pairs(
    root: Path,
    output: Path,
    token: str,
    missing_values: tuple[float, ...] = (),
    area_pattern: str | None = None,
    zones: MissingZones | None = None,
) -> list[Pair]:
    """Every ``*_vh_*`` raster below `root` with its ``_vv_`` twin; outputs are named with `token` instead of ``vh``.

    Outputs lie in a folder per area, the first folder below `root` or what `area_pattern` finds; names that would
    collide get the parent folder as a prefix. `missing_values` of the rasters mean no measurement, and `zones` of both.
    Raises CatalogError when there is no pair, or when twins are missing.
    """
    rasters = find_rasters(root)
    twins, missing = _twins(rasters)
    if not twins and not missing:
        raise CatalogError(
            f"{root}: no scene found: no GeoTIFF with _vh_ in its name. Set input_path to the folder of areas."
        )
    others = sorted({*rasters} - {path for pair in twins.items() for path in pair})
    if missing:
        raise CatalogError("; ".join(missing[:5]) + ". Download the other raster, or take this one out of the folder.")
    leave_out(
        len(others), "rasters", root, f"neither _vh_ nor _vv_ is in their names ({listing(p.name for p in others)})"
    )
    areas = {path: area_of(path, root, area_pattern) for path in twins}
    names = _output_names(areas, token)
    pairs = [
        Pair(
            vh=vh,
            vv=vv,
            area=areas[vh],
            output=output / names[vh],
            root=output,
            missing=missing_values,
            zones=zones,
        )
        for vh, vv in twins.items()
    ]
    _require_own_keys(pairs)
    return pairs


def _twins(rasters: Sequence[Path]) -> tuple[dict[Path, Path], list[str]]:
    """(VH raster to the VV raster beside it, what lacks its twin, as text); letter case does not matter."""
    by_name = {(path.parent, path.name.lower()): path for path in rasters}
    found, missing = {}, []
    for path in rasters:
        for own, other in (("vh", "vv"), ("vv", "vh")):
            if f"_{own}_" not in path.name.lower():
                continue
            twin = by_name.get((path.parent, path.name.lower().replace(f"_{own}_", f"_{other}_")))
            if twin is None:
                missing.append(f"{path} has no twin {with_token(path.name, own, other)}")
            elif own == "vh":
                found[path] = twin
    return found, missing


def with_token(name: str, old: str, new: str) -> str:
    """A file's name with the part ``_old_``, in any letter case, as ``_new_``, in capitals where the old one was."""

    def like(match: re.Match[str]) -> str:
        return match[0].replace(match[1], new.upper() if match[1].isupper() else new)

    return re.sub(f"_({old})_", like, name, flags=re.IGNORECASE)


def _require_own_keys(pairs: Sequence[Pair]) -> None:
    """Scenes are joined by key everywhere, so two areas cannot hold scenes of one name."""
    uses = Counter(pair.key for pair in pairs)
    twice = [str(pair.vh) for pair in pairs if uses[pair.key] > 1]
    if twice:
        raise CatalogError(f"the same scene name stands for several scenes: {', '.join(twice[:5])}. Rename the files.")


def _output_names(areas: Mapping[Path, str], token: str) -> dict[Path, Path]:
    short = {path: Path(area) / with_token(path.name, "vh", token) for path, area in areas.items()}
    uses = Counter(short.values())
    named = {p: s if uses[s] == 1 else s.with_name(f"{p.parent.name}_{s.name}") for p, s in short.items()}
    twice = [str(p) for p, s in named.items() if Counter(named.values())[s] > 1]
    if twice:
        raise CatalogError(f"these scenes would get the same name: {', '.join(twice[:5])}. Rename one of them.")
    return named


def require_same_grid(pair: Pair) -> tuple[RasterInfo, RasterInfo]:
    """The headers of the two rasters; RasterError when they are not single bands on one grid."""
    vh, vv = describe(pair.vh), describe(pair.vv)
    for info in (vh, vv):
        if len(info.bands) != 1:
            raise RasterError(
                f"{info.path}: expected one band, found {len(info.bands)}. It is not a single polarisation."
            )
    difference = vh.grid.difference(vv.grid)
    if difference:
        raise RasterError(
            f"{pair.vh} and {pair.vv}: not on one grid: {difference}. Resample one onto the other, or take both out."
        )
    return vh, vv


def pair_zones(pair: Pair, vh: RasterReader, vv: RasterReader) -> Zones:
    """The zones of both rasters, of the whole scene, that mean no measurement; none where they are not looked for."""

    def both(window: Window) -> NDArray[np.float32]:
        return np.concatenate([vh.image(window), vv.image(window)])

    return find_zones(both, vh.info.grid.shape, pair.zones) if pair.zones else zones_from([])


def write_3b(pair: Pair) -> dict[str, Any]:
    """Write (VH, VV, (VH + VV) / 2) as float32 with CRS, transform, tags and nodata; brick by brick.

    Nodata in either band is nodata in all three, and so are missing zones; `zones` in the result is their number. Raises
    RasterError when the two are not on one grid.
    """
    vh, _ = require_same_grid(pair)
    spec = RasterSpec(grid=vh.grid, bands=BANDS, dtype="float32", nodata=NODATA, tags=vh.tags, block=BLOCK)
    with (
        RasterReader(pair.vh, pair.missing) as vh_reader,
        RasterReader(pair.vv, pair.missing) as vv_reader,
        RasterWriter(pair.output, spec) as writer,
    ):
        zones = pair_zones(pair, vh_reader, vv_reader)
        for brick in bricks(vh.grid.shape, BLOCK, BRICK_PIXELS):
            bands = three_bands(vh_reader.image(brick)[0], vv_reader.image(brick)[0])
            writer.write(zones.hide(bands, brick, np.nan), brick)
    return {"area": pair.area, "image": pair.name, "zones": zones.count}


def three_bands(vh_HW: NDArray[np.float32], vv_HW: NDArray[np.float32]) -> NDArray[np.float32]:
    """float32 (3, height, width): VH, VV and their mean; NaN in all three where either is NaN."""
    out = np.empty((3, *vh_HW.shape), np.float32)
    np.add(vh_HW, vv_HW, out=out[2])
    out[2] *= np.float32(0.5)
    gap = np.isnan(out[2])
    for band, source in zip(out, (vh_HW, vv_HW), strict=False):
        np.copyto(band, source)
        np.copyto(band, np.float32(np.nan), where=gap)
    return out
