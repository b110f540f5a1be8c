"""Pictures: what is drawn where, what is left out, and that memory stays flat."""

from __future__ import annotations

import gc
import math
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, jaccard_score

from swath.figures.charts import Bar, bars_figure, confusion_figure
from swath.figures.pictures import (
    CAPTION,
    GAP,
    LETTER,
    PALETTE,
    SQUARE,
    Agreement,
    blended,
    colors,
    enlarged,
    legend,
    palette_of,
    panel,
    stacked,
    stretch,
)
from swath.labels import IGNORE
from tests.conftest import ROOT, child_environment
from tests.synthetic import blobs, echoes, labels

WHITE = (255, 255, 255)
MEGABYTE = 2**20


def image(shape: tuple[int, int] = (40, 50), bands: int = 3, seed: int = 0) -> np.ndarray:
    return echoes((bands, *shape), seed).numpy()


def is_color(picture_HWC: np.ndarray, color: tuple[int, ...]) -> np.ndarray:
    return (picture_HWC == np.array(color)).all(-1)


@pytest.mark.parametrize("bands", [1, 2, 3, 5])
def test_c87_any_number_of_bands_becomes_rgb_with_missing_pixels_white(bands: int) -> None:
    picture = image(bands=bands)
    picture[:, 5:9] = np.nan
    out = stretch(picture)
    assert out.shape == (40, 50, 3)
    assert out.dtype == np.uint8
    np.testing.assert_array_equal(is_color(out, WHITE), np.isnan(picture[0]))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 999), st.booleans())
def test_c87_stretch_keeps_the_order_of_values(seed: int, signed: bool) -> None:
    band = np.random.default_rng(seed).normal(0, 5, (12, 12)).astype(np.float32)
    band = band if signed else 10 ** (band / 10)
    gray = stretch(band[None])[..., 0].ravel().astype(int)
    assert (np.diff(gray[band.ravel().argsort()]) >= 0).all()
    assert gray.max() - gray.min() > 200


@pytest.mark.parametrize("value", [0.0, -3.0, 1e-9, 7.0, np.nan, np.inf])
def test_c87_images_of_one_value_are_drawn_without_warning(value: float, recwarn: pytest.WarningsRecorder) -> None:
    out = stretch(np.full((2, 6, 7), value, np.float32))
    assert len(np.unique(out)) == 1
    assert not list(recwarn)


def test_c78_unlabelled_pixels_are_white_and_classes_have_their_colour() -> None:
    classes = np.array([[0, 1, 7], [8, IGNORE, 254]], np.uint8)
    out = colors(classes)
    for place, k in np.ndenumerate(classes):
        assert tuple(out[place]) == (WHITE if k == IGNORE else tuple(PALETTE[k % 8]))
    assert len({tuple(c) for c in PALETTE} | {WHITE}) == 9


def test_c78_blended_colours_the_foreground_and_leaves_the_rest() -> None:
    classes = np.array([[0, 1, 2, IGNORE]], np.uint8)
    picture = np.full((1, 4, 3), 100, np.uint8)
    out = blended(picture, classes, alpha=0.4)[0]
    np.testing.assert_array_equal(out[[0, 3]], 100)
    for place in (1, 2):
        np.testing.assert_array_equal(out[place], np.rint(0.6 * 100 + 0.4 * PALETTE[place].astype(float)))
    np.testing.assert_array_equal(picture, 100)


CLASSES = ("land", "water")


def cells(picture: np.ndarray, shape: tuple[int, int]) -> list[np.ndarray]:
    """The five pictures of a panel, without titles and legend, in the size of what is drawn."""
    factor = factor_of(shape)
    height, width = factor * shape[0], factor * shape[1]
    starts = [number * (width + GAP) for number in range(5)]
    return [picture[CAPTION : CAPTION + height, start : start + width][::factor, ::factor] for start in starts]


def factor_of(shape: tuple[int, int]) -> int:
    """How many times a panel enlarges pictures: until the longest title fits."""
    return math.ceil(len("image + prediction") * LETTER / shape[1])


def foot(picture: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """What stands below the pictures of a panel."""
    return picture[CAPTION + factor_of(shape) * shape[0] :]


@pytest.mark.parametrize("shape", [(40, 50), (16, 16), (128, 64), (64, 21)])
def test_c87_a_panel_has_image_prediction_and_label_alone_and_on_the_image(shape: tuple[int, int]) -> None:
    picture, truth, guess = image(shape), labels(shape, 2).numpy(), blobs(shape, seed=1)
    out = panel(picture, truth, guess, CLASSES, caption="area/scene_with_a_long_name tile_0_0")
    assert out.dtype == np.uint8
    assert out.shape[1] == 5 * (factor_of(shape) * shape[1] + GAP)
    drawn = cells(out, shape)
    plain = stretch(picture)
    expected = [plain, blended(plain, guess), colors(guess), blended(plain, truth), colors(truth)]
    for found, wanted in zip(drawn, expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("shape", [(3, 5), (40, 126), (9, 125), (2, 300)])
def test_c87_small_pictures_are_enlarged_until_the_titles_fit(shape: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    factor = factor_of(shape)
    out = enlarged(picture)
    assert out.shape[1] >= 18 * LETTER
    np.testing.assert_array_equal(out, np.kron(picture, np.ones((factor, factor, 1), np.uint8)))


@pytest.mark.parametrize("width", [60, 130, 500, 2000])
@pytest.mark.parametrize("count", [2, 7, 11])
def test_c87_the_legend_has_a_square_of_each_class_and_of_no_label(count: int, width: int) -> None:
    palette = palette_of(count)
    names = [f"class {k}" for k in range(count)]
    out = legend("IoU 0.500", names, palette, width)
    assert out.shape[1] == width
    assert out.shape[0] % CAPTION == 0
    for color in palette[:count]:
        assert is_color(out, tuple(color)).sum() >= (SQUARE - 2) ** 2
    assert len({tuple(c) for c in palette[:count]}) == count
    assert (legend("IoU 0.501", names, palette, width) != out).any()
    other = legend("IoU 0.500", [*names[:-1], "another"], palette, width)
    assert other.shape != out.shape or (other != out).any()


def test_c87_the_score_below_a_panel_is_of_labelled_pixels() -> None:
    shape = (40, 200)
    truth, guess = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    truth[:, :20], guess[:, :20] = 1, 1
    one = foot(panel(image(shape), truth, guess, CLASSES), shape)
    truth[:, 150:], guess[:, 150:] = IGNORE, 1  # a false alarm where nobody knows
    np.testing.assert_array_equal(foot(panel(image(shape), truth, guess, CLASSES), shape), one)
    guess[:, 100:120] = 1
    assert (foot(panel(image(shape), truth, guess, CLASSES), shape) != one).any()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 9999), st.integers(2, 5), st.integers(1, 11))
def test_c87_the_score_is_that_of_sklearn_and_adds_up_over_parts(seed: int, classes: int, cut: int) -> None:
    rng = np.random.default_rng(seed)
    truth, guess = rng.integers(0, classes, (2, 12, 9)).astype(np.uint8)
    truth[rng.random(truth.shape) < 0.2] = IGNORE
    whole = Agreement.of(truth, guess)
    assert Agreement.of(truth[:cut], guess[:cut]).plus(Agreement.of(truth[cut:], guess[cut:])) == whole
    valid = truth != IGNORE
    iou = jaccard_score(truth[valid] > 0, guess[valid] > 0, zero_division=0.0)
    right = accuracy_score(truth[valid], guess[valid])
    expected = f"IoU {iou:.3f}" + (f"  right {right:.0%}" if classes > 2 else "")
    assert whole.text(classes) == expected
    gaps = np.where(guess == 0, IGNORE, guess)
    assert Agreement.of(truth, gaps) == whole  # no prediction counts as class 0


def test_c87_without_any_foreground_no_score_is_claimed() -> None:
    nothing = np.zeros((3, 3), np.uint8)
    assert Agreement.of(nothing, nothing).text(2) == "no foreground"


def test_c78_a_panel_of_an_unlabelled_tile_is_drawn() -> None:
    shape = (30, 90)
    out = panel(np.full((2, *shape), np.nan, np.float32), np.full(shape, IGNORE, np.uint8), blobs(shape), CLASSES)
    assert is_color(cells(out, shape)[4], WHITE).all()


def test_c87_panels_of_several_widths_are_stacked() -> None:
    rows = [np.zeros((10, 30, 3), np.uint8), np.zeros((20, 50, 3), np.uint8)]
    out = stacked(rows)
    assert out.shape == (10 + 20 + 2 * GAP, 50, 3)
    assert (out[:10, 30:] == 255).all()
    assert not out[:10, :30].any()


def test_c87_a_confusion_matrix_is_darker_where_more_of_a_class_goes() -> None:
    right = confusion_figure(np.array([[90, 10], [0, 50]]), ("land", "water"), "validation")
    wrong = confusion_figure(np.array([[10, 90], [50, 0]]), ("land", "water"), "validation")
    empty = confusion_figure(np.zeros((2, 2), np.int64), ("land", "water"), "validation")
    assert right.shape == wrong.shape == empty.shape
    assert right.dtype == np.uint8
    assert right.shape[2] == 3
    dark = [(p.astype(int).sum(-1) < 300).mean() for p in (right, empty)]
    assert dark[0] > dark[1] + 0.1
    assert (right != wrong).any()


def blue(picture: np.ndarray) -> np.ndarray:
    """Where a picture shows the bars."""
    r, g, b = np.moveaxis(picture.astype(int), -1, 0)
    return (b > 180) & (r < 130) & (g < 180)


def test_c82_bars_are_as_long_as_their_values_and_intervals_lie_on_them() -> None:
    nan = float("nan")
    bars = [
        Bar("low", 0.25, nan, nan, "9 tiles"),
        Bar("high", 0.75, 0.6, 0.9, "9 tiles"),
        Bar("none", nan, nan, nan, ""),
    ]
    picture = bars_figure({"area": bars}, "water")
    assert picture.dtype == np.uint8
    lengths = blue(picture).sum(1)
    short, long = np.unique(lengths[lengths > 20])[[0, -1]]
    assert long / short == pytest.approx(3, rel=0.05)
    plain = bars_figure({"area": [bars[0], bars[1]._replace(low=nan, high=nan), bars[2]]}, "water")
    assert plain.shape == picture.shape
    dark = [(p.astype(int).sum(-1) < 150).sum() for p in (picture, plain)]
    assert dark[0] > dark[1] + 50


def test_c82_of_many_bars_the_lowest_are_shown() -> None:
    bars = [Bar(f"scene {i}", 0.9 if i % 2 else 0.3, float("nan"), float("nan"), "") for i in range(60)]
    few = bars_figure({"scene": bars}, "water", most=30)
    only_low = bars_figure({"scene": bars[::2]}, "water", most=30)
    assert blue(few).sum() == pytest.approx(blue(only_low).sum(), rel=0.02)


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def growth(draw: Callable[[int], object], count: int) -> int:
    """Bytes that the process has grown by over `count` drawings, after a warm-up of 20."""
    for i in range(20):
        draw(i)
    before = resident()
    for i in range(count):
        draw(i)
    gc.collect()
    return resident() - before


@pytest.mark.system
@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="needs Linux's /proc")
def test_c87_200_panels_leave_memory_flat() -> None:
    shape = (256, 256)
    picture, truth, guess = image(shape), labels(shape, 2).numpy(), blobs(shape)
    assert growth(lambda i: panel(picture, truth, guess, CLASSES, f"tile {i}"), 200) < 30 * MEGABYTE


@pytest.mark.system
@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="needs Linux's /proc")
def test_c87_confusion_figures_leave_memory_flat() -> None:
    """In a process of its own: what other tests leave on the heap is not the figures'."""
    program = (
        "import numpy as np\nfrom swath.figures.charts import confusion_figure\nfrom tests.figures.test_pictures import growth\n"
        "matrix = np.array([[90, 10], [0, 50]])\n"
        "print(growth(lambda i: confusion_figure(matrix + i, ('land', 'water'), f'epoch {i}'), 20))\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command, env=child_environment(Path("unused.db")), capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert int(done.stdout) < 10 * MEGABYTE / 3


def test_c87_steps_and_many_classes_have_a_colour_each_and_a_share_of_right_ones() -> None:
    assert palette_of(8) is PALETTE
    for classes, ordered in ((11, False), (11, True), (7, True)):
        found = palette_of(classes, ordered)
        assert len({tuple(color) for color in found}) == classes
        brightness = found.astype(float) @ (0.299, 0.587, 0.114)
        assert (np.diff(brightness) > 0).all()  # more is lighter
        np.testing.assert_array_equal(colors(np.arange(classes), found), found)
    shape = (40, 200)
    truth = np.full(shape, 3, np.uint8)
    names = ("none", "new", "young", "old", "ancient")
    one, other = (foot(panel(image(shape), truth, np.full(shape, k), names), shape) for k in (3, 4))
    assert (one != other).any()  # the IoU of the foreground alone is 1 for both
