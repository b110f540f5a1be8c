"""The archive of the Kelp Wanted challenge, against Python's own readers of archives and rasterio."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from rasterio.io import MemoryFile

from swath.challenges.kelp.product import SIDE
from swath.challenges.kelp.submission import faults_of
from swath.data.tables import SCENES, write_table
from swath.geo.grid import Grid
from swath.geo.layout import RasterSpec
from swath.geo.raster_writer import write_raster
from tests.conftest import Script

CONFIG = "configs/kelp/to_submission.py"
TESTS = ("AA000001", "AB000002", "AC000003")
GRID = Grid(None, Affine.identity(), (SIDE, SIDE))


def truth(number: int) -> np.ndarray:
    """A map with some pixels of every value: 0, 1, 255."""
    rng = np.random.default_rng(number)
    return rng.choice(np.array([0, 1, 255], np.uint8), (SIDE, SIDE), p=(0.9, 0.08, 0.02))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Maps of three test tiles, and the table that lists them beside a training tile."""
    rows = [
        {"key": key, "area": "coast", "date": "", "image": f"{key}.tif", "original_split": side, "height": SIDE,
         "width": SIDE, "crs": "", "geometry": "POINT (0 0)", "geometry_crs": ""}
        for key, side in (*((key, "test") for key in TESTS), ("ZZ000009", "train"))
    ]  # fmt: skip
    write_table(tmp_path / "scenes" / SCENES, rows)
    for number, key in enumerate(TESTS):
        write_map(tmp_path / "maps" / "classes" / "coast" / f"{key}.tif", truth(number))
    return tmp_path


def write_map(path: Path, map_HW: np.ndarray, dtype: str = "uint8") -> None:
    grid = Grid(None, Affine.identity(), map_HW.shape)
    spec = RasterSpec(grid=grid, bands=("kelp",), dtype=dtype, nodata=255)  # type: ignore[arg-type]
    write_raster(path, map_HW[None], spec)


def paths(folder: Path) -> dict[str, Path]:
    return {"input_path": folder / "maps", "scenes_path": folder / "scenes", "output_path": folder / "out"}


def contents(archive: Path) -> dict[str, bytes]:
    """Name to bytes, by Python's readers."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as packed:
            return {name: packed.read(name) for name in packed.namelist()}
    with tarfile.open(archive, "r:") as packed_tar:  # not compressed
        return {entry.name: packed_tar.extractfile(entry).read() for entry in packed_tar}  # type: ignore[union-attr]


@pytest.mark.parametrize("packing", ["tar", "zip"])
def test_c100_the_archive_holds_a_map_of_bytes_of_each_test_tile(
    script: Script, folder: Path, packing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script("to_submission", CONFIG, **paths(folder), packing=packing) == 0
    said = capsys.readouterr().out
    assert "3 tiles" in said
    gaps = 100 * np.mean([truth(number) == 255 for number in range(3)])
    assert f"without a map, written as class 0: {gaps:.2f} % of the pixels" in said
    found = contents(folder / "out" / f"submission.{packing}")
    assert sorted(found) == [f"{key}_kelp.tif" for key in TESTS]
    for number, key in enumerate(TESTS):
        with MemoryFile(found[f"{key}_kelp.tif"]) as memory, memory.open() as dataset:
            assert (dataset.count, dataset.shape, dataset.dtypes) == (1, (350, 350), ("int8",))
            expected = np.where(truth(number) == 255, 0, truth(number))
            np.testing.assert_array_equal(dataset.read(1), expected)


def test_c100_equal_maps_give_equal_bytes_and_only_what_changed_is_made_again(script: Script, folder: Path) -> None:
    archive = folder / "out" / "submission.tar"
    assert script("to_submission", CONFIG, **paths(folder)) == 0
    before, rasters = archive.read_bytes(), sorted((folder / "out" / "tiles").iterdir())
    times = [path.stat().st_mtime_ns for path in rasters]
    rasters[0].unlink()
    assert script("to_submission", CONFIG, **paths(folder)) == 0
    assert archive.read_bytes() == before
    assert [path.stat().st_mtime_ns for path in rasters][1:] == times[1:]


def test_c100_test_tiles_without_a_map_and_maps_of_others_are_named(
    script: Script, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = folder / "maps" / "classes" / "coast"
    (place / "AB000002.tif").rename(folder / "aside.tif")
    assert script("to_submission", CONFIG, **paths(folder)) == 1
    assert "no map of AB000002" in capsys.readouterr().err
    (folder / "aside.tif").rename(place / "AB000002.tif")
    write_map(place / "ZZ000009.tif", truth(9))
    assert script("to_submission", CONFIG, **paths(folder)) == 1
    assert "ZZ000009: no test tile" in capsys.readouterr().err
    assert not (folder / "out" / "submission.tar").exists()


@pytest.mark.parametrize(
    ("wrong", "dtype", "said"),
    [
        (np.full((SIDE, SIDE), 3, np.uint8), "uint8", "AC000003.tif: holds class 3; 0 and 1 are due"),
        (np.zeros((SIDE, SIDE), np.float32), "float32", "1 bands of float32, a map of classes"),
        (np.zeros((352, 352), np.uint8), "uint8", "is 352 x 352 px of 1 bands of uint8"),
    ],
)
def test_c100_what_is_no_map_of_classes_is_refused_and_named(
    script: Script, folder: Path, wrong: np.ndarray, dtype: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_map(folder / "maps" / "classes" / "coast" / "AC000003.tif", wrong, dtype)
    assert script("to_submission", CONFIG, **paths(folder)) == 1
    assert said in capsys.readouterr().err
    assert not (folder / "out" / "submission.tar").exists()


def raster(map_HW: np.ndarray) -> bytes:
    height, width = map_HW.shape
    with MemoryFile() as memory:
        with memory.open(driver="GTiff", height=height, width=width, count=1, dtype=map_HW.dtype) as dataset:
            dataset.write(map_HW, 1)
        return bytes(memory.read())


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_c100_the_check_sees_every_fault_of_an_archive(tmp_path: Path) -> None:
    good = raster(np.zeros((350, 350), np.int8))
    entries = [
        ("AA000001_kelp.tif", good), ("AA000001_kelp.tif", good),
        ("AC000003_kelp.tif", raster(np.full((350, 350), 2, np.int8))),
        ("AD000004_kelp.tif", raster(np.zeros((350, 350), np.float32))),
        ("AE000005_kelp.tif", raster(np.zeros((352, 350), np.int8))),
        ("AF000006_kelp.tif", b"no raster"), ("readme.txt", b""),
    ]  # fmt: skip
    archive = tmp_path / "submission.tar"
    with tarfile.open(archive, "w") as packed:
        for name, content in entries:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            packed.addfile(info, io.BytesIO(content))
    tiles = ["AA000001", "AB000002", "AC000003", "AD000004", "AE000005", "AF000006"]
    faults = list(faults_of(archive, tiles))
    for said in (
        "AB000002_kelp.tif is missing", "readme.txt is not asked for", "AA000001_kelp.tif is there twice",
        "AC000003_kelp.tif holds 2, not 0 and 1 alone", "AD000004_kelp.tif is of float32 instead of int8",
        "AE000005_kelp.tif is 352 x 350 px of 1 bands", "AF000006_kelp.tif",
    ):  # fmt: skip
        assert any(said in fault for fault in faults), said
    assert len(faults) == 7
