"""Files of pixels: round trips, what is outside, and what happens when a file or a disk is broken."""

from __future__ import annotations

import math
import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.env import get_gdal_config

from swath.errors import RasterError
from swath.geo.block_cache import CACHE_BYTES, bounded_cache
from swath.geo.grid import Grid, Window
from swath.geo.layout import RasterSpec
from swath.geo.raster import RasterReader, describe, find_rasters, read_image, read_labels, warped
from swath.geo.raster_writer import RasterWriter, write_raster
from swath.labels import IGNORE
from tests.synthetic import NODATA, UTM, backscatter, blobs, cut_in_half, grid, write_image, write_mask

ROOT = Path(__file__).resolve().parents[2]
LAW = settings(max_examples=50, deadline=None)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("block", [None, 16, 512])
def test_c09_image_round_trip_keeps_pixels_and_place(tmp_path: Path, compress: bool, block: int | None) -> None:
    image = backscatter((37, 53), bands=2)
    spec = RasterSpec(
        grid=grid((37, 53)), bands=("vh", "vv"), dtype="float32", nodata=NODATA, block=block, compress=compress,
        tags={"PLATFORM": "S1A"},
    )  # fmt: skip
    write_raster(tmp_path / "deep" / "x.tif", image, spec)
    info = describe(tmp_path / "deep" / "x.tif")
    assert info.grid == grid((37, 53))
    assert info.bands == ("vh", "vv")
    assert (info.dtype, info.nodata, info.tags["PLATFORM"]) == ("float32", NODATA, "S1A")
    assert np.array_equal(read_image(info.path), image, equal_nan=True)
    assert [p.name for p in info.path.parent.iterdir()] == ["x.tif"]


@pytest.mark.parametrize(
    "transform",
    [Affine(10, 0, 4e5, 0, 10, 3.7e6), Affine.translation(4e5, 3.7e6) @ Affine.rotation(30) @ Affine.scale(10, -10)],
    ids=["south_up", "rotated"],
)
@pytest.mark.parametrize("crs", [UTM, None])
def test_c09_unusual_grids_come_back(tmp_path: Path, transform: Affine, crs: object) -> None:
    place = Grid(crs, transform, (20, 30))
    write_image(tmp_path / "x.tif", backscatter((20, 30)), place)
    found = describe(tmp_path / "x.tif").grid
    assert found.difference(place) is None
    assert found.crs == crs


@LAW
@given(
    window=st.builds(Window, st.integers(-40, 60), st.integers(-40, 60), st.integers(1, 50), st.integers(1, 50)),
)
def test_c12_reading_outside_gives_nothing_measured(tmp_path_factory: pytest.TempPathFactory, window: Window) -> None:
    folder = tmp_path_factory.getbasetemp() / "outside"
    image, mask = backscatter((30, 40), bands=2, gap=2), blobs((30, 40))
    if not folder.is_dir():
        write_mask(folder / "mask.tif", mask, grid((30, 40)))
        write_image(folder / "image.tif", image, grid((30, 40)))
    wide = np.full((2, 200, 200), np.nan, np.float32)
    wide[:, 60:90, 60:100] = image
    labels = np.full((200, 200), IGNORE, np.uint8)
    labels[60:90, 60:100] = mask
    rows, cols = Window(window.row + 60, window.col + 60, window.height, window.width).slices
    assert np.array_equal(read_image(folder / "image.tif", window), wide[:, rows, cols], equal_nan=True)
    assert np.array_equal(read_labels(folder / "mask.tif", window)[0], labels[rows, cols])


@LAW
@given(cuts=st.lists(st.integers(1, 39), max_size=4), shift=st.tuples(st.integers(-5, 5), st.integers(-5, 5)))
def test_c91_writing_windows_equals_writing_at_once(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], shift: tuple[int, int]
) -> None:
    folder = tmp_path_factory.mktemp("windows")
    image = backscatter((40, 30), gap=2)
    spec = RasterSpec(grid=grid((40, 30)), bands=("a", "b", "c"), dtype="float32", nodata=NODATA, block=16)
    write_raster(folder / "once.tif", image, spec)
    edges = [0, *sorted(set(cuts)), 40]
    with RasterWriter(folder / "parts.tif", spec) as writer:
        for start, stop in pairwise(edges):
            writer.write(image[:, start:stop], Window(start, 0, stop - start, 30))
        writer.write(image[:, :1, :1], Window(40 + abs(shift[0]), 0, 1, 1))  # wholly outside: dropped
    assert np.array_equal(read_image(folder / "parts.tif"), read_image(folder / "once.tif"), equal_nan=True)


def test_c12_a_window_that_sticks_out_is_written_where_it_lies(tmp_path: Path) -> None:
    image = backscatter((20, 20), bands=1, gap=0)
    spec = RasterSpec(grid=grid((12, 11)), bands=("a",), dtype="float32", nodata=NODATA)
    with RasterWriter(tmp_path / "x.tif", spec) as writer:
        writer.write(image, Window(-4, -5, 20, 20))
    assert np.array_equal(read_image(tmp_path / "x.tif"), image[:, 4:16, 5:16])


@pytest.mark.parametrize("nodata", [0.0, -99999.0, float("nan"), -3.4028234663852886e38])
def test_c09_any_declared_nodata_is_read_as_nan(tmp_path: Path, nodata: float) -> None:
    image = np.array([[[1.0, nodata], [2.0, np.inf]]], np.float32)
    write_raster(tmp_path / "x.tif", image, RasterSpec(grid=grid((2, 2)), bands=("a",), dtype="float32", nodata=nodata))
    assert np.array_equal(read_image(tmp_path / "x.tif"), [[[1, np.nan], [2, np.nan]]], equal_nan=True)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64"])
def test_c45_listed_values_are_read_as_nan_and_only_they(tmp_path: Path, dtype: str) -> None:
    """-99999 is no value of uint8: it must not wrap around to 97 and take that away."""
    lowest = -3.4028234663852886e38
    wanted = {"uint8": (0,), "int16": (0, -32768), "float32": (0, -32768, -99999, lowest), "float64": (0, -99999)}[
        dtype
    ]
    values = np.array([[*wanted, 97, 1, 5, 5, 7, 8][:6]], np.float64)
    path = tmp_path / "a.tif"
    profile = {
        "driver": "GTiff",
        "width": 6,
        "height": 1,
        "count": 1,
        "dtype": dtype,
        "nodata": 5,
        "transform": grid().transform,
    }
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.write(values.astype(dtype)[None])
    found = read_image(path, missing=(0, -32768, -99999, lowest, math.nan))[0]
    gap = np.isin(values, [*wanted, 5])
    assert (np.isnan(found) == gap).all()
    np.testing.assert_array_equal(found[~gap], values[~gap])
    assert np.isnan(read_image(path)).sum() == (values == 5).sum()
    with RasterReader(path, (97,)) as reader:
        again = pickle.loads(pickle.dumps(reader))
        np.testing.assert_array_equal(again.image(), reader.image())


def test_c09_without_nodata_every_finite_value_is_a_measurement(tmp_path: Path) -> None:
    image = np.array([[[0.0, -99999.0]]], np.float32)
    write_raster(tmp_path / "x.tif", image, RasterSpec(grid=grid((1, 2)), bands=("a",), dtype="float32"))
    assert np.array_equal(read_image(tmp_path / "x.tif"), image)


def test_c10_labels_are_not_read_from_an_image(tmp_path: Path) -> None:
    path = write_image(tmp_path / "image.tif", backscatter((8, 8)), grid((8, 8)))
    with pytest.raises(
        RasterError, match=r"image\.tif: labels must be uint8, found float32\. Make it with `rasterize`"
    ):
        read_labels(path)


# ------------------------------------------------------------------------------------------------------ broken files


def test_c36_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RasterError, match=r"gone\.tif: no such file"):
        describe(tmp_path / "gone.tif")


def test_c36_text_called_tif_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.tif"
    path.write_text("this is not a raster\n")
    with pytest.raises(
        RasterError, match=r"notes\.tif: cannot be read as a raster \(21 bytes.*copy or download it again"
    ):
        describe(path)


@pytest.mark.parametrize("compress", [False, True])
def test_c36_truncated_raster_is_refused(tmp_path: Path, compress: bool) -> None:
    spec = RasterSpec(grid=grid((300, 300)), bands=("a",), dtype="float32", nodata=NODATA, block=64, compress=compress)
    write_raster(tmp_path / "half.tif", backscatter((300, 300), bands=1), spec)
    path = cut_in_half(tmp_path / "half.tif")
    with pytest.raises(
        RasterError, match=rf"half\.tif: cannot be read.*{path.stat().st_size} bytes.*download it again"
    ):
        read_image(path)


def test_c36_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.tif").touch()
    with pytest.raises(RasterError, match=r"empty\.tif: cannot be read as a raster \(0 bytes"):
        describe(tmp_path / "empty.tif")


# ------------------------------------------------------------------------------------------------- whole or not at all


def test_c13_an_error_while_writing_leaves_nothing_and_keeps_the_old_file(tmp_path: Path) -> None:
    spec = RasterSpec(grid=grid((8, 8)), bands=("a",), dtype="float32")
    write_raster(tmp_path / "x.tif", np.ones((1, 8, 8)), spec)

    def stopped() -> None:
        with RasterWriter(tmp_path / "x.tif", spec) as writer:
            writer.write(np.zeros((1, 8, 8)))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert [p.name for p in tmp_path.iterdir()] == ["x.tif"]
    assert (read_image(tmp_path / "x.tif") == 1).all()


def test_c13_the_name_appears_when_the_file_is_complete(tmp_path: Path) -> None:
    spec = RasterSpec(grid=grid((8, 8)), bands=("a",), dtype="float32")
    with RasterWriter(tmp_path / "x.tif", spec) as writer:
        writer.write(np.zeros((1, 8, 8)))
        assert find_rasters(tmp_path) == []  # the growing file is hidden
        assert len(list(tmp_path.iterdir())) == 1
    assert find_rasters(tmp_path) == [tmp_path / "x.tif"]


FULL_DISK = """
import sys
from pathlib import Path
from swath.errors import RasterError
from swath.geo.layout import RasterSpec
from swath.geo.raster_writer import write_raster
from tests.limits import limit_file_size
from tests.synthetic import backscatter, grid

limit_file_size(50_000)
failed = 0
for side, compress in ((128, False), (128, True), (1024, False)):
    spec = RasterSpec(
        grid=grid((side, side)), bands=("a", "b", "c"), dtype="float32", nodata=-99999.0, block=64, compress=compress
    )
    try:
        write_raster(Path(sys.argv[1]) / f"{side}_{compress}.tif", backscatter((side, side)), spec)
    except RasterError as error:
        print(f"error: {error}", file=sys.stderr)
        failed += 1
raise SystemExit(failed)
"""


@pytest.mark.system
def test_c13_full_disk_leaves_nothing_and_says_so(tmp_path: Path) -> None:
    """Small files stay in GDAL's cache until they are closed, so the disk shows itself full at the last moment."""
    env = {"PYTHONPATH": f"{ROOT / 'code'}:{ROOT}", "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    for name in ("128_False.tif", "128_True.tif", "1024_False.tif"):
        assert f"{name}: cannot be written" in done.stderr
    assert done.stderr.count("Free disk space") == 3
    assert list(tmp_path.iterdir()) == []


def test_c13_a_folder_in_the_way_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "x.tif").mkdir()
    with pytest.raises(
        RasterError, match=r"x\.tif: cannot be written.*Free disk space or check the folder's permissions"
    ):
        write_raster(tmp_path / "x.tif", np.ones((1, 4, 4)), RasterSpec(grid=grid((4, 4)), bands=("a",), dtype="uint8"))
    assert [p.name for p in tmp_path.iterdir()] == ["x.tif"]


# ------------------------------------------------------------------------------------------------------------ readers


def total(reader: RasterReader) -> float:
    return float(np.nansum(reader.image(Window(0, 0, 8, 8))))


def test_c36_an_open_reader_survives_pickling_and_forks(tmp_path: Path) -> None:
    path = write_image(tmp_path / "x.tif", backscatter((8, 8)), grid((8, 8)))
    with RasterReader(path) as reader:
        expected = total(reader)
        copy = pickle.loads(pickle.dumps(reader))
        assert total(copy) == expected
        copy.close()
        with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
            assert pool.submit(total, reader).result() == expected
        assert total(reader) == expected


def test_c41_one_band_can_be_read_alone(tmp_path: Path) -> None:
    image = backscatter((8, 8))
    with RasterReader(write_image(tmp_path / "x.tif", image, grid((8, 8)))) as reader:
        assert np.array_equal(reader.image(bands=[2]), image[1:2], equal_nan=True)


def test_c36_find_rasters_is_sorted_and_skips_what_is_hidden(tmp_path: Path) -> None:
    for name in ("b/2.tif", "a/1.TIF", "a/.1.99.part.tif", "a/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert find_rasters(tmp_path) == [tmp_path / "a/1.TIF", tmp_path / "b/2.tif"]
    with pytest.raises(RasterError, match=r"nowhere: no such folder\. Set input_path"):
        find_rasters(tmp_path / "nowhere")


# ------------------------------------------------------------------------------------------------------------ warping


@pytest.mark.parametrize("nodata", [None, NODATA])
@pytest.mark.parametrize("resampling", ["nearest", "bilinear"])
def test_c96_warping_by_whole_pixels_is_a_shift_and_outside_is_nan(
    tmp_path: Path, nodata: float | None, resampling: str
) -> None:
    image = backscatter((20, 30), bands=1, gap=0)
    spec = RasterSpec(grid=grid((20, 30)), bands=("p",), dtype="float32", nodata=nodata)
    write_raster(tmp_path / "x.tif", image, spec)
    with warped(tmp_path / "x.tif", grid((20, 30), (400_050.0, 3_699_970.0)), resampling) as view:
        moved = view.image()
    expected = np.full((1, 20, 30), np.nan, np.float32)
    expected[:, :17, :25] = image[:, 3:, 5:]
    assert np.allclose(moved, expected, equal_nan=True)


def test_c96_warping_needs_a_crs(tmp_path: Path) -> None:
    here = grid((20, 30))
    path = write_image(tmp_path / "x.tif", backscatter((20, 30)), Grid(None, here.transform, here.shape))
    with (
        pytest.raises(RasterError, match=r"x\.tif: cannot be brought to another grid without a CRS\. Declare one"),
        warped(path, grid((20, 30), (400_050.0, 3_700_000.0)), "nearest"),
    ):
        pass
    with warped(path, Grid(None, here.transform, here.shape), "nearest") as view:
        assert np.array_equal(view.image(), backscatter((20, 30)), equal_nan=True)


@pytest.mark.parametrize("how", ["pickled", "forked"])
def test_c96_a_warped_reader_stays_warped_in_another_process(tmp_path: Path, how: str) -> None:
    image = backscatter((20, 30), bands=1, gap=0)
    path = write_image(tmp_path / "x.tif", image, grid((20, 30)))
    with warped(path, grid((20, 30), (400_050.0, 3_699_970.0)), "nearest") as view:
        here = view.image()
        if how == "pickled":
            with pickle.loads(pickle.dumps(view)) as again:
                there = again.image()
        else:
            with ProcessPoolExecutor(1, get_context("fork")) as pool:
                globals()["_SEEN_BY_CHILDREN"] = view
                there = pool.submit(_image_of_the_parents_view).result()
    assert np.array_equal(there, here, equal_nan=True)
    assert not np.array_equal(there, image, equal_nan=True)


def _image_of_the_parents_view() -> np.ndarray:
    return globals()["_SEEN_BY_CHILDREN"].image()  # type: ignore[no-any-return]


def test_gdals_cache_is_bounded_while_somebody_writes_and_given_back_after(tmp_path: Path) -> None:
    before = get_gdal_config("GDAL_CACHEMAX")
    spec = RasterSpec(grid=grid((20, 30)), bands=("p",), dtype="float32")
    with RasterWriter(tmp_path / "a.tif", spec):
        assert get_gdal_config("GDAL_CACHEMAX") == CACHE_BYTES != before
        with bounded_cache(), RasterWriter(tmp_path / "b.tif", spec):
            assert get_gdal_config("GDAL_CACHEMAX") == CACHE_BYTES
        assert get_gdal_config("GDAL_CACHEMAX") == CACHE_BYTES
    assert get_gdal_config("GDAL_CACHEMAX") == before
    with pytest.raises(ValueError, match="odd"), RasterWriter(tmp_path / "c.tif", spec):
        raise ValueError("odd")
    assert get_gdal_config("GDAL_CACHEMAX") == before
    with ThreadPoolExecutor(4) as pool:
        for i in range(40):
            pool.submit(write_raster, tmp_path / f"{i}.tif", backscatter((20, 30), bands=1), spec)
    assert get_gdal_config("GDAL_CACHEMAX") == before
