"""Opening rasters to read: which drivers may look at a file, and what is refused because nobody could use it rightly.

GDAL finds a file's driver by its content, whatever the file is called; and a virtual raster (VRT) may name any file or
address. So drivers are named here by the suffix.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import rasterio
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from swath.errors import RasterError
from swath.geo.grid import Grid
from swath.geo.layout import UNNAMED, RasterInfo

GDAL_FAILURES = (RasterioError, rasterio._err.CPLE_BaseError, OSError)

DRIVERS = {
    ".tif": "GTiff", ".tiff": "GTiff", ".img": "HFA", ".jp2": "JP2OpenJPEG", ".png": "PNG", ".jpg": "JPEG",
    ".jpeg": "JPEG", ".vrt": "VRT",
}  # fmt: skip
"""Suffix to the one driver that may open the file."""

SUFFIXES = (".tif", ".tiff")
"""Suffixes, in any letter case, of the rasters that folders are searched for."""

OTHER_RASTERS = (".img", ".jp2", ".vrt")
"""Suffixes of rasters that are read when they are named, and are left out where a folder is searched."""

LARGEST_SIDE = 2**24
"""Pixels: 1,600 times as wide as a Sentinel-1 scene. A header that claims more is damaged."""

ALPHA_NAMES = ("", "alpha")

_SOURCES = {"sourcefilename", "sourcedataset", "maskdataset", "basefilename"}
"""Elements of a VRT that name a file."""
_PLAIN_BANDS = {"", "vrtrasterband", "vrtsourcedrasterband"}
"""Kinds of bands of a VRT that only place pixels of other files; others warp, compute or read raw bytes."""


@contextmanager
def opened_raster(path: Path) -> Iterator[Any]:
    """The dataset that `open_raster` gives, for the length of a block."""
    with closing(open_raster(path)) as dataset:
        yield dataset


def open_raster(path: Path) -> Any:
    """Open a raster for reading with the driver that its suffix names.

    Raises RasterError, which names the file, when it is missing, foreign or truncated, and for what has no place or no
    measurement here: complex pixels, bands of several types, ground control points instead of a transform.
    """
    if not path.is_file():
        raise RasterError(f"{path}: no such file")
    suffix = path.suffix.lower()
    if suffix not in DRIVERS:
        known = ", ".join(DRIVERS)
        raise RasterError(
            f"{path}: {suffix or 'no suffix'} is none of the rasters read here ({known}). Convert it: {_copy(path)}"
        )
    if suffix == ".vrt":
        _require_own_sources(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # scenes without a place are legal
            dataset = rasterio.open(path, driver=DRIVERS[suffix])
    except GDAL_FAILURES as error:
        raise unreadable(path, error) from error
    try:
        _require_usable(dataset, path)
    except BaseException:
        dataset.close()
        raise
    return dataset


def unreadable(path: Path, error: BaseException) -> RasterError:
    """What to raise when GDAL cannot read a file."""
    size = path.stat().st_size if path.is_file() else 0
    cause = error.__cause__ or error
    return RasterError(
        f"{path}: cannot be read as a raster ({size} bytes; GDAL: {cause}). "
        "It is truncated or not a raster: copy or download it again, or take it out of the folder."
    )


def info_of(dataset: Any, path: Path) -> RasterInfo:
    """What the header of an open dataset says. Raises RasterError for an alpha band that is not the last one."""
    alpha = _alpha_of(dataset, path)
    count = dataset.count - (alpha is not None)
    names = tuple(text or UNNAMED.format(i) for i, text in enumerate(dataset.descriptions[:count], start=1))
    flags = dataset.mask_flag_enums[0]
    return RasterInfo(
        path=path,
        grid=Grid(dataset.crs, dataset.transform, (dataset.height, dataset.width)),
        bands=names,
        dtype=dataset.dtypes[0],
        nodatas=tuple(dataset.nodatavals[:count]),
        tags=dataset.tags(),
        scales=tuple(float(scale) for scale in dataset.scales[:count]),
        offsets=tuple(float(offset) for offset in dataset.offsets[:count]),
        alpha=alpha,
        masked=MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags,
    )


def _alpha_of(dataset: Any, path: Path) -> int | None:
    """Number of the band that says which pixels are valid; a band with a name of its own holds measurements."""
    kinds = dataset.colorinterp
    said = [n for n, kind in enumerate(kinds, start=1) if kind == ColorInterp.alpha]
    alphas = [n for n in said if (dataset.descriptions[n - 1] or "").lower() in ALPHA_NAMES]
    if not alphas or dataset.count == 1:
        return None
    if alphas != [dataset.count]:
        raise RasterError(
            f"{path}: band {alphas[0]} of {dataset.count} is an alpha band by its colour interpretation, and not the last. "
            f"Move it to the end (gdal_translate -b ...), or say what it holds: gdal_edit.py -colorinterp_{alphas[0]} undefined "
            f"{path.name}"
        )
    return int(dataset.count)


def _require_usable(dataset: Any, path: Path) -> None:
    """Raise RasterError for pixels or places that nothing here could use rightly."""
    kinds = list(dict.fromkeys(dataset.dtypes))
    if len(kinds) > 1:
        raise RasterError(
            f"{path}: its bands are of several types ({', '.join(kinds)}). Convert it: {_copy(path, '-ot Float32')}"
        )
    if kinds[0].startswith("complex"):
        raise RasterError(
            f"{path}: its pixels are complex numbers ({kinds[0]}), which are no measurement. Take their power first: "
            f'gdal_calc.py -A {path.name} --calc="abs(A)**2" --type=Float32 --outfile=power_{path.stem}.tif'
        )
    if max(dataset.shape) > LARGEST_SIDE:
        height, width = dataset.shape
        raise RasterError(
            f"{path}: claims {width} x {height} px, more than {LARGEST_SIDE} a side: its header is damaged. Copy or download it "
            "again."
        )
    _require_transform(dataset, path)


def _require_transform(dataset: Any, path: Path) -> None:
    """Raise RasterError for a place that is known and not given by a transform, or by one that maps no pixel."""
    transform = dataset.transform
    if transform.is_identity and dataset.crs is None:
        points, crs = dataset.gcps
        if points:
            middle = float(np.mean([p.x for p in points])), float(np.mean([p.y for p in points]))
            target = utm_zone(*middle) if crs is not None and crs.is_geographic else "EPSG:<code of its UTM zone>"
            raise RasterError(
                f"{path}: its place is given by {len(points)} ground control points ({crs}) and no transform, as in a product "
                "that was not terrain-corrected. Correct it first (SNAP), or, on flat ground: gdalwarp -tps -t_srs "
                f"{target} {path.name} placed_{path.name}"
            )
        rpcs = dataset.rpcs
        if rpcs is not None:
            raise RasterError(
                f"{path}: its place is given by rational polynomials (RPC) and no transform. Place it first, with a terrain "
                f"model (-to RPC_DEM=<file>) where the ground is not flat: gdalwarp -rpc -t_srs "
                f"{utm_zone(rpcs.long_off, rpcs.lat_off)} {path.name} placed_{path.name}"
            )
    coefficients = tuple(transform)[:6]
    if not all(abs(value) < 1e15 for value in coefficients) or transform.determinant == 0:
        raise RasterError(
            f"{path}: its transform {coefficients} maps pixels to no place. Give it another: gdal_edit.py -a_ullr <left> <top> "
            f"<right> <bottom> {path.name}"
        )


def utm_zone(longitude: float, latitude: float) -> str:
    """EPSG code of the UTM zone of a place in degrees."""
    zone = int((longitude + 180) % 360 // 6) + 1
    return f"EPSG:{(32600 if latitude >= 0 else 32700) + zone}"


def _copy(path: Path, options: str = "") -> str:
    options = f"{options} " if options else ""
    return f"gdal_translate {options}{path.name} {path.stem}_converted.tif"


def _require_own_sources(path: Path) -> None:
    """Raise RasterError for a virtual raster that reaches beyond GeoTIFFs in its folder and below, or that computes."""
    refused = f"{path}: a virtual raster is read where it places GeoTIFFs of its own folder, or below"
    fix = f"Write it out first: {_copy(path)}"
    try:
        text = path.read_text(encoding="utf-8")
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, UnicodeDecodeError, OSError) as error:
        raise unreadable(path, error) from error
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise RasterError(f"{refused}; it declares entities. {fix}")
    home = path.parent.resolve()
    for element in root.iter():
        tag = element.tag.lower()
        kind = element.get("subClass", "").lower()
        if tag == "vrtrasterband" and kind not in _PLAIN_BANDS:
            raise RasterError(f"{refused}; its bands are of the kind {element.get('subClass')}. {fix}")
        if tag not in _SOURCES:
            continue
        name = element.text or ""
        file = Path(name) if element.get("relativeToVRT", element.get("relativetoVRT")) != "1" else home / name
        inside = file.is_absolute() and file.resolve().is_relative_to(home)
        if not inside or not file.is_file() or file.suffix.lower() not in SUFFIXES:
            raise RasterError(f"{refused}; it names {name!r}. {fix}")
        open_raster(file).close()  # a GeoTIFF by its content, too
