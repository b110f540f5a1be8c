"""NetCDF files: what is written is read, by GDAL too; fill values, packed values, errors that name file and variable."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import h5netcdf
import numpy as np
import pytest
import rasterio

from swath.errors import RasterError
from swath.geo.netcdf import NetcdfReader, Variable, find_netcdf, write_netcdf
from tests.synthetic import cut_in_half


def example(path: Path) -> dict[str, Variable]:
    rng = np.random.default_rng(0)
    gaps = rng.normal(size=(5, 7)).astype(np.float32)
    gaps[1, 2:4] = np.nan
    variables = {
        "image": Variable(dims=("row", "col"), data=gaps, attributes={"units": "dB"}, fill=-999.0),
        "chart": Variable(dims=("row", "col"), data=rng.integers(0, 255, (5, 7)).astype(np.uint8)),
        "coarse": Variable(dims=("2km_row", "2km_col"), data=rng.normal(size=(2, 3))),
        "codes": Variable(dims=("codes",), data=np.array(["id;CT", "1;91", "2;é"], object)),
    }
    write_netcdf(path, variables.items(), {"original_id": "S1A", "pixel_spacing": 80})
    return variables


def test_c27_what_is_written_is_read_back(tmp_path: Path) -> None:
    written = example(tmp_path / "a.nc")
    with NetcdfReader(tmp_path / "a.nc") as reader:
        assert reader.names == ("chart", "coarse", "codes", "image")
        assert reader.attributes == {"original_id": "S1A", "pixel_spacing": 80}
        for name in ("chart", "coarse", "image"):
            np.testing.assert_array_equal(reader.read(name), written[name].data)
            assert reader.read(name).dtype == written[name].data.dtype
            assert reader.dims(name) == tuple(written[name].dims)
        np.testing.assert_array_equal(reader.read("chart", slice(2, 4)), written["chart"].data[2:4])
        assert reader.texts("codes") == ["id;CT", "1;91", "2;é"]
        assert reader.variable_attributes("image")["units"] == "dB"
        assert reader.compression("chart") == ("gzip", 1)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_c27_gdal_reads_the_same_values(tmp_path: Path) -> None:
    written = example(tmp_path / "a.nc")
    with rasterio.Env(GDAL_NETCDF_BOTTOMUP="NO") as env:  # without coordinates GDAL takes the first row for the last
        if "netCDF" not in env.drivers():
            pytest.skip("this GDAL reads no NetCDF")
        with rasterio.open(f"netcdf:{tmp_path / 'a.nc'}:chart") as dataset:
            np.testing.assert_array_equal(dataset.read(1), written["chart"].data)
        with rasterio.open(f"netcdf:{tmp_path / 'a.nc'}:image") as dataset:
            assert dataset.nodata == -999
            np.testing.assert_array_equal(dataset.read(1, masked=True).filled(np.nan), written["image"].data)


def test_c27_fill_values_become_nan_and_packed_values_are_unpacked(tmp_path: Path) -> None:
    with h5netcdf.File(tmp_path / "a.nc", "w") as file:
        file.dimensions = {"n": 4}
        filled = file.create_variable("filled", ("n",), np.float32, fillvalue=9.5)
        filled[...] = [1, 9.5, 2, 3]
        packed = file.create_variable("packed", ("n",), np.int16, fillvalue=-1)
        packed[...] = [0, 10, -1, 20]
        packed.attrs.update({"scale_factor": 0.5, "add_offset": 100.0})
        counted = file.create_variable("counted", ("n",), np.uint8, fillvalue=255)
        counted[...] = [0, 1, 255, 2]
    with NetcdfReader(tmp_path / "a.nc") as reader:
        np.testing.assert_array_equal(reader.read("filled"), [1, np.nan, 2, 3])
        np.testing.assert_array_equal(reader.read("packed"), [100, 105, np.nan, 110])
        np.testing.assert_array_equal(reader.read("counted"), np.array([0, 1, 255, 2], np.uint8))  # labels stay labels


def test_c27_a_missing_variable_names_the_file_and_what_there_is(tmp_path: Path) -> None:
    example(tmp_path / "a.nc")
    with (
        NetcdfReader(tmp_path / "a.nc") as reader,
        pytest.raises(RasterError, match=r"a\.nc: no variable 'SIC'.* chart, coarse"),
    ):
        reader.read("SIC")


def test_c27_files_that_are_no_netcdf_say_so(tmp_path: Path) -> None:
    example(tmp_path / "half.nc")
    cut_in_half(tmp_path / "half.nc")
    (tmp_path / "text.nc").write_text("CDF? no")
    for name in ("half.nc", "text.nc"):
        with pytest.raises(RasterError, match=rf"{name}: cannot be read as NetCDF-4.*copy or download"):
            NetcdfReader(tmp_path / name).__enter__()
    with pytest.raises(RasterError, match="no such file"):
        NetcdfReader(tmp_path / "none.nc").__enter__()


def test_files_appear_whole_or_not_at_all(tmp_path: Path) -> None:
    old = example(tmp_path / "a.nc")["chart"].data

    def broken() -> Iterator[tuple[str, Variable]]:
        yield "chart", Variable(dims=("n",), data=np.zeros(3, np.uint8))
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="middle"):
        write_netcdf(tmp_path / "a.nc", broken())
    with pytest.raises(RuntimeError, match="middle"):
        write_netcdf(tmp_path / "b.nc", broken())
    assert [p.name for p in tmp_path.iterdir()] == ["a.nc"]
    with NetcdfReader(tmp_path / "a.nc") as reader:
        np.testing.assert_array_equal(reader.read("chart"), old)


def test_only_files_of_the_folder_itself_are_found(tmp_path: Path) -> None:
    for name in ("b.nc", "a.nc", "test_data/c.nc", "readme.txt", ".hidden.nc"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [p.name for p in find_netcdf(tmp_path)] == ["a.nc", "b.nc"]
    with pytest.raises(RasterError, match="no such folder"):
        find_netcdf(tmp_path / "none")
