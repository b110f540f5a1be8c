"""Augmentation: image and labels move together, nothing is invented, each sample draws for itself."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from swath.config import build, resolve
from swath.data.augment.random_crop import RandomCrop, RandomResizedCrop
from swath.data.augment.transforms import (
    D4,
    CoarseDropout,
    OneOf,
    RadiometricJitter,
    RandomAffine,
    RandomFlip,
    RandomRotate90,
    Transform,
    symmetry,
)
from swath.errors import ConfigError
from swath.labels import IGNORE

INVERSE = {0: 0, 1: 3, 2: 2, 3: 1, 4: 4, 5: 5, 6: 6, 7: 7}
ALL: tuple[Transform, ...] = (
    D4(),
    RandomAffine(degrees=30, scale=(0.7, 1.4), stretch=1.2, shift=0.1),
    RadiometricJitter(common=1.0, per_band=0.5),
    CoarseDropout(holes=3, size=5),
    RandomRotate90(),
    RandomFlip(),
    OneOf(transforms=(RandomRotate90(), RandomFlip(), RandomAffine(shift=0.0625, degrees=45))),
    RandomCrop(size=10),
    RandomCrop(size=10, zoom=(1.0, 1.5), cat_max_ratio=0.5),
    RandomResizedCrop(size=20),
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


def moves_of(transform: Transform, shape: tuple[int, int], count: int, seed: int = 0) -> list[int]:
    """Which symmetry each of `count` equal samples went through; labels have to go with their image."""
    image = torch.arange(float(shape[0] * shape[1])).reshape(1, 1, *shape).expand(count, 1, *shape)
    moved, labels = transform(image, {"water": image[:, 0].to(torch.uint8)}, draw(seed))
    assert torch.equal(moved[:, 0].to(torch.uint8), labels["water"])
    fits = range(8) if shape[0] == shape[1] else (0, 2, 4, 6)
    kinds = {move: symmetry(image[0], move) for move in fits}
    found = [[move for move, kind in kinds.items() if torch.equal(kind, sample)] for sample in moved]
    assert all(len(names) == 1 for names in found)
    return [names[0] for names in found]


EVENLY: list[tuple[Transform, tuple[int, int], dict[int, float]]] = [
    (D4(), (3, 3), dict.fromkeys(range(8), 1 / 8)),
    (D4(), (3, 5), dict.fromkeys((0, 2, 4, 6), 1 / 4)),
    (RandomRotate90(), (3, 3), dict.fromkeys(range(4), 1 / 4)),
    (RandomRotate90(p=0.4), (3, 3), {0: 0.7, 1: 0.1, 2: 0.1, 3: 0.1}),
    (RandomRotate90(), (5, 3), {0: 0.5, 2: 0.5}),
    (RandomFlip(), (3, 5), dict.fromkeys((0, 2, 4, 6), 1 / 4)),
    (RandomFlip(vertical=0.0), (3, 5), {0: 0.5, 4: 0.5}),
    (RandomFlip(horizontal=0.0, vertical=0.3), (3, 3), {0: 0.7, 6: 0.3}),
    (RandomFlip(horizontal=1.0, vertical=1.0), (3, 3), {2: 1.0}),
    (OneOf(transforms=(RandomRotate90(), RandomFlip())), (3, 3), {0: .25, 1: .125, 2: .25, 3: .125, 4: .125, 6: .125}),
    (OneOf(transforms=(RandomFlip(horizontal=1, vertical=0), RandomFlip(horizontal=0, vertical=1)), weights=(1, 3),
           p=0.8), (3, 3), {0: 0.2, 4: 0.2, 6: 0.6}),
]  # fmt: skip


@pytest.mark.parametrize(("transform", "shape", "expected"), EVENLY)
def test_c49_exact_moves_come_as_often_as_they_say(
    transform: Transform, shape: tuple[int, int], expected: dict[int, float]
) -> None:
    moves = moves_of(transform, shape, 4000)
    assert set(moves) == set(expected)
    for move, share in expected.items():
        assert moves.count(move) / 4000 == pytest.approx(share, abs=0.03)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 9), st.integers(1, 9), st.integers(0, 99), st.sampled_from([D4(), RandomRotate90(), RandomFlip()])
)
def test_c49_exact_moves_keep_shape_and_pixels(height: int, width: int, seed: int, transform: Transform) -> None:
    image = torch.rand(3, 2, height, width, generator=draw(seed))
    image[0, 0, 0, 0] = torch.nan
    moved, _ = transform(image, {}, draw(seed))
    assert moved.shape == image.shape
    for before, after in zip(image, moved, strict=True):
        assert torch.equal(
            torch.nan_to_num(before, -1).flatten().sort().values, torch.nan_to_num(after, -1).flatten().sort().values
        )


def test_c49_one_of_leaves_every_sample_in_its_place() -> None:
    image = torch.arange(64.0).reshape(64, 1, 1, 1).expand(64, 1, 4, 4).contiguous()
    labels = {"water": image[:, 0].to(torch.uint8), "land": image[:, 0].long()}
    mix = OneOf(transforms=(RandomFlip(), D4(), RadiometricJitter()), p=0.9)
    moved, found = mix(image, labels, draw(0))
    assert torch.equal(moved, image)
    assert torch.equal(found["water"], labels["water"])
    assert torch.equal(found["land"], labels["land"])


def test_c49_one_of_draws_inside_its_transforms_for_each_sample() -> None:
    image = torch.rand(1, 1, 9, 9, generator=draw(0)).expand(32, 1, 9, 9)
    moved, _ = OneOf(transforms=(RandomAffine(degrees=90),))(image, {}, draw(1))
    assert len(torch.nan_to_num(moved, -1).flatten(1).unique(dim=0)) == 32


def test_c49_one_of_crops_to_one_size_and_refuses_several() -> None:
    image, targets = pair(size=24, batch=8)
    crops = OneOf(transforms=(partial(RandomCrop, size=12), partial(RandomResizedCrop, size=12)))
    moved, labels = crops(image, targets, draw(0))
    assert moved.shape == (8, 2, 12, 12)
    assert labels["water"].shape == (8, 12, 12)
    with pytest.raises(ConfigError, match="different sizes"):
        OneOf(transforms=(RandomCrop(size=12), RandomFlip()))(image, targets, draw(0))


@pytest.mark.parametrize("wrong", [{"weights": (1.0,)}, {"weights": (-1.0, 2.0)}, {"weights": (0.0, 0.0)}])
def test_c49_one_of_with_weights_that_do_not_fit_is_refused(wrong: dict[str, tuple[float, ...]]) -> None:
    with pytest.raises(ConfigError, match="weight"):
        OneOf(transforms=(D4(), RandomFlip()), **wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="0 transforms"):
        OneOf(transforms=())


def test_c49_nested_transforms_can_stand_in_a_config() -> None:
    written = partial(OneOf, transforms=(RandomRotate90(), partial(RandomAffine, degrees=45.0)), weights=(1.0, 2.0))
    assert build(resolve(written))() == OneOf(
        transforms=(RandomRotate90(), RandomAffine(degrees=45.0)), weights=(1.0, 2.0)
    )


@pytest.mark.parametrize("transform", ALL, ids=lambda t: type(t).__name__)
def test_c49_the_same_generator_seed_gives_the_same_draw_and_inputs_stay(transform: Transform) -> None:
    image, targets = pair()
    image_before, labels_before = image.clone(), targets["water"].clone()
    one, two, other = (transform(image, targets, draw(seed)) for seed in (3, 3, 4))
    torch.testing.assert_close(one[0], two[0], rtol=0, atol=0, equal_nan=True)
    assert torch.equal(one[1]["water"], two[1]["water"])
    assert one[1]["water"].dtype == targets["water"].dtype
    assert one[1]["water"].shape[1:] == one[0].shape[2:]
    assert not torch.equal(torch.nan_to_num(one[0], -1), torch.nan_to_num(other[0], -1))
    assert torch.equal(image, image_before)
    assert torch.equal(targets["water"], labels_before)


@pytest.mark.parametrize("transform", ALL, ids=lambda t: type(t).__name__)
def test_c49_samples_of_a_batch_draw_independently(transform: Transform) -> None:
    image = torch.rand(1, 2, 24, 24, generator=draw(1)).expand(16, 2, 24, 24).contiguous()
    targets = {"water": (image[:, 0] > 0.5).to(torch.uint8)}
    moved = torch.nan_to_num(transform(image, targets, draw(2))[0], -1)
    # of 8 symmetries, or 16 free draws; quarter turns and flips are four
    assert len(moved.flatten(1).unique(dim=0)) >= (3 if isinstance(transform, RandomRotate90 | RandomFlip) else 6)


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


def test_c50_labels_in_the_holes_are_ignored_when_asked() -> None:
    image, targets = pair(size=40)
    moved, labels = CoarseDropout(holes=2, size=7, ignore_labels=True)(image, targets, draw(0))
    hole = torch.isnan(moved[:, 0])
    assert hole.any()
    for task, before in targets.items():
        assert torch.equal(labels[task], torch.where(hole, IGNORE, before).to(torch.uint8))


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
