"""What errors say to type is typed, with GDAL's tools, and then the file is read."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from rasterio.control import GroundControlPoint
from shapely.geometry import Polygon

from swath.errors import SwathError
from swath.geo.raster import describe, read_image, read_labels, require_clear_labels
from swath.geo.vector import read_polygons
from tests.geo.test_gdal import gdal
from tests.geo.test_validity import tif
from tests.geo.test_vector_files import squares


def typed(folder: Path, monkeypatch: pytest.MonkeyPatch, refused: Callable[[], Any], command: str) -> None:
    """Type `command`, which the error of `refused` has to name, in the folder of the file."""
    with pytest.raises(SwathError) as error:
        refused()
    assert command in str(error.value)
    monkeypatch.chdir(folder)
    gdal(*shlex.split(command))


def test_c116_control_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "grd.tif"
    points = [
        GroundControlPoint(row=r, col=c, x=10 + c / 1000, y=50 - r / 1000) for r in (0, 32, 64) for c in (0, 32, 64)
    ]
    shape = {"count": 1, "height": 64, "width": 64, "dtype": "uint16"}
    with rasterio.open(path, "w", driver="GTiff", gcps=points, crs="EPSG:4326", **shape) as file:
        file.write(np.full((1, 64, 64), 7, np.uint16))
    typed(tmp_path, monkeypatch, lambda: describe(path), "gdalwarp -tps -t_srs EPSG:32632 grd.tif placed_grd.tif")
    assert np.nanmax(read_image(tmp_path / "placed_grd.tif")) == 7


def test_c116_complex_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tif(tmp_path / "slc.tif", np.full((4, 4), 3 + 4j, np.complex64))
    command = 'gdal_calc.py -A slc.tif --calc="abs(A)**2" --type=Float32 --outfile=power_slc.tif'
    typed(tmp_path, monkeypatch, lambda: describe(path), command)
    assert (read_image(tmp_path / "power_slc.tif") == 25).all()


def test_c116_labels_of_0_and_255(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = np.zeros((4, 4), np.uint8)
    data[0] = 255
    path = tif(tmp_path / "a.tif", data)
    command = 'gdal_calc.py -A a.tif --calc="A==255" --type=Byte --outfile=classes_a.tif'
    typed(tmp_path, monkeypatch, lambda: require_clear_labels(path), command)
    require_clear_labels(tmp_path / "classes_a.tif")
    np.testing.assert_array_equal(read_labels(tmp_path / "classes_a.tif")[0], data == 255)
    typed(tmp_path, monkeypatch, lambda: require_clear_labels(path), "gdal_edit.py -a_nodata 255 a.tif")
    require_clear_labels(path)
    np.testing.assert_array_equal(read_labels(path)[0], data)


def test_c116_nodata_0(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tif(tmp_path / "a.tif", np.array([[0, 1], [1, 0]], np.uint8), nodata=0)
    command = 'gdal_calc.py -A a.tif --calc="where(A==0,255,A)" --hideNoData --NoDataValue=255 --type=Byte --outfile=labels_a.tif'
    typed(tmp_path, monkeypatch, lambda: read_labels(path), command)
    np.testing.assert_array_equal(read_labels(tmp_path / "labels_a.tif")[0], [[255, 1], [1, 255]])
    typed(tmp_path, monkeypatch, lambda: read_labels(path), "gdal_edit.py -unsetnodata a.tif")
    np.testing.assert_array_equal(read_labels(path)[0], [[0, 1], [1, 0]])


def test_c116_several_types(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tif(tmp_path / "a.tif", np.full((2, 2), 7, np.uint8))
    bands = "".join(
        f'<VRTRasterBand dataType="{kind}" band="{n}"><SimpleSource><SourceFilename relativeToVRT="1">a.tif</SourceFilename>'
        "<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>"
        for n, kind in ((1, "Byte"), (2, "Float32"))
    )
    path = tmp_path / "a.vrt"
    path.write_text(f'<VRTDataset rasterXSize="2" rasterYSize="2">{bands}</VRTDataset>')
    typed(tmp_path, monkeypatch, lambda: describe(path), "gdal_translate -ot Float32 a.vrt a_converted.tif")
    assert (read_image(tmp_path / "a_converted.tif") == 7).all()


def test_c116_a_broken_feature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Polygon([(500_300, 5_000_300), (500_400, 1e308), (500_400, 5_000_400)])
    gpd.GeoDataFrame({"DN": [1, 2]}, geometry=[squares().geometry[0], broken], crs=32633).to_file(
        tmp_path / "a.gpkg", layer="a"
    )
    command = "ogr2ogr -dialect SQLite -sql \"SELECT * FROM 'a' WHERE rowid <> 2\" mended_a.gpkg a.gpkg"
    typed(tmp_path, monkeypatch, lambda: read_polygons(tmp_path / "a.gpkg"), command)
    assert list(read_polygons(tmp_path / "mended_a.gpkg")["DN"]) == [1]
