"""Pixels of tiles: from their files, from their scenes, from memory and from the cache, always the same ones."""

from __future__ import annotations

import multiprocessing
import os
import resource
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from swath.data.samples.dataset import Crops, TileDataset, collate
from swath.data.samples.loader import AHEAD, Loader
from swath.data.samples.samplers import Draw
from swath.data.samples.tile_tables import tiles_from_folders
from swath.data.tables import TILE_COLUMNS, TILES, read_scenes, read_table
from swath.data.tiles.cutting import as_windows
from swath.errors import CatalogError, ConfigError
from swath.geo.windows import ConstantSize, ConstantStride
from swath.labels import IGNORE
from tests.synthetic import backscatter, blobs, grid, write_image, write_mask, write_scenes

SHAPE = (70, 90)
MODES = ("off", "ram", "mmap")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sources")
    write_scenes(root / "scenes", 2, SHAPE, root / "masks")
    return root


@pytest.fixture(scope="module")
def cut(folder: Path, store: str) -> Path:
    """Tiles on disk in `tiles`, and tiles that are windows of the scenes in `windows`; padded at the right and below."""
    import sys

    import generate_tiles
    import generate_tiles_stats
    from swath import tracking

    for output, write in (("tiles", True), ("windows", False)):
        arguments = {
            "input_path": folder / "scenes", "masks_path": folder / "masks", "output_path": folder / output, "write": write,
            "missing_values": "0.1,", "tiling": "swath.geo.windows:ConstantStride", "tiling.size": 40, "tiling.stride": 30,
            "executor": "serial",
        }  # fmt: skip
        for script, config, options in (
            (generate_tiles, "generate_tiles", arguments),
            (generate_tiles_stats, "generate_tiles_stats", {"input_path": folder / output, "executor": "serial"}),
        ):
            with pytest.MonkeyPatch.context() as patch:
                given = [f"--{name}={value}" for name, value in options.items()]
                patch.setattr(sys, "argv", [config, f"--config_path=configs/demo/{config}.py", *given])
                assert tracking.cli(script.main) == 0
    return folder


def table(root: Path) -> gpd.GeoDataFrame:
    return read_table(root / TILES, TILE_COLUMNS, "generate_tiles")


def dataset(root: Path, crop: int | None = None, **options: Any) -> TileDataset:
    return TileDataset(table(root), root, ["water"], Crops(size=crop, seek_target=0.5) if crop else None, **options)


def items(crop: int | None, count: int) -> Sequence[Any]:
    return [Draw(n % count, (3, n)) for n in range(3 * count)] if crop else range(count)


def alike(a: dict[str, Any], b: dict[str, Any]) -> bool:
    image = np.array_equal(a["image"].numpy(), b["image"].numpy(), equal_nan=True)
    return (
        image
        and a["key"] == b["key"]
        and a["window"] == b["window"]
        and torch.equal(a["target"]["water"], b["target"]["water"])
    )


@pytest.mark.parametrize("crop", [None, 16, 64])
@pytest.mark.parametrize("source", ["tiles", "windows"])
@pytest.mark.parametrize("mode", MODES)
def test_c40_every_mode_and_source_gives_the_same_samples(
    cut: Path, tmp_path: Path, source: str, mode: str, crop: int | None
) -> None:
    plain = dataset(cut / "tiles", crop)
    other = dataset(cut / source, crop, cache=mode, cache_path=tmp_path)
    for item in items(crop, len(plain)):
        assert alike(plain[item], other[item])
        assert alike(plain[item], other[item])  # and from the cache


def test_c40_windows_of_scenes_are_no_files_and_have_the_statistics_of_tiles(cut: Path) -> None:
    assert not list((cut / "windows").rglob("*.tif"))
    a, b = (gpd.read_parquet(cut / name / "tile_stats.parquet") for name in ("tiles", "windows"))
    same = [c for c in a.columns if c not in ("image", "mask", "geometry")]
    for column in same:
        for x, y in zip(a[column], b[column], strict=True):
            assert np.array_equal(x, y, equal_nan=isinstance(x, float | np.ndarray)), column
    assert a.geometry.geom_equals(b.geometry).all()
    with pytest.raises(CatalogError, match="its tiles are windows of scenes"):
        read_scenes(cut / "windows")


@pytest.mark.parametrize("crop", [16, 64])
@pytest.mark.parametrize("mode", MODES)
def test_c40_a_batch_is_its_samples(cut: Path, tmp_path: Path, mode: str, crop: int) -> None:
    data = dataset(cut / "windows", crop, cache=mode, cache_path=tmp_path)
    draws = items(crop, len(data))
    batch, samples = collate(data.__getitems__(draws)), collate([data[draw] for draw in draws])
    assert np.array_equal(batch["image"].numpy(), samples["image"].numpy(), equal_nan=True)
    assert torch.equal(batch["target"]["water"], samples["target"]["water"])
    assert (batch["key"], batch["window"]) == (samples["key"], samples["window"])


@pytest.mark.system
@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize(("source", "mode"), [("windows", "off"), ("tiles", "ram"), ("windows", "mmap")])
def test_c40_workers_of_either_kind_read_what_one_process_reads(
    cut: Path, tmp_path: Path, source: str, mode: str, method: str
) -> None:
    data = dataset(cut / source, 16, cache=mode, cache_path=tmp_path)
    draws = items(16, len(data))
    expected = [data[draw] for draw in draws]  # handles and mappings are open before the workers start
    loader = DataLoader(data, 4, sampler=draws, num_workers=2, collate_fn=collate, multiprocessing_context=method)
    for batch, start in zip(loader, range(0, len(draws), 4), strict=True):
        for i, want in enumerate(expected[start : start + 4]):
            assert np.array_equal(batch["image"][i].numpy(), want["image"].numpy(), equal_nan=True)
            assert torch.equal(batch["target"]["water"][i], want["target"]["water"])


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize(
    ("source", "mode"), [("windows", "off"), ("tiles", "off"), ("tiles", "ram"), ("windows", "mmap")]
)
def test_c40_threads_make_the_same_batches_in_the_same_order(
    cut: Path, tmp_path: Path, source: str, mode: str, workers: int
) -> None:
    data = dataset(cut / source, 16, cache=mode, cache_path=tmp_path, threads=workers)
    draws = items(16, len(data))
    expected = [dataset(cut / source, 16).__getitems__(draws[i : i + 4]) for i in range(0, len(draws), 4)]
    loader = Loader(data, 4, draws, workers)
    assert len(loader) == len(expected)
    for _ in range(2):
        for batch, want in zip(loader, expected, strict=True):
            assert np.array_equal(batch["image"].numpy(), want["image"].numpy(), equal_nan=True)
            assert torch.equal(batch["target"]["water"], want["target"]["water"])
            assert (batch["key"], batch["window"]) == (want["key"], want["window"])


class Numbers:
    """Samples that are their positions; number 7 cannot be read."""

    def __init__(self) -> None:
        self.made: list[int] = []

    def __len__(self) -> int:
        return 1000

    def __getitems__(self, at: list[int]) -> dict[str, Any]:
        self.made += at
        if 7 in at:
            raise CatalogError("tile 7 is broken")
        return {"image": torch.tensor(at), "target": {}}


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_c40_an_error_comes_in_its_batch_s_turn_and_ends_the_threads(workers: int) -> None:
    data, before = Numbers(), threading.active_count()
    seen: list[int] = []
    with pytest.raises(CatalogError, match="tile 7 is broken"):
        seen.extend(int(n) for batch in Loader(data, 2, workers=workers) for n in batch["image"])
    assert seen == [0, 1, 2, 3, 4, 5]
    assert threading.active_count() == before
    assert len(data.made) <= 8 + 2 * (AHEAD + 1) * workers  # no epoch's worth of work for nobody


def test_c40_who_stops_in_the_middle_leaves_no_thread() -> None:
    before, batches = threading.active_count(), iter(Loader(Numbers(), 1, workers=2))
    assert [int(next(batches)["image"]) for _ in range(3)] == [0, 1, 2]
    assert threading.active_count() == before + 2
    batches.close()
    assert threading.active_count() == before


def write_pair(root: Path, value: float) -> gpd.GeoDataFrame:
    for i in range(3):
        write_image(root / "i" / f"{i}.tif", np.full((2, 20, 20), value + i, np.float32), grid((20, 20)))
        write_mask(root / "m" / f"{i}.tif", np.full((20, 20), i % 2, np.uint8), grid((20, 20)))
    return tiles_from_folders(root / "i", root / "m")


def first_values(tiles: gpd.GeoDataFrame, root: Path, cache: Path) -> list[float]:
    data = TileDataset(tiles, root, ["water"], cache="mmap", cache_path=cache)
    return [float(data[i]["image"][0, 0, 0]) for i in range(len(data))]


def test_c40_cache_knows_content_not_length(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    a, b = write_pair(tmp_path / "a", 1.0), write_pair(tmp_path / "b", 5.0)
    assert first_values(a, tmp_path, cache) == [1, 2, 3]
    assert first_values(b, tmp_path, cache) == [5, 6, 7]
    times = {path: path.stat().st_mtime_ns for path in cache.rglob("*.tile")}
    assert len(times) == 6
    assert first_values(a.iloc[::-1], tmp_path, cache) == [3, 2, 1]
    write_image(tmp_path / "a/i/1.tif", np.full((2, 20, 20), 9.0, np.float32), grid((20, 20)))
    assert first_values(a, tmp_path, cache) == [1, 9, 3]
    assert len(list(cache.rglob("*.tile"))) == 7
    assert {path: path.stat().st_mtime_ns for path in times} == times  # what was there is used, not written anew


def test_c40_cache_does_not_serve_old_pixels_of_equal_size_and_time(tmp_path: Path) -> None:
    tiles, path = write_pair(tmp_path / "a", 1.0), tmp_path / "a/i/1.tif"
    seen = []
    for value in (5.0, 9.0):
        write_image(path, np.full((2, 20, 20), value, np.float32), grid((20, 20)))
        os.utime(path, ns=(10**18, 10**18))
        seen.append((path.stat().st_size, path.stat().st_mtime_ns))
        assert first_values(tiles, tmp_path, tmp_path / "cache") == [1, value, 3]
    assert seen[0] == seen[1]


def test_c40_a_broken_write_leaves_nothing_and_a_cut_file_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiles, cache = write_pair(tmp_path, 1.0), tmp_path / "cache"

    def full(source: object, target: object) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(CatalogError, match="cannot be written"):
            first_values(tiles, tmp_path, cache)
    assert not [path for path in cache.rglob("*") if path.is_file()]
    assert first_values(tiles, tmp_path, cache) == [1, 2, 3]
    for path in cache.rglob("*.tile"):
        os.truncate(path, 100)
    assert first_values(tiles, tmp_path, cache) == [1, 2, 3]


def _read_all(arguments: tuple[gpd.GeoDataFrame, Path, Path]) -> list[float]:
    return first_values(*arguments)


def test_c40_several_processes_may_fill_one_cache(tmp_path: Path) -> None:
    tiles, cache = write_pair(tmp_path, 1.0), tmp_path / "cache"
    with ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("fork")) as pool:
        assert list(pool.map(_read_all, [(tiles, tmp_path, cache)] * 6)) == [[1, 2, 3]] * 6
    assert len([path for path in cache.rglob("*") if path.is_file()]) == 3


def test_c40_several_data_sets_of_one_process_may_fill_one_cache(tmp_path: Path) -> None:
    """Threads write the same files at the same moment: each in a part of its own."""
    place, count, threads = grid((64, 64)), 40, 4
    for i in range(count):
        write_image(tmp_path / "i" / f"{i:02d}.tif", np.full((3, 64, 64), float(i), np.float32), place)
    tiles = tiles_from_folders(tmp_path / "i", None)
    together = threading.Barrier(threads)

    def read(number: int) -> list[float]:
        data = TileDataset(tiles, tmp_path, [], cache="mmap", cache_path=tmp_path / "cache")
        found = []
        for tile in range(count):
            together.wait(60)
            image = data[tile]["image"]
            assert (image == image[0, 0, 0]).all(), f"tile {tile} of data set {number} is torn"
            found.append(float(image[0, 0, 0]))
        return found

    with ThreadPoolExecutor(threads) as pool:
        waiting = [pool.submit(_ended_by(read, together), number) for number in range(threads)]
        assert [future.result() for future in waiting] == [list(map(float, range(count)))] * threads
    assert len([path for path in (tmp_path / "cache").rglob("*") if path.is_file()]) == count


def _ended_by(read: Callable[[int], list[float]], together: threading.Barrier) -> Callable[[int], list[float]]:
    """The same, but who fails lets nobody wait."""

    def reading(number: int) -> list[float]:
        try:
            return read(number)
        except BaseException:
            together.abort()
            raise

    return reading


@pytest.fixture
def few_open_files() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/proc/self/fd").iterdir())) + 40, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_c40_mapped_tiles_keep_no_file_open(tmp_path: Path, few_open_files: None) -> None:
    for i in range(60):
        write_image(tmp_path / "i" / f"{i:02}.tif", np.full((1, 8, 8), i, np.float32), grid((8, 8)))
    import swath.data.samples.storage as sources

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "OPEN_FILES", 5)
        data = TileDataset(
            tiles_from_folders(tmp_path / "i", None), tmp_path, [], cache="mmap", cache_path=tmp_path / "c"
        )
        for _ in range(2):
            assert [float(data[i]["image"][0, 0, 0]) for i in range(60)] == list(range(60))


def test_c40_memory_that_workers_cannot_share_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil
    from types import SimpleNamespace

    tiles = write_pair(tmp_path, 1.0)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=100))
    data = TileDataset(tiles, tmp_path, ["water"], cache="ram")
    with pytest.raises(ConfigError, match="more than /dev/shm has free"):
        ForkingPickler.dumps(data)


# --------------------------------------------------------------------------------------------------- crops of scenes


def lone(tmp_path: Path, labels: np.ndarray) -> gpd.GeoDataFrame:
    write_image(tmp_path / "i" / "x.tif", backscatter(labels.shape, gap=0), grid(labels.shape))
    write_mask(tmp_path / "m" / "x.tif", labels, grid(labels.shape))
    return tiles_from_folders(tmp_path / "i", tmp_path / "m")


def drawn(tiles: gpd.GeoDataFrame, root: Path, count: int = 400, **crops: Any) -> list[dict[str, Any]]:
    data = TileDataset(tiles, root, ["water"], Crops(**crops), cache="ram")
    return [data[Draw(0, (0, n))] for n in range(count)]


def test_c38_crops_of_a_scene_are_uniform_and_reach_both_ends(tmp_path: Path) -> None:
    found = drawn(lone(tmp_path, np.zeros((40, 52), np.uint8)), tmp_path, 2000, size=32, min_labelled=0.5)
    for side, places in (("row", 9), ("col", 21)):
        counts = np.bincount([getattr(sample["window"], side) for sample in found], minlength=places)
        assert len(counts) == places
        expected = 2000 / places
        assert ((counts - expected) ** 2 / expected).sum() < places + 6 * np.sqrt(2 * places)  # chi squared


@pytest.mark.parametrize("share", [0.25, 0.9])
def test_c38_crops_have_enough_labels(tmp_path: Path, share: float) -> None:
    labels = np.full((80, 80), IGNORE, np.uint8)
    labels[:, 30:] = 0
    for sample in drawn(lone(tmp_path, labels), tmp_path, size=16, min_labelled=share):
        assert (sample["target"]["water"] != IGNORE).float().mean() >= share


def test_c38_no_crop_is_without_a_label_where_a_single_pixel_has_one(tmp_path: Path) -> None:
    labels = np.full((200, 300), IGNORE, np.uint8)
    labels[131, 7] = 1
    found = drawn(lone(tmp_path, labels), tmp_path, 60, size=16, min_labelled=0.5)
    assert all((sample["target"]["water"] == 1).sum() == 1 for sample in found)
    windows = {(s["window"].row, s["window"].col) for s in found}
    assert len(windows) > 20  # at any place within the crop
    assert min(row for row, _ in windows) >= 0
    assert min(col for _, col in windows) >= 0


def test_c38_a_scene_smaller_than_the_crop_is_padded_and_one_without_labels_is_named(tmp_path: Path) -> None:
    small = lone(tmp_path / "small", np.zeros((10, 12), np.uint8))
    (sample,) = drawn(small, tmp_path, 1, size=32, min_labelled=0.5)  # half of a crop is more than there is
    assert sample["image"].shape == (3, 32, 32)
    assert (sample["target"]["water"] != IGNORE).sum() == 120
    with pytest.raises(CatalogError, match=r"x has no labelled pixel to train on"):
        drawn(lone(tmp_path / "empty", np.full((40, 40), IGNORE, np.uint8)), tmp_path, 1, size=16, min_labelled=0.1)


@pytest.mark.parametrize("tiling", [ConstantSize(size=32, min_overlap=8), ConstantStride(size=32, stride=32)])
def test_c39_windows_of_scenes_hold_every_pixel_once(tmp_path: Path, tiling: Any) -> None:
    labels = blobs((70, 90))
    labels[5:9, 60:] = IGNORE
    whole = lone(tmp_path, labels)
    data = TileDataset(as_windows(whole, tiling), tmp_path, ["water"])
    count, seen = np.zeros((70, 90), int), np.full((128, 128), IGNORE, np.uint8)
    image = backscatter((70, 90), gap=0)
    for i in range(len(data)):
        sample = data[i]
        window, target = sample["window"], sample["target"]["water"].numpy()
        assert sample["key"] == "x"
        assert sample["image"].shape == (3, 32, 32)
        rows, cols = (slice(s.start, min(s.stop, n)) for s, n in zip(window.slices, (70, 90), strict=True))
        part = image[:, rows, cols]
        assert np.array_equal(sample["image"].numpy()[:, : part.shape[1], : part.shape[2]], part)
        here = np.argwhere(target != IGNORE) + np.array([window.row, window.col])
        count[here[:, 0], here[:, 1]] += 1
        seen[here[:, 0], here[:, 1]] = target[target != IGNORE]
    assert (count == (labels != IGNORE)).all()
    assert np.array_equal(seen[:70, :90], labels)


def test_c39_windows_of_overlapping_tiles_keep_to_the_cores(cut: Path) -> None:
    tiles = table(cut / "windows")
    data = TileDataset(as_windows(tiles, ConstantSize(size=24, min_overlap=4)), cut / "windows", ["water"])
    total = sum(int((data[i]["target"]["water"] != IGNORE).sum()) for i in range(len(data)))
    assert total == 2 * SHAPE[0] * SHAPE[1]
