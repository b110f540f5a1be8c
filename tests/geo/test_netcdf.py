"""NetCDF files: what is written is read, by GDAL too; fill values, packed values, errors that name file and variable."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import h5netcdf
import h5py
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
        np.testing.assert_array_equal(reader.read("counted"), [0, 1, np.nan, 2])
        np.testing.assert_array_equal(reader.read("counted", slice(0, 2)), np.array([0, 1], np.uint8))


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


# ----------------------------------------------------------------------------------- what attributes say of the values


def variable(path: Path, data: np.ndarray, **attributes: object) -> np.ndarray:
    """What the reader makes of a variable that holds `data` under these attributes."""
    with h5netcdf.File(path, "w") as file:
        file.dimensions["x"] = len(data)
        fill = attributes.pop("_FillValue", None)
        made = file.create_variable("v", ("x",), data.dtype, fillvalue=fill)
        made[...] = data
        made.attrs.update(attributes)
    with NetcdfReader(path) as reader:
        return reader.read("v")


NAN = np.nan


@pytest.mark.parametrize(
    ("data", "attributes", "expected"),
    [
        (np.array([1, -5, 3], "i2"), {"_FillValue": np.int16(-5)}, [1, NAN, 3]),
        (np.array([1, -5, 3], "i2"), {"missing_value": np.int16(-5)}, [1, NAN, 3]),
        (np.array([1, -5, 7], "i2"), {"_FillValue": np.int16(-5), "missing_value": np.int16(7)}, [1, NAN, NAN]),
        (np.array([1, -5, 7], "i2"), {"missing_value": np.array([-5, 7], "i2")}, [1, NAN, NAN]),
        (np.array([1, 2, 3], "f4"), {"valid_range": np.array([1.5, 2.5], "f4")}, [NAN, 2, NAN]),
        (np.array([1, 2, 3], "f4"), {"valid_min": np.float32(2)}, [NAN, 2, 3]),
        (np.array([1, 2, 3], "f4"), {"valid_max": np.float32(2)}, [1, 2, NAN]),
        (np.array([-1, 2, -2], "i1"), {"_Unsigned": "true"}, [255, 2, 254]),
        (np.array([-1, 2, -2], "i1"), {"_Unsigned": "true", "_FillValue": np.int8(-1)}, [NAN, 2, 254]),
        (np.array([-1, 2, -2], "i1"), {"_Unsigned": "true", "valid_range": np.array([0, -2], "i1")}, [NAN, 2, 254]),
        (
            np.array([1, 9, 3], "i2"),
            {"_FillValue": np.int16(9), "scale_factor": 0.5, "add_offset": 1.0},
            [1.5, NAN, 2.5],
        ),
        (
            np.array([1, 9, 3], "i2"),
            {"valid_max": np.int16(5), "scale_factor": 0.5},
            [0.5, NAN, 1.5],
        ),  # of packed values
        (np.array([1, 9, 3], "i2"), {"_FillValue": np.int16(9), "missing_value": 1e20}, [1, NAN, 3]),
        (np.array([1, np.inf, 1e20], "f8"), {"missing_value": 1e20}, [1, np.inf, NAN]),
    ],
)
def test_c116_attributes_say_which_values_are_measurements(
    tmp_path: Path, data: np.ndarray, attributes: dict[str, object], expected: list[float]
) -> None:
    found = variable(tmp_path / "a.nc", data, **attributes)
    np.testing.assert_allclose(found.astype(float), expected)


def test_c116_whole_numbers_stay_such_where_none_is_missing(tmp_path: Path) -> None:
    assert variable(tmp_path / "a.nc", np.array([1, 2], "i8"), _FillValue=np.int64(-9)).dtype == np.int64


def test_c116_a_range_that_is_no_number_names_the_variable(tmp_path: Path) -> None:
    with pytest.raises(RasterError, match=r"a\.nc: variable 'v': its attributes of missing values .* valid_range,v,d"):
        variable(tmp_path / "a.nc", np.array([1.0]), valid_range="none")


def test_c129_a_variable_that_cannot_be_opened_names_the_file(tmp_path: Path) -> None:
    """h5py answers None for a name whose object is damaged."""
    path = tmp_path / "a.nc"
    with h5py.File(path, "w") as file:
        file["gone"] = h5py.SoftLink("/nowhere")
    with pytest.raises(RasterError, match=r"a\.nc: .*gone cannot be opened"), NetcdfReader(path):
        pass


def test_c130_values_of_other_files_are_refused(tmp_path: Path) -> None:
    import h5py

    (tmp_path / "secret.bin").write_bytes(bytes(64))
    example(tmp_path / "other.nc")
    with h5py.File(tmp_path / "raw.nc", "w") as file:
        file.create_dataset("v", (16,), "f4", external=[(str(tmp_path / "secret.bin"), 0, 64)])
    with h5py.File(tmp_path / "link.nc", "w") as file:
        file["v"] = h5py.ExternalLink(str(tmp_path / "other.nc"), "image")
    with h5py.File(tmp_path / "deep.nc", "w") as file:
        file.create_group("a")["b"] = h5py.ExternalLink(str(tmp_path / "other.nc"), "image")
        file["a/again"] = file["/"]
    with h5py.File(tmp_path / "virtual.nc", "w") as file:
        layout = h5py.VirtualLayout((5, 7), "f4")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.nc"), "image", (5, 7))
        file.create_virtual_dataset("v", layout)
    for name in ("raw", "link", "deep", "virtual"):
        with (
            pytest.raises(RasterError, match=rf"{name}\.nc: takes values from other files .*nccopy"),
            NetcdfReader(tmp_path / f"{name}.nc"),
        ):
            pass
