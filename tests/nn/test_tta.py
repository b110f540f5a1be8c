"""Turned copies: which ones there are, how their probabilities merge, and when they change nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

import numpy as np
import pytest
import torch
import ttach
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import gmean
from torch import Tensor, nn

from swath.nn.model import Classification, SegmentationModel, probabilities
from swath.nn.preprocess.channels import Bands, Fill, Preprocess
from swath.nn.preprocess.normalise import ZScore
from swath.nn.tta import FLOOR, Merge, Views, distinct, merge_views, predictor, views
from tests.synthetic import PixelNet, TinyNet, echoes

BANDS = ("vh", "vv")
WATER = {"water": Classification()}
CHARTS = {"ice": Classification(classes=("open", "young", "old")), "floe": Classification(classes=("none", "some"))}
CPU = torch.device("cpu")
MERGES: tuple[Merge, ...] = get_args(Merge)
SUBSETS: tuple[Views, ...] = ("flips", "rotations", "d4")
ELEMENTS = {
    "off": [(0, False)],
    "flips": [(0, False), (2, False), (0, True), (2, True)],
    "rotations": [(k, False) for k in range(4)],
    "d4": [(k, flip) for k in range(4) for flip in (False, True)],
}
"""(quarter turns, then a left-right flip or not): the groups written down by hand."""


def model(tasks: dict[str, Classification] = WATER, network: type[nn.Module] = TinyNet) -> SegmentationModel:
    torch.manual_seed(1)
    preprocess = Preprocess(Bands(BANDS), Fill(2), ZScore(2, mean=0.2, std=0.5))
    return SegmentationModel(preprocess, network(2, sum(t.channels for t in tasks.values())), tasks).eval()


class Equivariant(nn.Module):
    """A network that commutes with flips and quarter turns: pixels, their 3 x 3 mean, and nothing else."""

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__()
        self.pixel, self.around = PixelNet(in_channels, classes), PixelNet(in_channels, classes)
        self.mean = nn.AvgPool2d(3, stride=1, padding=1)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        return self.pixel(image_BCHW) + self.around(self.mean(image_BCHW))


def seen_by(net: nn.Module, image: Tensor, k: int, flip: bool) -> dict[str, Tensor]:
    """Probabilities of one view, turned back, with torch's own functions."""
    turned = torch.rot90(image, k, (-2, -1))
    with torch.inference_mode():
        found = probabilities(net(turned.flip(-1) if flip else turned))
    return {task: torch.rot90(p.flip(-1) if flip else p, -k, (-2, -1)) for task, p in found.items()}


@pytest.mark.parametrize("tta", get_args(Views))
def test_c92_views_are_the_group_and_no_other(tta: Views) -> None:
    image = torch.arange(12).reshape(1, 1, 3, 4)
    found = [view.augment_image(image) for view in views(tta)]
    assert torch.equal(found[0], image)
    expected = [torch.rot90(image, k, (-2, -1)) for k, _ in ELEMENTS[tta]]
    expected = [e.flip(-1) if flip else e for e, (_, flip) in zip(expected, ELEMENTS[tta], strict=True)]
    assert {str(v.tolist()) for v in found} == {str(e.tolist()) for e in expected}
    assert len(found) == len(expected)
    for view, turned in zip(views(tta), found, strict=True):
        assert torch.equal(view.deaugment_mask(turned), image)


def test_c92_sixteen_redundant_views_are_reduced_to_eight() -> None:
    redundant = ttach.Compose([ttach.HorizontalFlip(), ttach.VerticalFlip(), ttach.Rotate90([0, 90, 180, 270])])
    assert len(redundant) == 16
    assert len(distinct(redundant)) == 8


@pytest.mark.parametrize(("tta", "count"), [("off", 1), ("flips", 4), ("rotations", 4), ("d4", 8)])
def test_c92_every_view_is_one_forward_pass(tta: Views, count: int) -> None:
    net, calls = model(), []
    net.register_forward_hook(lambda *_: calls.append(1))
    predictor(net, tta, CPU)(echoes((1, 2, 8, 8)))
    assert len(calls) == count


@pytest.mark.parametrize("shape", [(32, 32), (32, 64)])
@pytest.mark.parametrize("merge", MERGES)
@pytest.mark.parametrize("tta", SUBSETS)
def test_c92_an_equivariant_model_gains_nothing_from_turned_copies(
    tta: Views, merge: Merge, shape: tuple[int, int]
) -> None:
    image, net = echoes((3, 2, *shape), seed=6), model(CHARTS, Equivariant)
    plain, turned = predictor(net, "off", CPU)(image), predictor(net, tta, CPU, merge)(image)
    for task in CHARTS:
        torch.testing.assert_close(turned[task], plain[task], rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(32, 32), (32, 64)])
@pytest.mark.parametrize("tta", SUBSETS)
def test_c92_turned_copies_average_probabilities_over_the_group(tta: Views, shape: tuple[int, int]) -> None:
    image, net = echoes((2, 2, *shape), seed=7), model(CHARTS)
    stack = [seen_by(net, image, k, flip) for k, flip in ELEMENTS[tta]]
    found = predictor(net, tta, CPU)(image)
    for task in CHARTS:
        torch.testing.assert_close(found[task], torch.stack([s[task] for s in stack]).mean(0), rtol=0, atol=1e-6)
        assert (found[task] - stack[0][task]).abs().max() > 1e-4


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 9999), st.integers(2, 5), st.integers(2, 8), st.sampled_from([0.5, 5.0, 200.0]))
def test_c92_merged_probabilities_agree_with_numpy_and_are_never_nan(
    seed: int, classes: int, count: int, scale: float
) -> None:
    logits = scale * torch.randn(count, 1, classes, 5, 4, generator=torch.Generator().manual_seed(seed))
    stack = logits.softmax(dim=2)  # at scale 200 most are exactly 0 or 1
    found = {merge: merged(stack, merge) for merge in MERGES}
    for p in found.values():
        torch.testing.assert_close(p.sum(1), torch.ones(1, 5, 4), rtol=0, atol=1e-5)
        assert 0 <= float(p.min()) <= float(p.max()) <= 1 + 1e-6
    array = stack.double().numpy()
    np.testing.assert_allclose(found["mean"], array.mean(0), atol=1e-6)
    geometric = gmean(np.maximum(array, FLOOR), axis=0)
    np.testing.assert_allclose(found["gmean"], geometric / geometric.sum(1, keepdims=True), atol=1e-5)
    for merge, extreme in (("max", array.max(0)), ("min", array.min(0))):
        floored = np.maximum(extreme, FLOOR)
        expected = floored / floored.sum(1, keepdims=True)
        if classes == 2:
            expected = np.stack([1 - extreme[:, 1], extreme[:, 1]], axis=1)
        np.testing.assert_allclose(found[merge], expected, atol=1e-5)  # type: ignore[index]


def merged(stack_VBKHW: Tensor, merge: Merge) -> Tensor:
    maps: list[Mapping[str, Tensor]] = [{"water": p} for p in stack_VBKHW]
    return merge_views(iter(maps), merge)["water"]


@pytest.mark.parametrize("merge", MERGES)
def test_c92_merging_equal_views_and_a_single_view_changes_nothing(merge: Merge) -> None:
    p = torch.randn(1, 3, 6, 7, generator=torch.Generator().manual_seed(0)).softmax(dim=1)
    assert torch.equal(merged(p[None], merge), p)
    torch.testing.assert_close(merged(torch.stack([p] * 8), merge), p, rtol=0, atol=1e-6)


def test_c92_one_certain_view_has_no_veto_and_certain_opposites_are_a_draw() -> None:
    yes, no, likely = (torch.tensor([1 - p, p]).reshape(1, 2, 1, 1) for p in (1.0, 0.0, 0.99))
    assert merged(torch.stack([yes, no]), "gmean").flatten().tolist() == [0.5, 0.5]
    assert merged(torch.stack([no, *[likely] * 7]), "gmean")[0, 1] > 0.5
    assert merged(torch.stack([yes, no]), "max").flatten().tolist() == [0.0, 1.0]
    assert merged(torch.stack([yes, no]), "min").flatten().tolist() == [1.0, 0.0]


def test_c92_a_broken_model_is_not_covered_up() -> None:
    assert torch.isnan(merged(torch.full((2, 1, 2, 1, 1), torch.nan), "gmean")).all()
