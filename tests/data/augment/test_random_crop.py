"""Random crops: what torchvision and mmsegmentation draw, copied or resampled, labels with their image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as TF
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import RandomResizedCrop as Torchvision

from swath.data.augment.random_crop import RandomCrop, RandomResizedCrop, class_dominance
from swath.errors import ConfigError
from swath.labels import IGNORE


def draw(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbered(batch: int, height: int, width: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Each pixel tells its place: bands are row and column, labels a number of both."""
    rows, cols = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    image = torch.stack([rows, cols]).float().expand(batch, 2, height, width)
    return image, {"place": (rows * 1000 + cols).expand(batch, height, width)}


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 24), st.integers(0, 99))
def test_c49_crops_are_slices_padded_with_nan_and_ignore(height: int, width: int, size: int, seed: int) -> None:
    image, targets = numbered(3, height, width)
    cut, labels = RandomCrop(size=size)(image, targets, draw(seed))
    assert cut.shape == (3, 2, size, size)
    inside = (min(height, size), min(width, size))
    for sample, label in zip(cut, labels["place"], strict=True):
        row, col = (int(v) for v in sample[:, 0, 0])
        assert 0 <= row <= max(0, height - size)
        assert 0 <= col <= max(0, width - size)
        part = image[0, :, row : row + size, col : col + size]
        assert torch.equal(sample[:, : inside[0], : inside[1]], part)
        assert torch.equal(label[: inside[0], : inside[1]], targets["place"][0, row : row + size, col : col + size])
        outside = torch.ones(size, size, dtype=torch.bool)
        outside[: inside[0], : inside[1]] = False
        assert torch.equal(torch.isnan(sample[0]), outside)
        assert (label[outside] == IGNORE).all()


def test_c49_every_place_is_equally_likely() -> None:
    image, _ = numbered(6000, 7, 6)
    cut, _ = RandomCrop(size=4)(image, {}, draw(0))
    corners = cut[:, :, 0, 0].long()
    counts = torch.bincount(corners[:, 0] * 3 + corners[:, 1], minlength=12)
    assert len(counts) == 12
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3


@pytest.mark.parametrize(("height", "width"), [(40, 40), (30, 50)])
def test_c49_random_resize_enlarges_by_the_drawn_factor_before_it_crops(height: int, width: int) -> None:
    image, targets = numbered(400, height, width)
    cut, labels = RandomCrop(size=20, zoom=(1.0, 1.5))(image, targets, draw(1))
    assert cut.shape == (400, 2, 20, 20)
    assert not torch.isnan(cut).any()
    # row and column rise by 1 / zoom per pixel, except where the edge of the tile is repeated
    steps = (cut[:, 0, 12, 10] - cut[:, 0, 8, 10]) / 4
    zoom = 1 / steps
    assert stats.kstest((zoom.numpy() - 1) / 0.5, "uniform").pvalue > 1e-3
    # labels are those of the nearest pixel
    rows, cols = labels["place"] // 1000, labels["place"] % 1000
    assert (rows - cut[:, 0]).abs().max() <= 0.5 + 1e-3
    assert (cols - cut[:, 1]).abs().max() <= 0.5 + 1e-3


def test_c49_resizing_by_one_copies() -> None:
    image, targets = numbered(8, 16, 20)
    cut, labels = RandomCrop(size=9, zoom=(1.0, 1.0000001))(image, targets, draw(3))
    plain, same = RandomCrop(size=9)(image, targets, draw(3))
    torch.testing.assert_close(cut, plain, atol=1e-4, rtol=0)
    assert torch.equal(labels["place"], same["place"])


def test_c49_shrunk_tiles_are_padded_with_nan_and_ignore() -> None:
    image, targets = numbered(4, 16, 16)
    cut, labels = RandomCrop(size=16, zoom=(0.5, 0.5))(image, targets, draw(0))
    gap = torch.isnan(cut[:, 0])
    assert int((~gap).sum()) == 4 * 8 * 8
    assert torch.equal(labels["place"] == IGNORE, gap)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([0, 1, 2, 5, IGNORE]), min_size=1, max_size=40))
def test_c51_dominance_is_the_share_of_the_commonest_class(values: list[int]) -> None:
    counted = [values.count(v) for v in set(values) if v != IGNORE]
    expected = max(counted) / sum(counted) if counted else 1.0
    assert class_dominance(np.array([values], np.uint8)) == pytest.approx(expected)


def coast(batch: int) -> dict[str, Tensor]:
    """Labels that are one class except for a narrow second one in the middle, with some unlabelled."""
    labels = torch.zeros(batch, 40, 40, dtype=torch.uint8)
    labels[:, 16:24, 16:24] = 1
    labels[:, :3] = IGNORE
    return {"other": torch.zeros_like(labels), "ice": labels}


@pytest.mark.parametrize("zoom", [(1.0, 1.0), (1.0, 1.4)])
def test_c51_no_class_dominates_a_crop(zoom: tuple[float, float]) -> None:
    targets = coast(200)
    image = torch.rand(200, 1, 40, 40, generator=draw(0))
    _, free = RandomCrop(size=12, zoom=zoom)(image, targets, draw(1))
    strict = RandomCrop(size=12, zoom=zoom, cat_max_ratio=0.9, tries=200, task="ice")
    _, kept = strict(image, targets, draw(1))
    slack = 0.0 if zoom == (1.0, 1.0) else 0.03  # judged on the tile's own pixels before resampling
    assert all(class_dominance(label.numpy()) < 0.9 + slack for label in kept["ice"])
    assert np.mean([class_dominance(label.numpy()) >= 0.9 for label in free["ice"]]) > 0.3


def test_c51_without_a_place_that_fits_the_least_dominated_of_the_tries_is_taken() -> None:
    targets, image = coast(60), torch.zeros(60, 1, 40, 40)
    one, ten = (
        RandomCrop(size=12, cat_max_ratio=0.01, tries=tries, task="ice")(image, targets, draw(2))[1]["ice"]
        for tries in (1, 10)
    )
    dominance = [np.mean([class_dominance(label.numpy()) for label in labels]) for labels in (one, ten)]
    assert dominance[1] < dominance[0] - 0.05


def test_c51_first_task_by_default_and_a_wrong_one_is_named() -> None:
    targets, image = coast(50), torch.zeros(50, 1, 40, 40)
    crop = RandomCrop(size=12, cat_max_ratio=0.9)
    first = crop(image, {"ice": targets["ice"]}, draw(0))[1]["ice"]
    named = RandomCrop(size=12, cat_max_ratio=0.9, task="ice")(image, targets, draw(0))[1]["ice"]
    assert torch.equal(first, named)
    assert crop(image, {}, draw(0))[0].shape == (50, 1, 12, 12)
    with pytest.raises(ConfigError, match=r"no such task\. There are: other, ice"):
        RandomCrop(size=12, cat_max_ratio=0.9, task="sic")(image, targets, draw(0))


@pytest.mark.parametrize(
    "wrong", [{"size": 0}, {"zoom": (1.5, 1.0)}, {"zoom": (0.0, 1.0)}, {"cat_max_ratio": 0.0}, {"tries": 0}]
)
def test_c51_crops_that_cannot_be_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        RandomCrop(**({"size": 8} | wrong))  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [{"size": 0}, {"scale": (0.5, 1.2)}, {"scale": (0.9, 0.5)}, {"ratio": (0.0, 1.0)}])
def test_c49_boxes_that_cannot_be_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        RandomResizedCrop(**({"size": 8} | wrong))  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(512, 512), (300, 400)])
@pytest.mark.parametrize(("scale", "ratio"), [((0.7, 1.0), (0.9, 1.1)), ((0.08, 1.0), (3 / 4, 4 / 3))])
def test_c49_boxes_are_distributed_as_torchvisions(
    shape: tuple[int, int], scale: tuple[float, float], ratio: tuple[float, float]
) -> None:
    mine = RandomResizedCrop(size=48, scale=scale, ratio=ratio).boxes(1500, shape, draw(0)).numpy()
    torch.manual_seed(1)
    image = torch.empty(1, *shape)
    theirs = np.array([Torchvision.get_params(image, list(scale), list(ratio)) for _ in range(1500)])
    assert (mine[:, :2] >= 0).all()
    assert (mine[:, :2] + mine[:, 2:] <= shape).all()
    for name, value in (
        ("row", lambda b: b[:, 0]), ("col", lambda b: b[:, 1]), ("area", lambda b: b[:, 2] * b[:, 3]),
        ("ratio", lambda b: b[:, 3] / b[:, 2]),
    ):  # fmt: skip
        assert stats.ks_2samp(value(mine), value(theirs)).pvalue > 1e-3, name


@pytest.mark.parametrize("shape", [(100, 400), (400, 100), (64, 64)])
def test_c49_a_box_that_never_fits_is_the_largest_in_the_middle_as_torchvisions(shape: tuple[int, int]) -> None:
    ratio = (0.9, 1.1) if shape != (64, 64) else (2.0, 3.0)
    mine = RandomResizedCrop(size=8, scale=(1.0, 1.0), ratio=ratio).boxes(3, shape, draw(0))
    theirs = Torchvision.get_params(torch.empty(1, *shape), [1.0, 1.0], list(ratio))
    assert mine.tolist() == [list(theirs)] * 3


def test_c49_resized_boxes_equal_torchvisions_away_from_their_edge() -> None:
    image = torch.rand(6, 2, 60, 80, generator=draw(0))
    labels = torch.randint(0, 5, (6, 60, 80), generator=draw(1)).to(torch.uint8)
    transform = RandomResizedCrop(size=40)
    boxes = transform.boxes(6, (60, 80), draw(2)).tolist()
    cut, targets = transform(image, {"water": labels}, draw(2))
    for i, place in enumerate(boxes):
        theirs = TF.resized_crop(image[i], *place, [40, 40], InterpolationMode.BILINEAR, antialias=False)
        torch.testing.assert_close(cut[i, :, 2:-2, 2:-2], theirs[:, 2:-2, 2:-2], atol=1e-4, rtol=0)
        nearest = TF.resized_crop(labels[i][None], *place, [40, 40], InterpolationMode.NEAREST_EXACT)[0]
        # between two pixels either one is the nearest
        clear = [np.abs((np.arange(40) + 0.5) * side / 40 % 1 - 0.5) < 0.499 for side in place[2:]]
        same = (targets["water"][i] == nearest).numpy()
        assert same[np.ix_(*clear)].all()
        assert np.ix_(*clear)[0].size >= 20
