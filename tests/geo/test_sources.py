"""Which files are opened as rasters, with which driver, and which are refused by name."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.rpc import RPC

from swath.errors import RasterError
from swath.geo.raster import RasterReader, describe, find_rasters, read_image
from swath.geo.tiff import blocks_of, require_whole
from tests.geo.test_validity import tif


def test_c116_complex_pixels_are_refused(tmp_path: Path) -> None:
    path = tif(tmp_path / "slc.tif", np.ones((4, 4), np.complex64))
    with pytest.raises(
        RasterError, match=r'slc\.tif: its pixels are complex numbers \(complex64\).*--calc="abs\(A\)\*\*2"'
    ):
        describe(path)


def test_c116_a_place_by_control_points_alone_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "grd.tif"
    points = [GroundControlPoint(row=r, col=c, x=10 + c / 1000, y=50 - r / 1000) for r in (0, 4) for c in (0, 4)]
    shape = {"count": 1, "height": 4, "width": 4, "dtype": "uint16"}
    with rasterio.open(path, "w", driver="GTiff", gcps=points, crs="EPSG:4326", **shape) as file:
        file.write(np.ones((1, 4, 4), np.uint16))
    with pytest.raises(
        RasterError,
        match=r"grd\.tif: its place is given by 4 ground control points \(EPSG:4326\).*-t_srs EPSG:32632 grd\.tif placed_grd\.tif",
    ):
        read_image(path)


def test_c116_a_place_by_rational_polynomials_alone_is_refused(tmp_path: Path) -> None:
    path = tif(tmp_path / "pan.tif", np.ones((4, 4), np.uint16), crs=None, transform=Affine.identity())
    one = [1.0, *[0.0] * 19]
    with rasterio.open(path, "r+") as file:
        file.rpcs = RPC(
            height_off=0, height_scale=1, lat_off=50, lat_scale=1, line_den_coeff=one, line_num_coeff=one, line_off=2,
            line_scale=2, long_off=10, long_scale=1, samp_den_coeff=one, samp_num_coeff=one, samp_off=2, samp_scale=2,
        )  # fmt: skip
    with pytest.raises(
        RasterError,
        match=r"pan\.tif: its place is given by rational polynomials \(RPC\).*gdalwarp -rpc -t_srs EPSG:32632 pan\.tif",
    ):
        describe(path)


def test_c116_two_bands_of_one_name_are_refused_and_a_table_can_name_them(tmp_path: Path) -> None:
    path = tif(
        tmp_path / "a.tif", np.stack([np.full((4, 4), v, np.float32) for v in (0.1, 0.4, 0.9)]), ("Gray", "Gray", "NIR")
    )
    with pytest.raises(RasterError, match=r"a\.tif: several of its bands are called Gray \(Gray, Gray, NIR\)"):
        RasterReader(path)
    with RasterReader(path, bands=("red", "green", "nir")) as reader:
        np.testing.assert_allclose(reader.image()[:, 0, 0], [0.1, 0.4, 0.9], rtol=1e-6)


@pytest.mark.parametrize("transform", [(0, 0, 1, 0, 0, 1), (1e300, 0, 0, 0, -10, 0), (float("nan"), 0, 0, 0, -10, 0)])
def test_c129_a_transform_that_maps_no_pixel_is_refused(tmp_path: Path, transform: tuple[float, ...]) -> None:
    path = tif(tmp_path / "a.tif", np.ones((4, 4), np.uint8))
    with rasterio.open(path, "r+") as file:
        file.transform = Affine(*transform)
    with pytest.raises(RasterError, match=r"a\.tif: its transform .* maps pixels to no place"):
        describe(path)


# ---------------------------------------------------------------------------------------------------------- drivers


def vrt(path: Path, source: str, relative: str = "1", band: str = "") -> Path:
    path.write_text(
        f'<VRTDataset rasterXSize="4" rasterYSize="4"><VRTRasterBand dataType="Byte" band="1" {band}><SimpleSource>'
        f'<SourceFilename relativeToVRT="{relative}">{source}</SourceFilename><SourceBand>1</SourceBand></SimpleSource>'
        "</VRTRasterBand></VRTDataset>"
    )
    return path


def test_c130_text_of_a_virtual_raster_in_a_tif_is_not_opened(tmp_path: Path) -> None:
    tif(tmp_path / "secret.tif", np.full((4, 4), 42, np.uint8))
    disguised = vrt(tmp_path / "scene.tif", "secret.tif")
    with rasterio.open(disguised) as file:  # what GDAL alone does
        assert (file.read() == 42).all()
    with pytest.raises(RasterError, match=r"scene\.tif: cannot be read as a raster"):
        read_image(disguised)


def test_c130_a_virtual_raster_may_place_geotiffs_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    tif(tmp_path / "below" / "a.tif", np.full((4, 4), 42, np.uint8))
    assert (read_image(vrt(tmp_path / "a.vrt", "below/a.tif")) == 42).all()


@pytest.mark.parametrize(
    "source", ["../other.tif", "/vsicurl/http://127.0.0.1:9/a.tif", "/etc/passwd", "text.tif", "nested.vrt", ""]
)
def test_c130_a_virtual_raster_reads_nothing_else(tmp_path: Path, source: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    tif(tmp_path / "other.tif", np.ones((4, 4), np.uint8))
    vrt(home / "text.tif", "../other.tif")
    vrt(home / "nested.vrt", "../other.tif")
    for relative in ("0", "1"):
        with pytest.raises(RasterError):
            read_image(vrt(home / "a.vrt", source, relative))


def test_c130_links_out_of_the_folder_and_computing_bands_are_refused(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    tif(tmp_path / "other.tif", np.ones((4, 4), np.uint8))
    (home / "link.tif").symlink_to(tmp_path / "other.tif")
    with pytest.raises(RasterError, match=r"it names 'link\.tif'"):
        read_image(vrt(home / "a.vrt", "link.tif"))
    tif(home / "own.tif", np.ones((4, 4), np.uint8))
    with pytest.raises(RasterError, match="its bands are of the kind VRTDerivedRasterBand"):
        read_image(vrt(home / "b.vrt", "own.tif", band='subClass="VRTDerivedRasterBand"'))


def test_c129_other_formats_are_opened_by_their_own_driver_or_named(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_text("0 0 1\n")
    with pytest.raises(RasterError, match=r"a\.xyz: \.xyz is none of the rasters read here.*gdal_translate a\.xyz"):
        describe(tmp_path / "a.xyz")
    shutil.copy(tif(tmp_path / "a.tif", np.ones((4, 4), np.uint8)), tmp_path / "a.png")
    with pytest.raises(RasterError, match=r"a\.png: cannot be read as a raster"):
        describe(tmp_path / "a.png")


def test_c116_suffixes_are_found_in_any_letter_case(tmp_path: Path) -> None:
    for name in ("a.tif", "b.Tif", "c.TIFF", "d.TIF", "e.txt"):
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in find_rasters(tmp_path)] == ["a.tif", "b.Tif", "c.TIFF", "d.TIF"]
    assert [path.name for path in find_rasters(tmp_path, "B*")] == ["b.Tif"]


# ------------------------------------------------------------------------------------------------------ whole files


LAYOUTS: tuple[dict[str, Any], ...] = (
    {"tiled": True, "blockxsize": 16, "blockysize": 16},
    {"tiled": True, "blockxsize": 32, "blockysize": 32, "compress": "deflate"},
    {"blockysize": 1},
    {"BIGTIFF": "YES", "compress": "zstd"},
    {"interleave": "band", "ENDIANNESS": "BIG"},
)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_c128_a_file_needs_its_last_block(tmp_path: Path, layout: dict[str, Any]) -> None:
    data = np.random.default_rng(0).random((2, 50, 70)).astype(np.float32)
    path = tif(tmp_path / "a.tif", data, **layout)
    require_whole(path)
    size = path.stat().st_size
    assert blocks_of(path).needed == size
    for cut in (1, size // 3, size - 9):
        short = tmp_path / "short.tif"
        short.write_bytes(path.read_bytes()[: size - cut])
        with pytest.raises(ValueError, match=r"due by its directory|its directory goes on|it has \d+ bytes"):
            require_whole(short)


def test_c128_sparse_blocks_need_no_bytes(tmp_path: Path) -> None:
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", count=1, height=512, width=512, dtype="uint8", tiled=True,
        blockxsize=256, blockysize=256, SPARSE_OK=True,
    ) as file:  # fmt: skip
        file.write(np.ones((1, 256, 256), np.uint8), window=((0, 256), (0, 256)))
    require_whole(tmp_path / "a.tif")
    assert blocks_of(tmp_path / "a.tif").stored.tolist() == [True, False, False, False]


@pytest.mark.parametrize("content", [b"", b"II", b"II*\0", b"XX*\0" + b"\0" * 20, b"II*\0" + struct.pack("<I", 9999)])
def test_c128_what_is_no_tiff_is_not_whole(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(ValueError, match=r"it has \d bytes|does not begin like a TIFF|directory goes on"):
        require_whole(tmp_path / "a.tif")


def test_c128_a_directory_that_was_never_written_is_not_whole(tmp_path: Path) -> None:
    """Zeros in its place, with what comes after: what a disk leaves that is full while a file is closed."""
    path = tif(tmp_path / "a.tif", np.ones((40, 40), np.uint8))
    data = bytearray(path.read_bytes())
    (first,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, first)
    data[first : first + 6 + 12 * count] = bytes(6 + 12 * count)
    path.write_bytes(data)
    with pytest.raises(ValueError, match="its directory lists no blocks of pixels"):
        require_whole(path)


def test_c129_directories_in_a_circle_end(tmp_path: Path) -> None:
    path = tif(tmp_path / "a.tif", np.ones((4, 4), np.uint8))
    data = bytearray(path.read_bytes())
    (first,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, first)
    struct.pack_into("<I", data, first + 2 + 12 * count, first)
    path.write_bytes(data)
    require_whole(path)
