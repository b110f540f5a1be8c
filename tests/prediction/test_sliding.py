"""Whole scenes: stitched windows equal the whole image, memory stays flat, turned copies agree."""

from __future__ import annotations

import gc
import math
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from swath.errors import ConfigError, RasterError
from swath.figures.pictures import Agreement, panel
from swath.geo.grid import Window
from swath.geo.raster import RasterReader, describe, read_image, read_labels
from swath.geo.windows import blend_weights
from swath.labels import IGNORE
from swath.nn.model import Classification, SegmentationModel, probabilities
from swath.nn.preprocess.channels import Bands, Fill, Preprocess
from swath.nn.preprocess.normalise import ZScore
from swath.nn.tta import Predict, predictor
from swath.prediction.previews import compared_look, quick_look
from swath.prediction.rasters import SceneOutput, band_names, scene_output, tasks_of
from swath.prediction.scenes import ScenePredictor
from swath.prediction.sliding import Accumulator, SlidingConfig, predict_rows
from tests.synthetic import PixelNet, TinyNet, echoes, grid, write_image, write_mask

Blend = Literal["uniform", "linear", "gaussian"]
BLENDS: tuple[Blend, ...] = ("uniform", "linear", "gaussian")
BANDS = ("vh", "vv")
WATER = {"water": Classification()}
CHARTS = {"ice": Classification(classes=("open", "young", "old")), "floe": Classification(classes=("none", "some"))}
CPU = torch.device("cpu")


def model(tasks: dict[str, Classification] = WATER, network: type[nn.Module] = PixelNet) -> SegmentationModel:
    torch.manual_seed(1)
    preprocess = Preprocess(Bands(BANDS), Fill(2), ZScore(2, mean=0.2, std=0.5))
    return SegmentationModel(preprocess, network(2, sum(t.channels for t in tasks.values())), tasks).eval()


def scene(shape: tuple[int, int], seed: int = 0) -> NDArray[np.float32]:
    return echoes((2, *shape), seed).numpy()


def windows_of(image_CHW: NDArray[np.float32]) -> Callable[[Window], NDArray[np.float32]]:
    """Reads windows of an array as `RasterReader.image` reads them of a file: NaN outside."""
    inside = Window(0, 0, *image_CHW.shape[1:])

    def read(window: Window) -> NDArray[np.float32]:
        out = np.full((len(image_CHW), *window.shape), np.nan, np.float32)
        part = window.intersect(inside)
        if not part.is_empty:
            out[(slice(None), *part.relative_to(window).slices)] = image_CHW[(slice(None), *part.slices)]
        return out

    return read


def predict_scene(
    path: Path, output: SceneOutput, bands: tuple[str, ...], predict: Predict, tasks: dict[str, Classification],
    sliding: SlidingConfig, threshold: float | None = None,
) -> int:  # fmt: skip
    work = ScenePredictor(bands=bands, predict=predict, tasks=tasks, sliding=sliding, threshold=threshold)
    return work(path, output)


def stitched(
    image_CHW: NDArray[np.float32], predict: Predict, sliding: SlidingConfig, tasks: dict[str, Classification] = WATER
) -> NDArray[np.float32]:
    """All strips below each other, having checked that they follow one another without gap."""
    shape = image_CHW.shape[1:]
    strips, row = [], 0
    for strip, probability in predict_rows(windows_of(image_CHW), (shape[0], shape[1]), predict, tasks, sliding):
        assert (strip.row, strip.col, strip.width) == (row, 0, shape[1])
        assert probability.shape[1:] == strip.shape
        row += strip.height
        strips.append(probability)
    assert row == shape[0]
    return np.concatenate(strips, axis=1)


def constant(share: float, calls: list[tuple[int, ...]] | None = None) -> Predict:
    """Predicts the same probability everywhere and notes the shapes it was asked for."""

    def predict(image_BCHW: Tensor) -> dict[str, Tensor]:
        if calls is not None:
            calls.append(tuple(image_BCHW.shape))
        water = torch.full((len(image_BCHW), 1, *image_BCHW.shape[-2:]), share)
        return {"water": torch.cat([1 - water, water], dim=1)}

    return predict


@settings(max_examples=50, deadline=None)
@given(
    st.sampled_from(BLENDS), st.integers(1, 90), st.integers(1, 90), st.integers(4, 40), st.data(),
)  # fmt: skip
def test_c91_constant_model_gives_a_constant_map(
    blend: Blend, height: int, width: int, window: int, data: st.DataObject
) -> None:
    overlap = data.draw(st.integers(0, window - 1))
    sliding = SlidingConfig(window=window, overlap=max(overlap, window - 12), blend=blend, batch=5)
    if window - sliding.overlap < 3:
        sliding = SlidingConfig(window=window, overlap=window // 2, blend=blend)
    out = stitched(scene((height, width)), constant(0.3), sliding)
    np.testing.assert_allclose(out[1], 0.3, atol=1e-6)
    np.testing.assert_allclose(out[0], 0.7, atol=1e-6)


@pytest.mark.parametrize("blend", BLENDS)
@pytest.mark.parametrize("overlap", [0, 7, 16, 31])
@pytest.mark.parametrize("shape", [(32, 32), (75, 101), (20, 90), (90, 20), (9, 11)])
def test_c91_a_pixelwise_model_gives_the_whole_image_result(blend: Blend, overlap: int, shape: tuple[int, int]) -> None:
    image = scene(shape)
    image[:, 3:5, 2:8] = np.nan
    image[0, 7, :] = np.nan  # one band only: still a measurement
    net = model(CHARTS)
    if overlap == 31 and max(shape) > 32:
        image = image[:, :40, :40]
    out = stitched(image, predictor(net, "off", CPU), SlidingConfig(window=32, overlap=overlap, blend=blend), CHARTS)
    with torch.inference_mode():
        whole = torch.cat(list(probabilities(net(torch.from_numpy(image)[None])).values()), dim=1)[0].numpy()
    gap = np.isnan(image).all(axis=0)
    assert np.isnan(out[:, gap]).all()
    np.testing.assert_allclose(out[:, ~gap], whole[:, ~gap], atol=1e-6)


@pytest.mark.parametrize("batch", [1, 3, None])
def test_c91_the_number_of_windows_per_forward_pass_does_not_matter(batch: int | None) -> None:
    image, net = scene((70, 83)), model(network=TinyNet)
    found = [
        stitched(image, predictor(net, "off", CPU), SlidingConfig(window=32, overlap=8, batch=b)) for b in (2, batch)
    ]
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)


@pytest.mark.parametrize("blend", BLENDS)
def test_c91_overlapping_windows_are_averaged_by_their_weights(blend: Blend) -> None:
    image, net, size = scene((48, 60)), model(network=TinyNet), 32
    predict = predictor(net, "off", CPU)
    total, weight = np.zeros((2, 48, 60)), np.zeros((48, 60))
    for row in (0, 16):
        for col in (0, 16, 28):
            part = torch.from_numpy(image[None, :, row : row + size, col : col + size])
            w = blend_weights((size, size), blend)
            total[:, row : row + size, col : col + size] += predict(part)["water"][0].numpy() * w
            weight[row : row + size, col : col + size] += w
    out = stitched(image, predict, SlidingConfig(window=size, overlap=16, blend=blend))
    np.testing.assert_allclose(out, total / weight, atol=1e-6)


@pytest.mark.parametrize("blend", BLENDS)
@pytest.mark.parametrize("size", [1, 2, 3, 8, 33, 512])
def test_c91_weights_are_above_0_and_symmetric(blend: Blend, size: int) -> None:
    weights = blend_weights((size, size), blend)
    assert (weights > 0).all()
    np.testing.assert_allclose(weights, weights[::-1, ::-1], rtol=1e-6)
    np.testing.assert_allclose(weights, weights.T, rtol=1e-6)


def test_c91_a_row_that_no_window_reached_is_missing_not_0() -> None:
    buffer = Accumulator(width=6, rows=4, classes=2)
    buffer.add(torch.full((2, 4, 4), 0.5), torch.ones(4, 4), Window(0, 0, 4, 4), height=10)
    out = buffer.flush(4)
    assert (out[:, :, :4] == 0.5).all()
    assert out[:, :, 4:].isnan().all()
    assert buffer.top == 4
    assert not buffer.weight.any()


def test_c91_windows_without_a_valid_pixel_are_not_computed() -> None:
    image = scene((64, 96))
    image[:, :32, 32:] = np.nan
    calls: list[tuple[int, ...]] = []
    sliding = SlidingConfig(window=32, overlap=0, batch=1)
    out = stitched(image, constant(0.5, calls), sliding)
    assert calls == [(1, 2, 32, 32)] * 4
    np.testing.assert_array_equal(np.isnan(out[0]), np.isnan(image[0]))
    calls.clear()
    assert np.isnan(stitched(np.full_like(image, np.nan), constant(0.5, calls), sliding)).all()
    assert calls == []


@pytest.mark.parametrize("blend", BLENDS)
def test_c91_missing_pixels_are_missing_in_the_map_and_no_others(blend: Blend) -> None:
    image = scene((70, 64))
    rng = np.random.default_rng(0)
    image[:, rng.random((70, 64)) < 0.3] = np.nan
    image[0, rng.random((70, 64)) < 0.3] = np.nan
    out = stitched(image, predictor(model(), "off", CPU), SlidingConfig(window=32, overlap=12, blend=blend))
    np.testing.assert_array_equal(np.isnan(out).any(axis=0), np.isnan(image).all(axis=0))


@pytest.mark.parametrize("overlap", [64, 80, -1])
def test_c91_an_overlap_that_leaves_no_step_is_refused_by_name(overlap: int) -> None:
    with pytest.raises(ConfigError, match=r"overlap"):
        list(
            predict_rows(
                windows_of(scene((70, 70))), (70, 70), constant(0.5), WATER, SlidingConfig(window=64, overlap=overlap)
            )
        )


def peak_bytes(height: int) -> int:
    line = scene((1, 512))

    def read(window: Window) -> NDArray[np.float32]:
        return np.broadcast_to(line, (2, window.height, 512)).copy()

    sliding = SlidingConfig(window=256, overlap=64, batch=2)
    tracemalloc.start()
    rows = 0
    for strip, probability in predict_rows(read, (height, 512), constant(0.5), WATER, sliding):
        rows += strip.height
        assert probability.shape == (2, strip.height, 512)
        gc.collect()  # what waits to be collected is no growth, and how much of it waits depends on what is imported
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows == height
    return peak


@pytest.mark.system
def test_c91_memory_does_not_grow_with_the_height_of_a_scene() -> None:
    peak_bytes(1000)
    # a strip more or fewer waits for its turn by chance; what grew with the height would be four times as much
    assert peak_bytes(20_000) < 2 * peak_bytes(5_000)


@pytest.fixture
def raster(tmp_path: Path) -> tuple[Path, NDArray[np.float32]]:
    """A scene of 90 x 70 px with a gap, its bands in another order than the model's."""
    image = scene((90, 70), seed=3)
    image[:, :, -5:] = np.nan
    return write_image(tmp_path / "area" / "scene.tif", image[::-1], grid((90, 70)), BANDS[::-1]), image


def test_c93_a_predicted_scene_has_classes_and_probabilities_on_its_own_grid(
    raster: tuple[Path, NDArray[np.float32]], tmp_path: Path
) -> None:
    path, image = raster
    net, output = model(), scene_output(tmp_path / "out", "area", "scene")
    assert not output.classes.exists()
    assert (
        predict_scene(path, output, BANDS, predictor(net, "off", CPU), WATER, SlidingConfig(window=32, overlap=8))
        == 6300
    )
    assert output.classes.is_file()
    hard, soft = describe(output.classes), describe(output.probabilities)
    for info in (hard, soft):
        assert info.grid.difference(describe(path).grid) is None
        assert info.grid.crs == describe(path).grid.crs
        assert info.grid.transform == describe(path).grid.transform
        assert info.bands == ("water",)
    assert (hard.dtype, hard.nodata) == ("uint8", 255)
    assert soft.dtype == "float32"
    assert soft.nodata is not None
    assert math.isnan(soft.nodata)
    classes, p = read_labels(output.classes)[0], read_image(output.probabilities)[0]
    with torch.inference_mode():
        expected = probabilities(net(torch.from_numpy(image)[None]))["water"][0, 1].numpy()
    np.testing.assert_allclose(p[:, :-5], expected[:, :-5], atol=1e-6)
    assert np.isnan(p[:, -5:]).all()
    assert (classes[:, -5:] == 255).all()
    assert p[:, :-5].min() >= 0
    assert p[:, :-5].max() <= 1
    clear = np.abs(p - 0.5) > 1e-6
    clear[:, -5:] = False
    np.testing.assert_array_equal(classes[clear], (p > 0.5)[clear])
    assert sorted(p.name for p in (tmp_path / "out").rglob("*.*")) == ["scene.tif", "scene.tif"]


def test_c93_several_tasks_have_a_class_band_each_and_a_probability_per_class(
    raster: tuple[Path, NDArray[np.float32]], tmp_path: Path
) -> None:
    path, _ = raster
    output = scene_output(tmp_path / "out", "area", "scene")
    predict_scene(
        path, output, BANDS, predictor(model(CHARTS), "off", CPU), CHARTS, SlidingConfig(window=32, overlap=8)
    )
    assert describe(output.classes).bands == ("ice", "floe")
    assert describe(output.probabilities).bands == ("ice:open", "ice:young", "ice:old", "floe")
    classes, p = read_labels(output.classes)[..., :-5], read_image(output.probabilities)[..., :-5]
    np.testing.assert_allclose(p[:3].sum(0), 1, atol=1e-5)
    np.testing.assert_array_equal(classes[0], p[:3].argmax(0))
    np.testing.assert_array_equal(classes[1], p[3] > 0.5)


@pytest.mark.parametrize("threshold", [None, 0.3, 0.5, 0.7, 0.0, 1.0])
def test_c93_a_threshold_decides_tasks_of_two_classes_and_counts_itself(
    raster: tuple[Path, NDArray[np.float32]], tmp_path: Path, threshold: float | None
) -> None:
    output = scene_output(tmp_path / "out", "area", "scene")
    predict = predictor(model(CHARTS), "off", CPU)
    predict_scene(raster[0], output, BANDS, predict, CHARTS, SlidingConfig(window=32, overlap=8), threshold)
    classes, p = read_labels(output.classes)[..., :-5], read_image(output.probabilities)[..., :-5]
    np.testing.assert_array_equal(classes[1], p[3] >= np.float32(threshold if threshold is not None else 0.5))
    np.testing.assert_array_equal(classes[0], p[:3].argmax(0))


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
def test_c93_a_pixel_at_the_threshold_is_in(
    raster: tuple[Path, NDArray[np.float32]], tmp_path: Path, share: float
) -> None:
    output, sliding = (
        scene_output(tmp_path / "out", "area", "scene"),
        SlidingConfig(window=32, overlap=0, blend="uniform"),
    )
    predict_scene(raster[0], output, BANDS, constant(share), WATER, sliding, share)
    assert (read_labels(output.classes)[0, :, :-5] == 1).all()
    predict_scene(raster[0], output, BANDS, constant(share), WATER, sliding)
    assert (read_labels(output.classes)[0, :, :-5] == (share >= 0.5)).all()


@pytest.mark.parametrize(("threshold", "tasks"), [(1.2, WATER), (-0.1, WATER), (0.4, {"ice": CHARTS["ice"]})])
def test_c93_a_threshold_without_sense_is_refused(
    raster: tuple[Path, NDArray[np.float32]], tmp_path: Path, threshold: float, tasks: dict[str, Classification]
) -> None:
    output = scene_output(tmp_path / "out", "area", "scene")
    with pytest.raises(ConfigError, match=rf"threshold={threshold}: "):
        predict_scene(raster[0], output, BANDS, constant(0.5), tasks, SlidingConfig(window=32), threshold)
    assert not output.classes.exists()


@pytest.mark.parametrize("blend", BLENDS)
def test_c93_blended_probabilities_stay_between_0_and_1(
    raster: tuple[Path, NDArray[np.float32]], tmp_path: Path, blend: Blend
) -> None:
    output = scene_output(tmp_path / "out", "area", "scene")
    sliding = SlidingConfig(window=32, overlap=25, blend=blend)
    for share in (0.0, 1.0, 1 - 2**-24):
        predict_scene(raster[0], output, BANDS, constant(share), WATER, sliding)
        p = read_image(output.probabilities)[0, :, :-5]
        assert 0 <= p.min() <= p.max() <= 1


def test_c93_band_names_say_which_tasks_a_probability_raster_is_of() -> None:
    assert band_names(CHARTS) == ["ice:open", "ice:young", "ice:old", "floe"]
    found = tasks_of(band_names(CHARTS))
    assert {task: t.channels for task, t in found.items()} == {"ice": 3, "floe": 2}
    assert found["ice"].classes == CHARTS["ice"].classes
    for wrong in (["water:no", "water:yes"], ["ice:a", "floe", "ice:b", "ice:c"]):
        with pytest.raises(RasterError, match="not the probabilities of a model"):
            tasks_of(wrong)


def test_c47_a_scene_without_a_band_of_the_model_is_refused_by_name(tmp_path: Path) -> None:
    path = write_image(tmp_path / "scene.tif", scene((16, 16)), grid((16, 16)), ("vh", "hh"))
    output = scene_output(tmp_path / "out", "area", "scene")
    with pytest.raises(RasterError, match=r"no band vv.*vh, hh"):
        predict_scene(path, output, BANDS, constant(0.5), WATER, SlidingConfig(window=16, overlap=0))
    assert not output.classes.exists()


def test_c91_a_prediction_that_fails_leaves_no_file(raster: tuple[Path, NDArray[np.float32]], tmp_path: Path) -> None:
    calls: list[tuple[int, ...]] = []

    def fails(image: Tensor) -> dict[str, Tensor]:
        if len(calls) == 2:
            raise RuntimeError("out of memory")
        return constant(0.5, calls)(image)

    output = scene_output(tmp_path / "out", "area", "scene")
    with pytest.raises(RuntimeError, match="out of memory"):
        predict_scene(raster[0], output, BANDS, fails, WATER, SlidingConfig(window=32, overlap=0, batch=1))
    assert list((tmp_path / "out").rglob("*.tif*")) == []


@pytest.mark.parametrize("side", [20, 45, 900])
def test_c87_quick_look_is_thinned_to_its_side_and_outlines_the_foreground(
    raster: tuple[Path, NDArray[np.float32]], tmp_path: Path, side: int
) -> None:
    mask = np.zeros((90, 70), np.uint8)
    mask[20:60, 20:50] = 1
    classes = write_mask(tmp_path / "classes.tif", mask, grid((90, 70)))
    picture = quick_look({"image": raster[0]}, classes, side)
    assert max(picture.shape[:2]) <= side
    assert picture.dtype == np.uint8
    red = (picture == (235, 30, 40)).all(-1)
    assert red.any()
    assert not (quick_look({"image": raster[0]}, None, side) == (235, 30, 40)).all(-1).any()
    with RasterReader(classes) as reader:
        step = math.ceil(90 / side) if side < 90 else 1
        assert (reader.labels()[0, ::step, ::step][red] == 1).all()


@pytest.mark.parametrize("side", [20, 45, 900])
def test_c87_c101_a_compared_look_scores_all_pixels_however_few_are_shown(
    raster: tuple[Path, NDArray[np.float32]], tmp_path: Path, side: int
) -> None:
    place, rng = grid((90, 70)), np.random.default_rng(0)
    truth, guess = rng.integers(0, 2, (2, 90, 70)).astype(np.uint8)
    truth[:10] = IGNORE
    files = {"classes": guess, "labels": truth}
    paths = {name: write_mask(tmp_path / f"{name}.tif", array, place) for name, array in files.items()}
    out = compared_look({"image": raster[0]}, paths["classes"], paths["labels"], WATER, side)
    step = max(1, math.ceil(90 / side))
    with RasterReader(raster[0]) as reader:
        thin = reader.image()[:, ::step, ::step]
    every = slice(None, None, step)
    expected = panel(
        thin, truth[every, every], guess[every, every], WATER["water"].classes, raster[0].stem,
        agreement=Agreement.of(truth, guess),
    )  # fmt: skip
    np.testing.assert_array_equal(out, expected)


def test_c87_rasters_of_different_sizes_are_not_drawn_beside_each_other(
    raster: tuple[Path, NDArray[np.float32]], tmp_path: Path
) -> None:
    classes = write_mask(tmp_path / "classes.tif", np.zeros((90, 70), np.uint8), grid((90, 70)))
    finer = write_mask(tmp_path / "finer.tif", np.zeros((180, 140), np.uint8), grid((180, 140)))
    with pytest.raises(RasterError, match=r"finer\.tif: \(180, 140\) pixels"):
        compared_look({"image": raster[0]}, classes, finer, WATER)
