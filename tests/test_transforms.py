"""Augmentation: image and labels move together, nothing is invented, each sample draws for itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from swath.data.transforms import (
    D4,
    CoarseDropout,
    RadiometricJitter,
    RandomAffine,
    Transform,
    symmetry,
)
from swath.labels import IGNORE

INVERSE = {0: 0, 1: 3, 2: 2, 3: 1, 4: 4, 5: 5, 6: 6, 7: 7}
ALL: tuple[Transform, ...] = (
    D4(),
    RandomAffine(degrees=30, scale=(0.7, 1.4), stretch=1.2, shift=0.1),
    RadiometricJitter(common=1.0, per_band=0.5),
    CoarseDropout(holes=3, size=5),
)


def draw(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pair(size: int = 24, batch: int = 4, seed: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
    """An image whose first band is the label, so that the two can be compared after moving."""
    labels = torch.randint(0, 3, (batch, size, size), generator=draw(seed)).to(torch.uint8)
    image = torch.stack([labels.float(), torch.rand(batch, size, size, generator=draw(seed + 1))], dim=1)
    return image, {"water": labels, "land": (labels > 1).to(torch.uint8)}


def points(height: int, width: int, row: int, col: int, batch: int) -> tuple[Tensor, dict[str, Tensor]]:
    """A single 5 x 5 feature at (row, col) in image and labels."""
    labels = torch.zeros(batch, height, width, dtype=torch.uint8)
    labels[:, row - 2 : row + 3, col - 2 : col + 3] = 1
    return labels[:, None].float(), {"water": labels}


def centre(weights_HW: Tensor) -> Tensor:
    rows, cols = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in weights_HW.shape), indexing="ij")
    return torch.stack([(rows * weights_HW).sum(), (cols * weights_HW).sum()]) / weights_HW.sum()


@pytest.mark.parametrize("move", range(8))
def test_c49_each_symmetry_has_an_exact_inverse(move: int) -> None:
    sample = torch.rand(3, 10, 10, generator=draw(move))
    assert torch.equal(symmetry(symmetry(sample, move), INVERSE[move]), sample)


def test_c49_the_eight_symmetries_are_eight() -> None:
    sample = torch.arange(9).reshape(3, 3)
    assert len({tuple(symmetry(sample, move).flatten().tolist()) for move in range(8)}) == 8


def test_c49_d4_moves_image_and_labels_alike_and_draws_all_symmetries_per_sample() -> None:
    image, targets = pair(batch=64)
    moved, labels = D4()(image, targets, draw(5))
    assert torch.equal(moved[:, 0], labels["water"].float())
    assert torch.equal((labels["water"] > 1).to(torch.uint8), labels["land"])
    moves = []
    for before, after in zip(image, moved, strict=True):
        found = [move for move in range(8) if torch.equal(symmetry(before, move), after)]
        assert len(found) == 1
        moves += found
    assert set(moves) == set(range(8))


def test_c49_d4_is_uniform_over_the_group() -> None:
    image = torch.arange(9.0).reshape(1, 1, 3, 3).expand(4000, 1, 3, 3)
    moved, _ = D4()(image, {}, draw(0))
    kinds, counts = moved.flatten(1).unique(dim=0, return_counts=True)
    assert len(kinds) == 8
    assert (counts.float() / 4000 - 1 / 8).abs().max() < 0.02


@pytest.mark.parametrize("transform", ALL, ids=lambda t: type(t).__name__)
def test_c49_the_same_generator_seed_gives_the_same_draw_and_inputs_stay(transform: Transform) -> None:
    image, targets = pair()
    image_before, labels_before = image.clone(), targets["water"].clone()
    one, two, other = (transform(image, targets, draw(seed)) for seed in (3, 3, 4))
    torch.testing.assert_close(one[0], two[0], rtol=0, atol=0, equal_nan=True)
    assert torch.equal(one[1]["water"], two[1]["water"])
    assert not torch.equal(torch.nan_to_num(one[0], -1), torch.nan_to_num(other[0], -1))
    assert torch.equal(image, image_before)
    assert torch.equal(targets["water"], labels_before)


@pytest.mark.parametrize("transform", ALL, ids=lambda t: type(t).__name__)
def test_c49_samples_of_a_batch_draw_independently(transform: Transform) -> None:
    image = torch.rand(1, 2, 24, 24, generator=draw(1)).expand(16, 2, 24, 24).contiguous()
    targets = {"water": (image[:, 0] > 0.5).to(torch.uint8)}
    moved = torch.nan_to_num(transform(image, targets, draw(2))[0], -1)
    assert len(moved.flatten(1).unique(dim=0)) >= 6  # of 8 symmetries, or 16 free draws


@pytest.mark.parametrize("transform", ALL, ids=lambda t: type(t).__name__)
def test_c49_a_global_seed_has_no_part_in_the_draw(transform: Transform) -> None:
    image, targets = pair()
    torch.manual_seed(0)
    one = transform(image, targets, draw(3))[0]
    torch.manual_seed(1)
    two = transform(image, targets, draw(3))[0]
    torch.testing.assert_close(one, two, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("shape", [(24, 24), (17, 40), (33, 8)])
@pytest.mark.parametrize("transform", [RandomAffine(), RandomAffine(degrees=40, scale=(0.5, 2), shift=0.2, p=0.0)])
def test_c49_affine_without_a_move_leaves_the_input_as_it_is(transform: RandomAffine, shape: tuple[int, int]) -> None:
    image = torch.rand(3, 2, *shape, generator=draw(1)) * 100
    image[:, :, 3:6, 2] = torch.nan
    labels = torch.randint(0, 3, (3, *shape), generator=draw(2)).to(torch.uint8)
    labels[:, :2] = IGNORE
    moved, targets = transform(image, {"water": labels}, draw(3))
    torch.testing.assert_close(moved, image, rtol=1e-5, atol=1e-3, equal_nan=True)
    assert torch.equal(targets["water"], labels)


@settings(max_examples=40, deadline=None)
@given(
    st.floats(0, 180), st.floats(0.4, 1), st.floats(1, 2), st.floats(1, 1.5), st.floats(0, 0.4), st.integers(0, 999),
)  # fmt: skip
def test_c49_affine_gives_no_new_label_values(
    degrees: float, low: float, high: float, stretch: float, shift: float, seed: int
) -> None:
    labels = torch.tensor([0, 7, 100, IGNORE], dtype=torch.uint8)[
        torch.randint(0, 4, (3, 16, 20), generator=draw(seed))
    ]
    transform = RandomAffine(degrees=degrees, scale=(low, high), stretch=stretch, shift=shift)
    image, targets = transform(labels[:, None].float(), {"water": labels}, draw(seed))
    assert targets["water"].dtype == torch.uint8
    assert set(targets["water"].unique().tolist()) <= {0, 7, 100, IGNORE}
    assert (targets["water"][torch.isnan(image[:, 0])] == IGNORE).all()


def test_c49_what_enters_from_outside_is_ignored_and_missing_never_class_0() -> None:
    ones = torch.ones(16, 32, 32, dtype=torch.uint8)
    image, targets = RandomAffine(degrees=45, scale=(0.6, 0.9))(ones[:, None].float(), {"water": ones}, draw(1))
    assert set(targets["water"].unique().tolist()) == {1, IGNORE}
    assert torch.equal(targets["water"] == IGNORE, torch.isnan(image[:, 0]))
    assert (targets["water"] == IGNORE).flatten(1).any(1).all()


@pytest.mark.parametrize("shape", [(61, 61), (41, 81), (81, 41)])
@pytest.mark.parametrize(
    "transform",
    [RandomAffine(degrees=90), RandomAffine(scale=(0.8, 1.3), stretch=1.3), RandomAffine(shift=0.1),
     RandomAffine(degrees=20, scale=(0.8, 1.3), stretch=1.2, shift=0.1)],
)  # fmt: skip
def test_c49_a_feature_lands_at_the_same_place_in_image_and_labels(
    transform: RandomAffine, shape: tuple[int, int]
) -> None:
    height, width = shape
    image, targets = transform(*points(height, width, height // 2 + 6, width // 2 - 5, 12), draw(2))
    for moved, labels in zip(torch.nan_to_num(image[:, 0]), targets["water"], strict=True):
        found = (labels == 1).float()
        assert found.sum() > 6
        assert (centre(moved) - centre(found)).abs().max() < 0.5


@pytest.mark.parametrize("shape", [(61, 61), (41, 81)])
def test_c49_rotation_keeps_distances_also_on_oblong_images(shape: tuple[int, int]) -> None:
    height, width = shape
    row, col = height // 2 + 9, width // 2 - 7
    image, _ = RandomAffine(degrees=180)(*points(height, width, row, col, 12), draw(3))
    middle = torch.tensor([(height - 1) / 2, (width - 1) / 2])
    before = (torch.tensor([float(row), float(col)]) - middle).norm()
    after = torch.stack([(centre(torch.nan_to_num(m)) - middle).norm() for m in image[:, 0]])
    torch.testing.assert_close(after, before.expand(12), atol=0.6, rtol=0)


def test_c49_zoom_is_the_factor_it_says() -> None:
    image, targets = points(81, 81, 40, 40, 1)
    targets["water"][:] = 0
    targets["water"][:, 30:51, 30:51] = 1
    _, moved = RandomAffine(scale=(2.0, 2.0))(image, targets, draw(0))
    assert int((moved["water"] == 1).sum()) == pytest.approx(42 * 42, rel=0.06)


def test_c49_shift_reaches_the_share_of_the_side_it_says_and_no_more() -> None:
    image, targets = points(101, 201, 50, 100, 400)
    _, moved = RandomAffine(shift=0.2)(image, targets, draw(0))
    places = torch.stack([centre((m == 1).float()) for m in moved["water"]])
    reach = (places - torch.tensor([50.0, 100.0])).abs().max(0).values / torch.tensor([101.0, 201.0])
    assert (reach <= 0.2 + 0.006).all()
    assert (reach > 0.19).all()


def test_c49_p_is_the_share_of_moved_samples() -> None:
    image = torch.rand(1, 1, 9, 9, generator=draw(0)).expand(2000, 1, 9, 9)
    moved, _ = RandomAffine(degrees=180, p=0.3)(image, {}, draw(1))
    still = torch.isclose(moved, image, atol=1e-4).flatten(1).all(1).float().mean()
    assert float(still) == pytest.approx(0.7, abs=0.04)


def test_c49_affine_keeps_label_types_and_all_tasks() -> None:
    image, targets = pair()
    targets = {**targets, "classes": targets["water"].long()}
    _, moved = RandomAffine(degrees=10)(image, targets, draw(0))
    assert {task: labels.dtype for task, labels in moved.items()} == {t: v.dtype for t, v in targets.items()}
    assert torch.equal(moved["water"].long(), moved["classes"])


def test_c50_coarse_dropout_cuts_squares_out_of_the_image_only() -> None:
    image, targets = pair(size=40)
    moved, labels = CoarseDropout(holes=1, size=7)(image, targets, draw(0))
    for sample in moved:
        gap = torch.isnan(sample[0])
        assert torch.equal(gap, torch.isnan(sample[1]))
        rows, cols = torch.nonzero(gap, as_tuple=True)
        assert (int(rows.max() - rows.min()) + 1, int(cols.max() - cols.min()) + 1) == (7, 7)
        assert int(gap.sum()) == 49
    assert torch.equal(labels["water"], targets["water"])
    kept = ~torch.isnan(moved)
    assert torch.equal(moved[kept], image[kept])


@pytest.mark.parametrize("holes", [0, 1, 4])
def test_c50_no_more_holes_than_asked_and_larger_ones_than_the_image_are_legal(holes: int) -> None:
    image, targets = pair(size=40)
    moved, _ = CoarseDropout(holes=holes, size=6)(image, targets, draw(1))
    cut = torch.isnan(moved[:, 0]).flatten(1).sum(1)
    assert (cut <= holes * 36).all()
    assert (cut >= (36 if holes else 0)).all()
    assert torch.isnan(replace(CoarseDropout(), holes=1, size=99)(image, targets, draw(1))[0]).all()


def test_c49_radiometric_jitter_is_a_gain_per_sample_and_band() -> None:
    image = torch.rand(200, 3, 4, 4, generator=draw(0)) + 0.1
    image[:, :, 0, 0] = torch.nan
    labels = {"water": torch.ones(200, 4, 4, dtype=torch.uint8)}
    moved, targets = RadiometricJitter(common=2.0)(image, labels, draw(1))
    gain_db = (10 * torch.log10(moved / image)).flatten(2)[..., 1:]
    torch.testing.assert_close(gain_db, gain_db[:, :1, :1].expand_as(gain_db), atol=1e-3, rtol=0)
    assert float(gain_db[:, 0, 0].std()) == pytest.approx(2.0, rel=0.15)
    assert torch.isnan(moved[:, :, 0, 0]).all()
    assert torch.equal(targets["water"], labels["water"])
    bands, _ = RadiometricJitter(per_band=1.0)(image, labels, draw(1))
    assert (10 * torch.log10(bands / image))[:, :, 1, 1].std(dim=1).min() > 0
