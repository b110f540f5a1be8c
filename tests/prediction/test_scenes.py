"""Scenes in strips: equal for any number of ranks, resumed after a kill, whole or not at all, cloud-optimised, flat in memory."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import geopandas as gpd
import mlflow
import numpy as np
import pandas as pd
import pytest
import rasterio
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from swath.data.tables import only_where, texts_of
from swath.distributed import partition
from swath.errors import CatalogError, RasterError
from swath.geo.block_cache import CACHE_BYTES
from swath.geo.grid import Window
from swath.geo.raster import read_image, read_labels
from swath.geo.windows import blend_weights, constant_stride_offsets
from swath.nn.model import Classification
from swath.nn.tta import predictor
from swath.prediction.rasters import SceneOutput, scene_output
from swath.prediction.scenes import ScenePredictor
from swath.prediction.sliding import SlidingConfig, predict_rows, window_rows
from swath.prediction.strip_store import Strips
from swath.steps.prefetch import prefetch, write_behind
from tests.conftest import ROOT, Script, child_environment
from tests.prediction.test_sliding import BLENDS, Blend, constant, scene, windows_of
from tests.runs import training_run
from tests.scene_programs import BANDS, WATER, tiny, work
from tests.synthetic import cut_in_half, grid, write_image, write_scenes

LAW = settings(max_examples=40, deadline=None)
WAIT = 60.0
"""Seconds after which something that should have happened never will."""


def program(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "tests.scene_programs", *map(str, arguments)]


def run_program(tmp_path: Path, *arguments: object) -> str:
    env = child_environment(tmp_path / "mlflow.db")
    done = subprocess.run(program(*arguments), cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def strips_of(image: NDArray[np.float32], sliding: SlidingConfig, part: range | None = None) -> NDArray[np.float32]:
    shape = (image.shape[1], image.shape[2])
    found = predict_rows(windows_of(image), shape, tiny(), WATER, sliding, part=part)
    return np.concatenate([p for _, p in found], axis=1)


def tilted(image_BCHW: Tensor) -> dict[str, Tensor]:
    """A model whose answer depends on the place in the window, so that the blend shows."""
    size = image_BCHW.shape[-1]
    ramp = torch.linspace(0, 0.5, size)[:, None] * torch.linspace(0.2, 1, size)
    water = 0.5 * image_BCHW[:, 0].nan_to_num(0.3).clamp(0, 1) + ramp
    return {"water": torch.stack([1 - water, water], dim=1)}


# --------------------------------------------------------------------------------------------------------------- values


@LAW
@given(
    st.sampled_from(BLENDS), st.integers(1, 60), st.integers(1, 60), st.integers(4, 24), st.data(),
)  # fmt: skip
def test_c91_blending_agrees_with_all_windows_added_up_at_once(
    blend: Blend, height: int, width: int, size: int, data: st.DataObject
) -> None:
    overlap = data.draw(st.integers(max(0, size - 12), size - 2))
    image = scene((height, width), seed=height)
    sliding = SlidingConfig(window=size, overlap=overlap, blend=blend, batch=data.draw(st.integers(1, 5)))
    total, weight = np.zeros((height + size, width + size)), np.zeros((height + size, width + size))
    for row in constant_stride_offsets(height, size, size - overlap, "shift"):
        for col in constant_stride_offsets(width, size, size - overlap, "shift"):
            here = (slice(row, row + size), slice(col, col + size))
            window = torch.from_numpy(windows_of(image)(Window(row, col, size, size)))
            total[here] += tilted(window[None])["water"][0, 1].numpy() * blend_weights((size, size), blend)
            weight[here] += blend_weights((size, size), blend)
    found = predict_rows(windows_of(image), (height, width), tilted, WATER, sliding)
    out = np.concatenate([p for _, p in found], axis=1)
    np.testing.assert_allclose(out[1], (total / np.maximum(weight, 1e-9))[:height, :width], atol=1e-5)


@LAW
@given(st.integers(1, 120), st.integers(1, 50), st.integers(0, 31), st.sampled_from([1, 2, 4]), st.data())
def test_c91_ranks_give_the_same_bits_as_one_process(
    height: int, width: int, overlap: int, world: int, data: st.DataObject
) -> None:
    overlap = overlap if max(height, width) <= 40 else min(overlap, 24)
    image = scene((height, width), seed=width)
    image[:, data.draw(st.integers(0, height)) :, : width // 2] = np.nan
    sliding = SlidingConfig(window=32, overlap=overlap, blend=data.draw(st.sampled_from(BLENDS)), batch=2)
    count = len(window_rows(height, sliding))
    done = data.draw(st.sets(st.integers(0, count - 1)))  # by an earlier, killed attempt
    todo = [i for i in range(count) if i not in done]
    whole = strips_of(image, sliding)
    found = {
        strip.row: probability
        for rank in range(world)
        for part in partition(todo, rank, world)
        for strip, probability in predict_rows(windows_of(image), (height, width), tiny(), WATER, sliding, part=part)
    }
    rows = [*window_rows(height, sliding), height]
    assert sorted(found) == [rows[i] for i in todo]
    for i in todo:
        assert np.array_equal(found[rows[i]], whole[:, rows[i] : rows[i + 1]], equal_nan=True)


@LAW
@given(st.sets(st.integers(0, 60)), st.integers(1, 6))
def test_c91_every_strip_is_of_one_rank_and_shares_are_alike(todo: set[int], world: int) -> None:
    shares = [partition(sorted(todo), rank, world) for rank in range(world)]
    flat = [[i for part in parts for i in part] for parts in shares]
    assert [i for own in flat for i in own] == sorted(todo)
    assert max(map(len, flat)) - min(map(len, flat)) <= 1
    for parts in shares:
        assert all(a.stop < b.start for a, b in pairwise(parts)), "runs are as long as they can be"


# ------------------------------------------------------------------------------------------------------------- overlap


def test_c91_no_row_of_pixels_is_read_twice() -> None:
    image, seen = scene((150, 40)), np.zeros(150, int)

    def read(window: Window) -> NDArray[np.float32]:
        seen[window.row : window.row + window.height] += 1
        return windows_of(image)(window)

    list(predict_rows(read, (150, 40), constant(0.5), WATER, SlidingConfig(window=32, overlap=20)))
    assert (seen == 1).all()


def test_c91_the_next_rows_are_read_while_windows_are_computed() -> None:
    image, asked, second = scene((100, 32)), [0], threading.Event()

    def read(window: Window) -> NDArray[np.float32]:
        asked[0] += 1
        if asked[0] == 2:
            second.set()
        return windows_of(image)(window)

    def predict(window: Tensor) -> dict[str, Tensor]:
        assert second.wait(WAIT), "nothing was read meanwhile"
        return constant(0.5)(window)

    assert len(list(predict_rows(read, (100, 32), predict, WATER, SlidingConfig(window=32, overlap=0)))) == 4


def test_c91_strips_are_written_behind_one_at_a_time_and_in_order() -> None:
    gate, done = threading.Event(), list[int]()

    def write(number: int) -> None:
        assert gate.wait(WAIT)
        done.append(number)

    with write_behind(write) as save:
        save(0)  # comes back although nothing is written yet
        assert done == []
        gate.set()
        for number in range(1, 5):
            save(number)
    assert done == [0, 1, 2, 3, 4]


def test_c91_an_error_of_reading_or_writing_surfaces() -> None:
    def numbers() -> Iterator[int]:
        yield 1
        raise RasterError("scene.tif: cannot be read")

    with pytest.raises(RasterError, match="cannot be read"):
        list(prefetch(numbers()))

    def full(number: int) -> None:
        raise RasterError(f"strip {number}: cannot be written")

    with pytest.raises(RasterError, match="strip 7"), write_behind(full) as save:
        save(7)


# --------------------------------------------------------------------------------------------------- ranks, kills, faults


@pytest.fixture
def raster(tmp_path: Path) -> Path:
    """A scene of 150 x 70 px with a gap: 7 rows of windows at window 32, overlap 12."""
    image = scene((150, 70), seed=3)
    image[:, 40:60, :30] = np.nan
    return write_image(tmp_path / "area" / "scene.tif", image, grid((150, 70)), BANDS)


@pytest.fixture
def expected(raster: Path, tmp_path: Path) -> SceneOutput:
    output = scene_output(tmp_path / "expected", "area", "scene")
    work(tiny())(raster, output)
    return output


def same_bits(a: SceneOutput, b: SceneOutput) -> bool:
    return all(p.read_bytes() == q.read_bytes() for p, q in zip(a.paths, b.paths, strict=True))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """What one process of its own found, and the folder with its files: see `tests.scene_programs.report`."""
    folder = tmp_path_factory.mktemp("report")
    image = write_image(folder / "scene.tif", scene((150, 70), seed=3), grid((150, 70)), BANDS)
    tall = [sparse(folder / f"{height}.tif", height, 2048) for height in (4096, 12288)]
    return json.loads(run_program(folder, "report", image, folder, *tall).splitlines()[-1]), folder


@pytest.mark.system
def test_c91_two_and_four_processes_give_the_file_of_one_and_fail_together(
    report: tuple[dict[str, Any], Path], tmp_path: Path
) -> None:
    folder = report[1]
    expected = scene_output(tmp_path / "one", "area", "scene")
    work(tiny())(folder / "scene.tif", expected)
    windows = [json.loads((folder / f"{w}_{r}.json").read_text()) for w in (2, 4) for r in range(w)]
    assert min(windows) > 0
    for world in (2, 4):
        assert same_bits(scene_output(folder, f"ranks{world}", "scene"), expected)
        assert not list((folder / "classes" / f"ranks{world}").glob(".*"))


@pytest.mark.system
def test_c91_a_killed_inference_goes_on_at_its_last_strip(raster: Path, expected: SceneOutput, tmp_path: Path) -> None:
    output = scene_output(tmp_path / "out", "area", "scene")
    env = child_environment(tmp_path / "mlflow.db")
    with subprocess.Popen(program("slowly", raster, tmp_path / "out"), cwd=ROOT, env=env) as child:
        until = time.monotonic() + WAIT
        while len(kept := list(output.classes.parent.glob(".scene.parts/*/*.npy"))) < 3 and time.monotonic() < until:
            time.sleep(0.01)
        child.kill()
    assert 3 <= len(kept) < 7
    assert not output.classes.exists()
    counted: list[int] = []
    work(tiny(counted))(raster, output, "same")
    whole: list[int] = []
    work(tiny(whole))(raster, scene_output(tmp_path / "again", "area", "scene"))
    left = 7 - len(list(kept))
    assert sum(counted) <= sum(whole) * (left + 1) / 7 + 1, "strips left, and one row of windows that reaches into them"
    assert same_bits(output, expected)
    assert [p.name for p in output.classes.parent.iterdir()] == ["scene.tif"]


def test_c91_strips_of_other_settings_or_damaged_ones_are_computed_again(
    raster: Path, expected: SceneOutput, tmp_path: Path
) -> None:
    output = scene_output(tmp_path / "out", "area", "scene")
    for attempt in ("other", "same"):
        strips = Strips(output.classes, attempt)
        strips.save(2, np.zeros((1, 20, 70), np.float32))
    path = next((strips.home / "same").iterdir())
    path.write_bytes(path.read_bytes()[:300])
    work(tiny())(raster, output, "same")
    assert same_bits(output, expected)


def test_c91_a_damaged_scene_leaves_nothing_under_the_final_name(tmp_path: Path) -> None:
    path = write_image(tmp_path / "scene.tif", scene((900, 600)), grid((900, 600)), BANDS)
    cut_in_half(path)
    output = scene_output(tmp_path / "out", "area", "scene")
    with pytest.raises(RasterError, match=r"scene\.tif: cannot be read as a raster"):
        work(constant(0.5), 256, 0)(path, output)
    assert not list((tmp_path / "out").rglob("*.tif"))


@pytest.mark.system
def test_c91_a_full_disk_leaves_nothing_under_the_final_name_and_says_so(report: tuple[dict[str, Any], Path]) -> None:
    said, out = report[0]["full_disk"], report[1] / "full"
    assert len(said) == 2
    assert "scene.tif: a strip of it cannot be written" in said[0]
    assert "scene.tif: cannot be written" in said[1]
    assert "strip" not in said[1]
    assert all("Free disk space" in line for line in said)
    assert not list(out.rglob("*.tif*"))
    counted: list[int] = []
    work(tiny(counted))(report[1] / "scene.tif", scene_output(out, "area", "scene"), "same")
    assert counted == [], "all strips were there already"


# -------------------------------------------------------------------------------------------------------------- outputs


def gdal_says(path: Path) -> dict[str, object]:
    if shutil.which("gdalinfo") is None:
        pytest.skip("GDAL's tools are not installed")
    done = subprocess.run(["gdalinfo", "-json", str(path)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_c91_outputs_are_cloud_optimised_with_overviews_nodata_colours_and_names(tmp_path: Path) -> None:
    image = scene((1100, 700), seed=5)
    image[:, 100:333, 50:301] = np.nan
    path = write_image(tmp_path / "scene.tif", image, grid((1100, 700)), BANDS)
    output = scene_output(tmp_path / "out", "area", "scene")
    work(tilted, 256, 32)(path, output)
    for file, nodata, packing in ((output.classes, 255.0, "DEFLATE"), (output.probabilities, math.nan, "ZSTD")):
        info = gdal_says(file)
        band = info["bands"][0]  # type: ignore[index]
        assert info["metadata"]["IMAGE_STRUCTURE"]["LAYOUT"] == "COG"  # type: ignore[index]
        assert info["metadata"]["IMAGE_STRUCTURE"]["COMPRESSION"] == packing  # type: ignore[index]
        assert [o["size"] for o in band["overviews"]] == [[350, 550], [175, 275]]
        assert band["description"] == "water"
        assert band["block"] == [512, 512]
        assert math.isclose(float(band["noDataValue"]), nodata) or math.isnan(nodata)
    assert len(gdal_says(output.classes)["bands"][0]["colorTable"]["entries"]) == 256  # type: ignore[index]
    p, classes = read_image(output.probabilities)[0], read_labels(output.classes)[0]
    blocks, votes = (a.reshape(550, 2, 350, 2).swapaxes(1, 2).reshape(550, 350, 4) for a in (p, classes))
    with rasterio.open(output.probabilities, OVERVIEW_LEVEL=0) as small:
        found = small.read(1)
    full = ~np.isnan(blocks).any(axis=2)
    np.testing.assert_allclose(found[full], blocks[full].mean(axis=1), atol=1e-5)
    assert np.isnan(found[np.isnan(blocks).all(axis=2)]).all()
    with rasterio.open(output.classes, OVERVIEW_LEVEL=0) as small:
        mode = small.read(1)
    for value in (0, 1):
        assert (mode[(votes == value).sum(axis=2) >= 3] == value).all()
    assert (mode[(votes == 255).all(axis=2)] == 255).all()


def test_c93_classes_alone_are_those_beside_probabilities(raster: Path, expected: SceneOutput, tmp_path: Path) -> None:
    output = scene_output(tmp_path / "out", "area", "scene")
    work(tiny(), probabilities=False)(raster, output)
    assert output.classes.read_bytes() == expected.classes.read_bytes()
    assert not output.probabilities.exists()


def test_c91_half_precision_differs_by_little_and_stays_a_probability() -> None:
    from swath.nn.model import SegmentationModel
    from swath.nn.preprocess.channels import Bands, Fill, Preprocess
    from swath.nn.preprocess.normalise import ZScore
    from tests.synthetic import TinyNet

    torch.manual_seed(1)
    net = SegmentationModel(Preprocess(Bands(BANDS), Fill(2), ZScore(2)), TinyNet(2, 2), WATER).eval()
    image = torch.from_numpy(scene((32, 32)))[None]
    whole, half = (predictor(net, "off", torch.device("cpu"), precision=p)(image)["water"] for p in ("fp32", "bf16"))
    assert half.dtype == torch.float32
    assert 0 < float((whole - half).abs().max()) < 0.05
    torch.testing.assert_close(half.sum(1), torch.ones(1, 32, 32))


# --------------------------------------------------------------------------------------------------------------- memory


def sparse(path: Path, height: int, width: int) -> Path:
    """A scene that is nodata but for one corner, and takes no disk."""
    place = grid((height, width))
    with rasterio.open(
        path, "w", driver="GTiff", height=height, width=width, count=2, dtype="float32", nodata=-99999.0, tiled=True,
        crs=place.crs, transform=place.transform, SPARSE_OK=True, BIGTIFF="YES",
    ) as file:  # fmt: skip
        file.descriptions = BANDS
        file.write(scene((256, 256)), window=rasterio.windows.Window(0, 0, 256, 256))
    return path


@pytest.mark.system
def test_c91_peak_memory_does_not_grow_with_the_height(report: tuple[dict[str, Any], Path]) -> None:
    low, high = report[0]["peaks"]
    assert high - low < 50 + CACHE_BYTES / 2**20  # which the low scene does not fill


@pytest.mark.system
def test_c91_large_blocks_are_used_again_instead_of_being_cleared_anew(report: tuple[dict[str, Any], Path]) -> None:
    before, after = report[0]["faults"]
    if after is False:
        pytest.skip("the C library is not glibc")
    assert after < 100
    assert after < before


@pytest.mark.slow
@pytest.mark.parametrize(
    "start", [["-m", "torch.distributed.run", "--nproc-per-node=2"], []], ids=["torchrun", "num_gpus"]
)
def test_c91_the_entry_point_gives_equal_files_under_torchrun(
    script: Script, store: str, tmp_path: Path, start: list[str]
) -> None:
    """One process against two of torchrun's; only one of these has a run."""
    scenes = write_scenes(tmp_path / "scenes", 3, (96, 80))
    run_id = training_run(tmp_path / "run", train=scenes[:1], validation=scenes[1:2])
    given = {"run_id": run_id, "input_path": tmp_path / "scenes", "sliding.window": 32, "sliding.overlap": 8}
    changed = {name.replace(".", "__"): value for name, value in given.items()}
    assert (
        script("inference", "configs/demo/inference.py", **changed, labels_path=None, output_path=tmp_path / "one") == 0
    )
    command = [*start, "code/inference.py", "--labels_path=None", "--trust=tests.synthetic", "--config_path=configs/demo/inference.py",
               f"--output_path={tmp_path / 'two'}", *([] if start else ["--num_gpus=2"])]  # fmt: skip
    env = child_environment(tmp_path / "mlflow.db") | {"MLFLOW_TRACKING_URI": store}
    before = len(mlflow.search_runs(search_all_experiments=True))
    command = [sys.executable, *command, *(f"--{k}={v}" for k, v in given.items())]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(mlflow.search_runs(search_all_experiments=True)) == before + 1
    one, two = (sorted((tmp_path / name).rglob("*.tif")) for name in ("one", "two"))
    assert len(one) == 6
    assert [p.read_bytes() for p in one] == [p.read_bytes() for p in two]


@pytest.mark.slow
def test_c91_peak_memory_is_that_of_a_scene_of_an_eighth_of_the_height(tmp_path: Path) -> None:
    scenes = [sparse(tmp_path / f"{height}.tif", height, 5120) for height in (5120, 40960)]
    low, high = json.loads(run_program(tmp_path, "peaks", tmp_path, *scenes))["peaks"]
    assert high - low < 50


def test_c91_a_scene_without_valid_pixels_costs_no_forward_pass(tmp_path: Path) -> None:
    path = write_image(tmp_path / "scene.tif", np.full((2, 80, 60), np.nan, np.float32), grid((80, 60)), BANDS)
    output, calls = scene_output(tmp_path / "out", "area", "scene"), list[tuple[int, ...]]()
    empty = ScenePredictor(
        bands=BANDS, predict=constant(0.5, calls), tasks={"water": Classification()}, sliding=SlidingConfig(window=32, overlap=8)
    )  # fmt: skip
    assert empty(path, output) == 4800
    assert calls == []
    assert (read_labels(output.classes) == 255).all()
    assert np.isnan(read_image(output.probabilities)).all()


# ---------------------------------------------------------------------------------------------------- scenes to predict


def test_c91_scenes_are_chosen_by_the_values_of_their_columns() -> None:
    rows = {"key": list("abcd"), "date": ["2014", "2015", "", None], "orbit": [1, 2, np.nan, 2]}
    scenes = gpd.GeoDataFrame(rows, geometry=[None] * 4)
    assert list(texts_of(scenes, "date", "only").map(repr)) == ["'2014'", "'2015'", "None", "None"]
    assert list(only_where(scenes, None)["key"]) == list(only_where(scenes, {})["key"]) == list("abcd")
    assert list(only_where(scenes, {"orbit": ("2",)})["key"]) == ["b", "d"]  # 2.0 only because one scene has none
    assert list(only_where(scenes, {"orbit": ("2",), "date": ("2014", "2015")})["key"]) == ["b"]
    assert list(only_where(scenes, {"orbit": ("2",)}).index) == [0, 1]
    for only, said in (
        ({"evnt": ("x",)}, r"^only: no column 'evnt' in the table\. It has: key, date, orbit, geometry\.$"),
        ({"date": ("2014", "2016")}, r"^only: no scene has date 2016\. There are 2014, 2015\.$"),
        ({"date": ("2014",), "orbit": ("2",)}, r"^only: no scene has all of date 2014; orbit 2\."),
    ):
        with pytest.raises(CatalogError, match=said):
            only_where(scenes, only)


@given(st.lists(st.integers(-(2**53), 2**53), min_size=1))
def test_c91_whole_numbers_are_the_same_text_in_every_type(numbers: list[int]) -> None:
    as_integers, as_floats = (pd.DataFrame({"fold": pd.Series(numbers, dtype=kind)}) for kind in ("int64", "float64"))
    expected = [str(number) for number in numbers]
    assert list(texts_of(as_integers, "fold", "only")) == list(texts_of(as_floats, "fold", "only")) == expected
