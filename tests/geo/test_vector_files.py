"""Vector files that are cut, of another kind than they say, of several layers, or with odd features."""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
from shapely.geometry import GeometryCollection, LineString, MultiPolygon, Point, Polygon, box

from swath.errors import VectorError
from swath.geo.vector import find_vectors, read_polygons, write_vectors
from swath.notices import collected
from tests.full_disk import fill, small_disk

CRS = 32633


def squares(count: int = 20) -> gpd.GeoDataFrame:
    shapes = [box(500_000 + 20 * i, 5_000_000, 500_010 + 20 * i, 5_000_010) for i in range(count)]
    return gpd.GeoDataFrame({"DN": [255] * count}, geometry=shapes, crs=CRS)


# -------------------------------------------------------------------------------------------------------------- whole


@pytest.mark.parametrize("suffix", [".shp", ".shx", ".dbf"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_c129_a_shapefile_that_was_cut_is_refused(tmp_path: Path, suffix: str, share: float) -> None:
    squares().to_file(tmp_path / "a.shp")
    part = tmp_path / f"a{suffix}"
    part.write_bytes(part.read_bytes()[: int(part.stat().st_size * share)])
    with pytest.raises(
        VectorError, match=rf"a{suffix}: .*(cut short|less than its header|beyond the end|does not begin)"
    ):
        read_polygons(tmp_path / "a.shp")


def test_c129_parts_of_two_shapefiles_are_refused(tmp_path: Path) -> None:
    squares(20).to_file(tmp_path / "a.shp")
    squares(12).to_file(tmp_path / "b.shp")
    (tmp_path / "a.dbf").write_bytes((tmp_path / "b.dbf").read_bytes())
    with pytest.raises(VectorError, match=r"a\.dbf: holds 12 records, a\.shp has 20 shapes"):
        read_polygons(tmp_path / "a.shp")


@pytest.mark.parametrize("suffix", [".shx", ".dbf"])
def test_c129_a_shapefile_without_a_part_is_refused(tmp_path: Path, suffix: str) -> None:
    squares().to_file(tmp_path / "a.shp")
    (tmp_path / f"a{suffix}").unlink()
    with pytest.raises(VectorError, match=rf"a\.shp: a\{suffix} is missing beside it"):
        read_polygons(tmp_path / "a.shp")


def test_c129_a_crs_that_was_cut_is_refused(tmp_path: Path) -> None:
    squares().to_file(tmp_path / "a.shp")
    part = tmp_path / "a.prj"
    part.write_text(part.read_text()[:70])
    with pytest.raises(VectorError, match=r"a\.shp: "):
        read_polygons(tmp_path / "a.shp")


def test_c116_capitals_of_suffixes_do_not_matter(tmp_path: Path) -> None:
    squares().to_file(tmp_path / "a.shp")
    for part in list(tmp_path.iterdir()):
        part.rename(part.with_suffix(part.suffix.upper()))
    assert find_vectors(tmp_path) == [tmp_path / "a.SHP"]
    assert len(read_polygons(tmp_path / "a.SHP", "DN")) == 20


# --------------------------------------------------------------------------------------------------------------- kind


def test_c130_text_of_a_virtual_layer_is_not_opened(tmp_path: Path) -> None:
    squares().to_file(tmp_path / "secret.gpkg")
    text = f"<OGRVRTDataSource><OGRVRTLayer name='secret'><SrcDataSource>{tmp_path}/secret.gpkg</SrcDataSource></OGRVRTLayer></OGRVRTDataSource>"
    for name in ("a.geojson", "a.shp", "a.gpkg", "a.fgb"):
        path = tmp_path / name
        path.write_text(text)
        with pytest.raises(VectorError, match=rf"{name}: does not begin like a \.\w+ file"):
            read_polygons(path)
    with pytest.raises(VectorError, match=r"a\.vrt: unknown vector format '\.vrt'"):
        read_polygons(tmp_path / "a.vrt")


@pytest.mark.parametrize("name", ["a.gpkg", "a.fgb", "a.geojson", "a.parquet"])
@pytest.mark.parametrize("share", [0.3, 0.95])
def test_c129_other_formats_that_were_cut_are_refused(tmp_path: Path, name: str, share: float) -> None:
    path = tmp_path / name
    squares(200).to_parquet(path) if name.endswith("parquet") else squares(200).to_file(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(VectorError, match=name):
        read_polygons(path)


# ------------------------------------------------------------------------------------------------------------- layers


def test_c129_a_flatgeobuf_cut_anywhere_is_refused(tmp_path: Path) -> None:
    """GDAL gives what comes before some cuts, or nothing, without an error."""
    path = tmp_path / "a.fgb"
    write_vectors(path, squares(44))
    whole = path.read_bytes()
    for size in range(0, len(whole), 61):
        path.write_bytes(whole[:size])
        with pytest.raises(VectorError, match=r"a\.fgb: "):
            read_polygons(path)


def test_c116_of_several_layers_one_has_to_be_named(tmp_path: Path) -> None:
    path = tmp_path / "a.gpkg"
    gpd.GeoDataFrame({"DN": [255]}, geometry=[box(0, 0, 1e6, 1e6)], crs=CRS).to_file(path, layer="a_extent")
    squares(3).to_file(path, layer="water")
    with pytest.raises(
        VectorError, match=r"a\.gpkg: has 2 layers \(a_extent, water\)\. Set layer to .* -P layer=water"
    ):
        read_polygons(path)
    assert len(read_polygons(path, layer="water")) == 3
    with pytest.raises(VectorError, match=r"no layer 'wtaer'\. It has: a_extent, water"):
        read_polygons(path, layer="wtaer")


def test_c116_a_table_without_geometries_is_no_layer_to_choose(tmp_path: Path) -> None:
    import pandas as pd
    import pyogrio

    path = tmp_path / "a.gpkg"
    squares(3).to_file(path, layer="water")
    pyogrio.write_dataframe(pd.DataFrame({"style": ["x"]}), path, layer="layer_styles", append=True)
    assert len(read_polygons(path)) == 3


# ----------------------------------------------------------------------------------------------------------- features


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e308, 1e12])
def test_c116_a_corner_that_is_no_place_is_refused_with_its_feature(tmp_path: Path, bad: float) -> None:
    broken = Polygon([(500_300, 5_000_300), (500_400, bad), (500_400, 5_000_400)])
    frame = gpd.GeoDataFrame({"DN": [255, 255]}, geometry=[squares().geometry[0], broken], crs=CRS)
    frame.to_file(tmp_path / "a.gpkg")
    with pytest.raises(
        VectorError, match=r"a\.gpkg: feature 1 has a corner at \(500400, (nan|inf|1e\+308|1e\+12)\).*rowid <> 2"
    ):
        read_polygons(tmp_path / "a.gpkg")


def test_c116_latitudes_and_longitudes_in_the_wrong_order_are_refused(tmp_path: Path) -> None:
    gpd.GeoDataFrame({"DN": [1]}, geometry=[box(10, 100, 11, 101)], crs=4326).to_file(tmp_path / "a.geojson")
    with pytest.raises(
        VectorError, match=r"feature 0 has a corner at .* no place on earth in WGS 84\. Longitude comes first"
    ):
        read_polygons(tmp_path / "a.geojson")


def test_c116_features_that_are_no_polygons_are_counted(tmp_path: Path) -> None:
    square = squares().geometry[0]
    shapes = [
        square, None, Polygon(), LineString([(0, 0), (1, 1)]), Point(0, 0), Point(1, 1), MultiPolygon([square]),
        GeometryCollection([square, LineString([(0, 0), (1, 1)])]), GeometryCollection([Point(0, 0)]),
    ]  # fmt: skip
    gpd.GeoDataFrame({"DN": range(len(shapes))}, geometry=shapes, crs=CRS).to_file(tmp_path / "a.gpkg")
    with collected() as left_out:
        polygons = read_polygons(tmp_path / "a.gpkg")
    assert list(polygons["DN"]) == [0, 6, 7]
    assert np.isclose(polygons.area, 100).all()
    assert {(notice.count, notice.why) for notice in left_out} == {
        (2, "they have no geometry"),
        (1, "they are LineString geometries, no polygons"),
        (2, "they are Point geometries, no polygons"),
        (1, "they are collections without polygons"),
    }


def test_c116_curves_become_polygons(tmp_path: Path) -> None:
    import sqlite3

    import pyogrio

    path = tmp_path / "a.gpkg"
    squares(1).to_file(path)
    # a circle of radius 10 as two arcs, in the binary form of OGC 06-103r4: a curve polygon of one circular string
    points = [(-10.0, 0.0), (0.0, 10.0), (10.0, 0.0), (0.0, -10.0), (-10.0, 0.0)]
    arcs = b"\x01" + (8).to_bytes(4, "little") + len(points).to_bytes(4, "little") + np.array(points).tobytes()
    curve = b"\x01" + (10).to_bytes(4, "little") + (1).to_bytes(4, "little") + arcs
    header = b"GP\x00\x01" + CRS.to_bytes(4, "little")
    with sqlite3.connect(path) as database:
        for trigger in [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type='trigger'")]:
            database.execute(f'DROP TRIGGER "{trigger}"')
        database.execute("UPDATE a SET geom = ?", (header + curve,))
        database.execute("UPDATE gpkg_geometry_columns SET geometry_type_name = 'CURVEPOLYGON'")
    assert pyogrio.read_info(path)["features"] == 1
    assert read_polygons(path).area.sum() == pytest.approx(math.pi * 100, rel=1e-2)


# ---------------------------------------------------------------------------------------------------------- full disk


@pytest.mark.parametrize("suffix", [".shp", ".gpkg", ".fgb", ".geojson", ".parquet"])
def test_c128_a_full_disk_leaves_no_vectors(tmp_path: Path, suffix: str) -> None:
    """With room for some of the file: an error and nothing left, or the whole; then the file that was due."""
    frame = squares(3000)[["DN", "geometry"]]
    write_vectors(tmp_path / f"due{suffix}", frame)
    size = sum(part.stat().st_size for part in tmp_path.glob("due.*"))
    refused = 0
    with small_disk(tmp_path / "disk", 4 * 2**20) as disk:
        path = disk / f"a{suffix}"
        for share in (0, 0.1, 0.4, 0.7, 0.95, 0.99, 1.5):
            taken = fill(disk, int(size * share))
            with suppress(VectorError):
                write_vectors(path, frame)
            if path.exists():
                assert len(read_polygons(path)) == len(frame)
                for part in disk.glob("a.*"):
                    part.unlink()
            else:
                refused += 1
                assert [file.name for file in disk.iterdir()] == ["taken"]
            taken.unlink()
        write_vectors(path, frame)
        assert len(read_polygons(path)) == len(frame)
    assert refused >= 5
