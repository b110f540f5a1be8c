"""Fingerprints of tiles, and the groups that copies and near-duplicates make."""

from __future__ import annotations

import logging
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from swath.data.leakage import groups as groups_module
from swath.data.leakage.fingerprints import (
    SIDE,
    block_medians,
    content_digest,
    encode,
    fingerprint,
    thumbnail,
    thumbnails,
)
from swath.data.leakage.groups import NEAR_DUPLICATE, Grouping, best_matches, components, group_tiles, similar_pairs
from swath.errors import CatalogError
from swath.geo.layout import RasterSpec
from swath.geo.raster import read_image
from swath.geo.raster_writer import write_raster
from tests.synthetic import grid, texture, tile_table, write_image

LAW = settings(max_examples=50, deadline=None)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    first, second = thumbnail(a), thumbnail(b)
    assert first is not None
    assert second is not None
    return float(first @ second)


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def table_of(images: list[np.ndarray], **columns: object) -> gpd.GeoDataFrame:
    """A table of tiles far apart, each its own scene, with the fingerprints of `images`."""
    boxes = [(1000.0 * i, 0.0, 10.0) for i in range(len(images))]
    table = tile_table(boxes, scenes=[f"s{i}" for i in range(len(images))])
    prints = [fingerprint(image) for image in images]
    return table.assign(**{name: [p[name] for p in prints] for name in prints[0]}, **columns)


# ---------------------------------------------------------------------------------------------------------- contents


def test_c18_a_recompressed_copy_with_another_nodata_value_has_the_same_content(tmp_path: Path) -> None:
    image = texture((64, 64))
    image[:, :5, :7] = np.nan
    first = write_image(tmp_path / "a.tif", image, grid((64, 64)))
    spec = RasterSpec(
        grid=grid((64, 64), (0, 0)), bands=("x", "y"), dtype="float32", nodata=-1, block=16, compress=True
    )
    write_raster(tmp_path / "b.tif", image[::-1], spec)  # other names, other order of the bands, other place
    assert first.read_bytes() != (tmp_path / "b.tif").read_bytes()
    found = [content_digest(read_image(tmp_path / name)) for name in ("a.tif", "b.tif")]
    assert found[0] == found[1] == content_digest(image)


@LAW
@given(st.integers(0, 10_000))
def test_c18_one_changed_pixel_changes_the_content(seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = rng.normal(0, 1, (2, *rng.integers(2, 20, 2))).astype(np.float32)
    at = tuple(rng.integers(0, image.shape))
    changed = image.copy()
    changed[at] = np.nan if rng.random() < 0.5 else np.nextafter(image[at], np.float32(9))
    assert content_digest(changed) != content_digest(image)
    assert content_digest(image.copy(order="F")) == content_digest(image)


def test_c18_zeros_have_one_sign_and_gaps_one_value() -> None:
    image = np.array([[[0.0, 1.0], [np.nan, 2.0]]], np.float32)
    other = np.array([[[-0.0, 1.0], [np.inf, 2.0]]], np.float32)
    assert content_digest(image) == content_digest(other)


def test_c18_tiles_that_say_nothing_have_no_fingerprint() -> None:
    empty, constant = np.full((2, 64, 64), np.nan, np.float32), np.full((2, 64, 64), 0.5, np.float32)
    for image in (empty, constant):
        assert fingerprint(image) == {"content": None, "thumbnail": None}
    assert thumbnail(texture((64, SIDE - 1))) is None
    assert content_digest(texture((64, SIDE - 1))) is not None
    mostly_gap = texture((64, 64))
    mostly_gap[:, :, 27:] = np.nan
    assert thumbnail(mostly_gap) is None
    ramp = np.add.outer(np.arange(64.0), 3 * np.arange(64.0)).astype(np.float32)[None]
    assert thumbnail(ramp) is None  # all ramps look alike


# -------------------------------------------------------------------------------------------------------- thumbnails


def test_c18_block_medians_equal_numpy() -> None:
    image = texture((5 * SIDE + 3, 3 * SIDE + 1))
    image[np.random.default_rng(0).random(image.shape) < 0.4] = np.nan
    inside = image[:, 1 : 1 + 5 * SIDE, : 3 * SIDE]
    expected = np.full((2, SIDE, SIDE), np.nan, np.float32)
    for band, row, col in np.ndindex(expected.shape):
        block = inside[band, 5 * row : 5 * row + 5, 3 * col : 3 * col + 3]
        seen = block[np.isfinite(block)]
        if len(seen) >= 0.5 * block.size:
            expected[band, row, col] = np.quantile(seen, 0.5, method="lower")
    assert 0 < np.isnan(expected).mean() < 0.5
    np.testing.assert_array_equal(block_medians(image).reshape(expected.shape), expected)


@pytest.mark.parametrize("side", [64, 128, 256])
def test_c18_a_copy_with_another_brightness_is_a_near_duplicate(side: int) -> None:
    image = texture((side, side), 3)
    noise = 1 + 0.05 * np.random.default_rng(0).standard_normal(image.shape)
    for copy in (3 * image, image + 0.5, 10 * np.log10(image), np.sqrt(image), image[::-1]):
        assert cosine(image, copy) == pytest.approx(1, abs=1e-4)
    assert cosine(image, 0.2 * image * noise) > 0.96
    gap = image.copy()
    gap[:, : side // 10] = np.nan
    assert cosine(image, gap) > NEAR_DUPLICATE


@pytest.mark.parametrize(("side", "shift"), [(128, 1), (256, 2), (512, 4)])
def test_c18_a_copy_moved_by_a_128th_of_its_side_is_a_near_duplicate(side: int, shift: int) -> None:
    for seed in range(8):
        image = texture((side + shift, side + shift), seed)
        assert cosine(image[:, :side, :side], image[:, shift:, shift:]) >= NEAR_DUPLICATE


def test_c18_other_scenes_and_neighbouring_tiles_are_no_duplicates() -> None:
    cut = [texture((256, 256), s)[:, r : r + 128, c : c + 128] for s in range(15) for r in (0, 128) for c in (0, 128)]
    rng = np.random.default_rng(0)
    slope = np.linspace(1, 2, 128) * rng.gamma(50, 1 / 50, (20, 2, 128, 128))
    coast = np.where(np.arange(128) < 64, 0.01, 0.1) * rng.gamma(50, 1 / 50, (20, 2, 128, 128))
    _, vectors = thumbnails(table_of([*cut, *slope.astype(np.float32), *coast.astype(np.float32)]))
    assert len(vectors) == 100
    highest = np.max(vectors @ vectors.T - 2 * np.eye(100))
    assert highest < NEAR_DUPLICATE - 0.1


def test_c18_thumbnails_survive_the_table() -> None:
    images = [texture((64, 64), 1), np.zeros((2, 64, 64), np.float32), texture((64, 64), 2)]
    at, vectors = thumbnails(table_of(images))
    assert at.tolist() == [0, 2]
    for vector, image in zip(vectors, (images[0], images[2]), strict=True):
        exact = thumbnail(image)
        assert exact is not None
        assert vector @ exact > 0.9995
        assert len(encode(exact)) == 344
    at, vectors = thumbnails(tile_table([(0, 0, 1)]))
    assert (len(at), vectors.shape) == (0, (0, SIDE**2))


# ----------------------------------------------------------------------------------------------- pairs and components


@LAW
@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 200))
def test_c18_similar_pairs_equal_scikit_learn_in_any_blocks(seed: int, count: int, products: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = unit(rng.standard_normal((count, 4)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(groups_module, "PRODUCTS", products)
        batches = list(similar_pairs(vectors, 0.8))
        best, highest = best_matches(vectors[: count // 2 + 1], vectors)
    found = {(int(i), int(j)) for a, b in batches for i, j in zip(a, b, strict=True)}
    near = NearestNeighbors(radius=0.2, metric="cosine").fit(vectors).radius_neighbors(return_distance=False)
    assert found == {(i, j) for i in range(count) for j in near[i] if i < j}
    closest = NearestNeighbors(n_neighbors=1, metric="cosine").fit(vectors[: count // 2 + 1])
    distance, index = closest.kneighbors(vectors)
    assert best.tolist() == index[:, 0].tolist()
    np.testing.assert_allclose(highest, 1 - distance[:, 0], atol=1e-5)


def test_c18_a_chain_of_five_is_one_group() -> None:
    angles = np.deg2rad([0, 20, 40, 60, 80, 140])
    vectors = unit(np.stack([np.cos(angles), np.sin(angles)], axis=1))
    threshold = float(np.cos(np.deg2rad(25)))
    assert vectors[0] @ vectors[4] < threshold
    order = [2, 5, 0, 4, 1, 3]  # whatever the order
    labels = components(6, similar_pairs(vectors[order], threshold))
    assert sorted(np.bincount(labels).tolist()) == [1, 5]
    assert np.bincount(labels)[labels[1]] == 1


@LAW
@given(
    st.integers(1, 30), st.lists(st.lists(st.tuples(st.integers(0, 29), st.integers(0, 29)), max_size=6), max_size=6)
)
def test_c18_components_equal_a_flood_fill(count: int, batches: list[list[tuple[int, int]]]) -> None:
    edges = [[(i % count, j % count) for i, j in batch] for batch in batches]
    labels = components(count, (tuple(np.array(e, np.int64).reshape(-1, 2).T) for e in edges))
    links = {(i, j) for batch in edges for i, j in batch}
    for start in range(count):
        reached, before = {start}, set[int]()
        while reached != before:
            before = set(reached)
            reached |= {j for i, j in links if i in before} | {i for i, j in links if j in before}
        assert reached == set(np.flatnonzero(labels == labels[start]).tolist())


# ------------------------------------------------------------------------------------------------------------ groups


def test_c18_groups_hold_copies_near_duplicates_ground_and_columns() -> None:
    images = [texture((64, 64), s) for s in range(7)]
    images[1], images[2] = 5 * images[0], images[3].copy()
    table = table_of(images, city=["a", "b", "c", "d", "e", "f", "e"])
    assert groups(table, Grouping()) == [[0, 1], [2, 3], [4], [5], [6]]
    assert groups(table, Grouping(similarity=1.1)) == [[0], [1], [2, 3], [4], [5], [6]]  # equal pixels always
    assert groups(table, Grouping(together=("scene", "city"))) == [[0, 1], [2, 3], [4, 6], [5]]
    table.geometry = [*table.geometry[:5], table.geometry[4], table.geometry[6]]
    assert groups(table, Grouping()) == [[0, 1], [2, 3], [4, 5], [6]]
    assert groups(table, Grouping(ground=False)) == [[0, 1], [2, 3], [4], [5], [6]]
    with pytest.raises(CatalogError, match=r"grouping\.together: the table has no column town\. It has: key, scene"):
        group_tiles(table, Grouping(together=("town",)))


def groups(table: gpd.GeoDataFrame, grouping: Grouping) -> list[list[int]]:
    found = group_tiles(table, grouping)
    assert all(name == min(table["key"][found == name]) for name in found)  # called after the first of its own
    return sorted([np.flatnonzero(found == name).tolist() for name in set(found)])


def test_c18_exploding_is_asked_for_logged_and_leaves_what_is_certain(caplog: pytest.LogCaptureFixture) -> None:
    images = [texture((64, 64), 0) * (1 + i) for i in range(5)] + [texture((64, 64), 1) * (1 + i) for i in range(2)]
    images.append(images[1].copy())
    table = table_of(images)
    with caplog.at_level(logging.INFO):
        assert groups(table, Grouping()) == [[0, 1, 2, 3, 4, 7], [5, 6]]
        assert groups(table, Grouping(explode_above=6)) == [[0, 1, 2, 3, 4, 7], [5, 6]]
        assert not caplog.records
        assert groups(table, Grouping(explode_above=5)) == [[0], [1, 7], [2], [3], [4], [5, 6]]
    assert "exploded 1 groups of near-duplicates with more than 5 tiles (6 tiles in all, the largest 6)" in caplog.text


def test_c18_groups_do_not_depend_on_the_order_of_rows() -> None:
    table = table_of([texture((64, 64), s % 4) * (1 + s) for s in range(9)])
    mixed = table.sample(frac=1, random_state=3)
    first, second = group_tiles(table, Grouping()), group_tiles(mixed, Grouping())
    assert dict(zip(table["key"], first, strict=True)) == dict(zip(mixed["key"], second, strict=True))
