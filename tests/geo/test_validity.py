"""What a raster says of its pixels: nodata tags, masks, alpha, scale; each against the right value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.enums import ColorInterp, Resampling
from rasterio.transform import from_origin
from rasterio.vrt import WarpedVRT

from swath.errors import RasterError
from swath.geo.grid import Grid
from swath.geo.raster import RasterReader, describe, read_image, read_labels, require_clear_labels, warped
from swath.geo.validity import span_of_tag

PLACE = {"crs": "EPSG:32633", "transform": from_origin(500_000, 5_000_000, 10, 10)}


def tif(path: Path, bands: Any, names: tuple[str, ...] = (), **more: Any) -> Path:
    """A GeoTIFF of the bands (N, H, W), or of one (H, W)."""
    data = np.asarray(bands)
    data = data[None] if data.ndim == 2 else data
    count, height, width = data.shape
    shape = {"count": count, "height": height, "width": width, "dtype": data.dtype}
    with rasterio.open(path, "w", driver="GTiff", **shape, **(PLACE | more)) as file:
        file.write(data)
        if names:
            file.descriptions = names
    return path


# ------------------------------------------------------------------------------------------------------------ nodata


LOWEST = float(np.finfo(np.float32).min)


@pytest.mark.parametrize(
    ("value", "tag"),
    [
        (LOWEST, -3.4028234663852886e38),
        (LOWEST, -3.40282e38),
        (LOWEST, -3.4e38),
        (-9999.9, -9999.9),
        (-9999.123, -9999.1),
        (1e20, 1e20),
        (np.float32(9.96921e36), 9.96921e36),
        (-32768.0, -32768.0),
    ],
)
def test_c116_a_nodata_tag_may_have_fewer_digits_than_the_pixels(tmp_path: Path, value: float, tag: float) -> None:
    data = np.full((4, 4), 0.25, np.float32)
    data[1] = value
    image = read_image(tif(tmp_path / "a.tif", data, nodata=tag))[0]
    assert np.isnan(image[1]).all()
    assert (image[[0, 2, 3]] == 0.25).all()


@pytest.mark.parametrize(
    ("tag", "near"), [(0.0, 1e-30), (0.0, 0.4), (-1.0, -1.0000001), (-9999.0, -9998.75), (0.5, 0.51)]
)
def test_c116_a_short_tag_marks_no_measurement_beside_it(tmp_path: Path, tag: float, near: float) -> None:
    data = np.full((2, 2), near, np.float32)
    data[0, 0] = tag
    image = read_image(tif(tmp_path / "a.tif", data, nodata=tag))[0]
    assert np.isnan(image).sum() == (2 if np.float32(near) == np.float32(tag) else 1) or np.isnan(image).sum() == 1
    assert np.isnan(image[0, 0])


@settings(max_examples=200, deadline=None)
@given(st.floats(width=32, allow_nan=False, allow_infinity=False), st.integers(2, 17))
def test_c116_the_value_that_a_tag_was_rounded_from_is_always_in_its_span(value: float, digits: int) -> None:
    tag = float(f"{value:.{digits}g}")
    span = span_of_tag(tag, "float32")
    if abs(tag) < 900 or (tag.is_integer() and abs(tag) < 2**24):
        assert span == (float(np.float32(tag)),) * 2
    elif np.isfinite(np.float32(tag)):
        assert span is not None
        assert span[0] <= value <= span[1]


@pytest.mark.parametrize(
    ("dtype", "tag"), [("uint8", -9999.0), ("uint8", 256.0), ("uint16", -1.0), ("int16", 1e20), ("uint8", 0.5)]
)
def test_c116_a_tag_outside_the_type_marks_nothing(dtype: str, tag: float) -> None:
    assert span_of_tag(tag, dtype) is None


def test_c116_each_band_has_its_own_nodata(tmp_path: Path) -> None:
    data = np.array([[[0, 1], [2, 3]], [[0, 1], [2, 3]]], np.int16)
    source = tif(tmp_path / "a.tif", data)
    virtual = tmp_path / "a.vrt"  # the format that can say so
    bands = "".join(
        f'<VRTRasterBand dataType="Int16" band="{n}"><NoDataValue>{tag}</NoDataValue><SimpleSource>'
        f'<SourceFilename relativeToVRT="1">{source.name}</SourceFilename><SourceBand>{n}</SourceBand></SimpleSource>'
        "</VRTRasterBand>"
        for n, tag in ((1, 0), (2, 3))
    )
    virtual.write_text(f'<VRTDataset rasterXSize="2" rasterYSize="2">{bands}</VRTDataset>')
    image = read_image(virtual)
    np.testing.assert_array_equal(np.isnan(image), [[[True, False], [False, False]], [[False, False], [False, True]]])
    with RasterReader(virtual) as reader:
        assert np.isnan(reader.image(bands=[2])[0, 1, 1])
        assert reader.info.fill == -99999.0  # neither tag means the same in both


def test_c116_nodata_that_is_not_a_number_and_infinite_values(tmp_path: Path) -> None:
    data = np.array([[np.nan, np.inf, -np.inf, 1]], np.float32)
    np.testing.assert_array_equal(
        np.isnan(read_image(tif(tmp_path / "a.tif", data, nodata=np.nan)))[0, 0], [1, 1, 1, 0]
    )
    doubles = np.array([[1e300, -1.7976931348623157e308, 1.0, 2.0]])
    np.testing.assert_array_equal(np.isnan(read_image(tif(tmp_path / "b.tif", doubles)))[0, 0], [1, 1, 0, 0])


# -------------------------------------------------------------------------------------------------- masks and alpha


def masked(path: Path, bands: Any, valid_HW: Any, internal: bool, **more: Any) -> Path:
    tif(path, bands, **more)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=internal), rasterio.open(path, "r+") as file:
        file.write_mask(np.where(valid_HW, 255, 0).astype(np.uint8))
    assert path.with_name(f"{path.name}.msk").is_file() is not internal
    return path


@pytest.mark.parametrize("internal", [True, False], ids=["inside", "msk file"])
def test_c116_masks_say_which_pixels_are_valid(tmp_path: Path, internal: bool) -> None:
    valid = np.ones((8, 8), bool)
    valid[5:] = False
    image = read_image(masked(tmp_path / "a.tif", np.full((2, 8, 8), 7, np.uint8), valid, internal))
    np.testing.assert_array_equal(np.isnan(image[0]), ~valid)
    np.testing.assert_array_equal(np.isnan(image[1]), ~valid)
    labels = read_labels(masked(tmp_path / "b.tif", np.ones((8, 8), np.uint8), valid, internal))[0]
    np.testing.assert_array_equal(labels, np.where(valid, 1, 255))


def test_c116_an_alpha_band_is_no_measurement(tmp_path: Path) -> None:
    data = np.full((4, 4, 4), 9, np.uint8)
    data[3] = 255
    data[3, 0] = 0
    path = tif(tmp_path / "rgba.tif", data, photometric="RGB", alpha="YES")
    assert describe(path).bands == ("band_1", "band_2", "band_3")
    image = read_image(path)
    assert image.shape == (3, 4, 4)
    assert np.isnan(image[:, 0]).all()
    assert (image[:, 1:] == 9).all()


def test_c116_a_fourth_band_with_a_name_is_a_measurement_although_gdal_calls_it_alpha(tmp_path: Path) -> None:
    data = np.full((4, 4, 4), 9, np.uint8)
    data[3] = 0
    path = tif(tmp_path / "a.tif", data, ("red", "green", "blue", "nir"), photometric="RGB", alpha="YES")
    with rasterio.open(path) as file:
        assert file.colorinterp[3] == ColorInterp.alpha
    assert (read_image(path)[3] == 0).all()
    unnamed = tif(tmp_path / "b.tif", data, photometric="RGB", alpha="YES")
    with RasterReader(unnamed, bands=("r", "g", "b", "nir")) as reader:  # as a table says
        assert (reader.image()[3] == 0).all()
        assert reader.image().shape == (4, 4, 4)


def test_c116_an_alpha_band_elsewhere_is_refused(tmp_path: Path) -> None:
    path = tif(tmp_path / "a.tif", np.ones((3, 4, 4), np.uint8))
    with rasterio.open(path, "r+") as file:
        file.colorinterp = [ColorInterp.alpha, ColorInterp.undefined, ColorInterp.undefined]
    with pytest.raises(
        RasterError, match=r"a\.tif: band 1 of 3 is an alpha band .* gdal_edit\.py -colorinterp_1 undefined a\.tif"
    ):
        describe(path)


# ------------------------------------------------------------------------------------------------------------ scale


def test_c116_scaled_bands_come_in_physical_units(tmp_path: Path) -> None:
    stored = np.stack([np.arange(16).reshape(4, 4), np.arange(16).reshape(4, 4) * 100]).astype(np.int16)
    stored[:, 0, 0] = -32768
    path = tif(tmp_path / "a.tif", stored, nodata=-32768)
    with rasterio.open(path, "r+") as file:
        file.scales, file.offsets = (1e-4, 1e-3), (0, -1)
    image = read_image(path)
    expected = np.stack([stored[0] * 1e-4, stored[1] * 1e-3 - 1]).astype(np.float32)
    expected[:, 0, 0] = np.nan
    np.testing.assert_array_equal(image, expected)
    with RasterReader(path) as reader:
        np.testing.assert_array_equal(reader.image(bands=[2])[0], expected[1])
        assert reader.info.fill == -99999.0  # -32768 is a measurement's value, for all that is known
    with warped(path, describe(path).grid, "nearest") as view:
        np.testing.assert_array_equal(view.image(bands=[2])[0], expected[1])


def test_c116_labels_with_a_scale_are_refused(tmp_path: Path) -> None:
    path = tif(tmp_path / "a.tif", np.ones((4, 4), np.uint8))
    with rasterio.open(path, "r+") as file:
        file.scales = (0.5,)
    with pytest.raises(RasterError, match=r"a\.tif: labels have no scale, found \(0\.5,\)"):
        read_labels(path)


# ----------------------------------------------------------------------------------------------------------- labels


def test_c116_labels_have_no_class_where_their_nodata_tag_stands(tmp_path: Path) -> None:
    data = np.zeros((8, 8), np.uint8)
    data[:3], data[5:] = 1, 99
    labels = read_labels(tif(tmp_path / "a.tif", data, nodata=99))[0]
    np.testing.assert_array_equal(labels, np.where(data == 99, 255, data))


def test_c116_labels_whose_first_class_is_called_nodata_are_refused(tmp_path: Path) -> None:
    path = tif(tmp_path / "a.tif", np.zeros((4, 4), np.uint8), nodata=0)
    with pytest.raises(RasterError, match=r"its nodata tag is 0, .* gdal_edit\.py -unsetnodata a\.tif"):
        read_labels(path)


def test_c116_labels_of_0_and_255_only_are_ambiguous(tmp_path: Path) -> None:
    data = np.zeros((8, 8), np.uint8)
    data[:3] = 255
    with pytest.raises(RasterError, match=r'holds only 0 and 255.*--calc="A==255".*gdal_edit\.py -a_nodata 255 a\.tif'):
        require_clear_labels(tif(tmp_path / "a.tif", data))
    require_clear_labels(tif(tmp_path / "said.tif", data, nodata=255))
    require_clear_labels(tif(tmp_path / "zeros.tif", data * 0))
    data[7] = 1
    require_clear_labels(tif(tmp_path / "three.tif", data))


# ------------------------------------------------------------------------------------------------------------- views


@pytest.mark.parametrize("kind", ["tag", "mask", "alpha", "none"])
def test_c116_a_view_on_another_grid_knows_what_is_valid(tmp_path: Path, kind: str) -> None:
    data, valid = np.full((8, 8), 5, np.uint8), np.ones((8, 8), bool)
    valid[:, 4:] = False
    if kind == "tag":
        path = tif(tmp_path / "a.tif", np.where(valid, data, 77), nodata=77)
    elif kind == "mask":
        path = masked(tmp_path / "a.tif", data, valid, internal=True)
    elif kind == "alpha":
        path = tif(tmp_path / "a.tif", [data, np.where(valid, 255, 0).astype(np.uint8)], alpha="YES")
    else:
        path, valid = tif(tmp_path / "a.tif", data), np.ones((8, 8), bool)
    wide = Grid(describe(path).grid.crs, from_origin(500_000, 5_000_000, 10, 10), (8, 12))
    with warped(path, wide, "nearest") as view:
        image, labels = view.image(bands=[1])[0], view.labels(bands=[1])[0]
    expected = np.zeros((8, 12), bool)
    expected[:, :8] = valid
    np.testing.assert_array_equal(~np.isnan(image), expected)
    np.testing.assert_array_equal(labels, np.where(expected, 5, 255))


def test_c116_a_view_agrees_with_gdal_in_another_crs(tmp_path: Path) -> None:
    path = tif(tmp_path / "a.tif", np.random.default_rng(0).random((40, 40)).astype(np.float32), nodata=-1)
    with rasterio.open(path) as file, WarpedVRT(file, crs="EPSG:3857", resampling=Resampling.nearest) as oracle:
        grid = Grid(oracle.crs, oracle.transform, oracle.shape)
        expected = oracle.read(1)
    with warped(path, grid, "nearest") as view:
        np.testing.assert_array_equal(np.nan_to_num(view.image()[0], nan=-1), expected)
