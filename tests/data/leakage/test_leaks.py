"""Each kind of leak is found, named and refused; clean data have none; a flag lets go on and is told of."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from swath.data.leakage.fingerprints import fingerprint
from swath.data.leakage.footprints import shared_ground
from swath.data.leakage.groups import Grouping, group_tiles
from swath.data.leakage.leaks import Leak, LeakKind, find_leaks, kinds_of, require_disjoint
from swath.data.leakage.scene_leaks import copied_scenes, probe, scene_leaks
from swath.data.samples.tile_tables import read_tiles
from swath.data.splits.folds import GroupFolds, folds_by_group
from swath.data.splits.split import ByArea, ByFold, divide
from swath.data.tables import TILE_COLUMNS, TILE_STATS, TILES, read_scenes, read_table, write_table
from swath.data.tiles.cutting import cut_jobs, cut_scene
from swath.data.tiles.statistics import StatsConfig, scene_jobs, scene_statistics, summarise
from swath.errors import LeakError
from swath.geo.layout import RasterSpec
from swath.geo.raster import read_image
from swath.geo.raster_writer import write_raster
from swath.geo.windows import ConstantSize
from tests.synthetic import grid, texture, tile_table, write_image

LAW = settings(max_examples=50, deadline=None)
squares = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(1, 20)), min_size=1, max_size=8)


def with_prints(table: gpd.GeoDataFrame, images: list[np.ndarray]) -> gpd.GeoDataFrame:
    return table.assign(**pd.DataFrame([fingerprint(image) for image in images], index=table.index))


def kinds(train: gpd.GeoDataFrame, evaluation: gpd.GeoDataFrame) -> set[str]:
    return {leak.kind for leak in find_leaks(train, evaluation)}


# ------------------------------------------------------------------------------------------------- names and ground


@LAW
@given(squares, squares)
def test_c16_shared_ground_equals_a_loop_over_pairs(
    a: list[tuple[int, int, int]], b: list[tuple[int, int, int]]
) -> None:
    shares = {
        (i, j): max(0, min(x + s, u + t) - max(x, u)) * max(0, min(y + s, v + t) - max(y, v)) / min(s, t) ** 2
        for i, (x, y, s) in enumerate(a)
        for j, (u, v, t) in enumerate(b)
    }
    expected = {pair for pair, share in shares.items() if share > 0.01}
    first, second = tile_table(a, "a"), tile_table(b, "b")
    assert set(shared_ground(first, second)) == expected
    leaks = find_leaks(first, second)
    assert {leak.b for leak in leaks} == {f"b{j}" for _, j in expected}  # each tile once, with its closest partner
    assert len(leaks) == len({leak.b for leak in leaks})
    for leak in leaks:
        j = int(leak.b[1:])
        assert shares[int(leak.a[1:]), j] == max(share for (_, n), share in shares.items() if n == j)
        assert leak.kind == "shared ground"


def test_c16_the_same_tile_on_both_sides_raises_and_is_named() -> None:
    tiles = tile_table([(0, 0, 10), (100, 0, 10)], "t")
    assert find_leaks(tiles, tiles.iloc[[1]]) == [Leak("same tile", "t1", "t1")]
    with pytest.raises(LeakError, match=r"1 of 1 evaluation tiles .*1 are the same tile .*: t1 with t1\."):
        require_disjoint(tiles, tiles.iloc[[1]])


def test_c16_neighbours_that_touch_are_fine() -> None:
    first, second = tile_table([(0, 0, 10)], "a"), tile_table([(10, 0, 10), (0, 10, 10), (9.95, 0, 10)], "b")
    assert require_disjoint(first, second) == ()


def test_c16_tiles_without_crs_are_compared_within_their_scene() -> None:
    here, same, other = (tile_table([(0, 0, 9)], name, crs=None) for name in "xxy")
    assert require_disjoint(here, other) == ()  # no place on earth: another scene's pixels say nothing
    assert shared_ground(here, same) == [(0, 0)]
    same["key"] = ["x7"]
    with pytest.raises(LeakError, match=r"share ground \(shared ground\): x7 with x0"):
        require_disjoint(here, same)


def test_c16_shared_ground_is_symmetric_and_in_any_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    a, b = (tile_table([tuple(r) for r in rng.integers(1, 40, (30, 3))], name) for name in "ab")
    pairs = set(shared_ground(a, b))
    assert pairs
    assert {(i, j) for j, i in shared_ground(b, a)} == pairs
    monkeypatch.setattr("swath.data.leakage.footprints.ROWS", 7)
    assert set(shared_ground(a, b)) == pairs


def test_c16_places_in_different_projections_are_compared_on_earth() -> None:
    a, b = (tile_table([(45 + d, 33, 0.01)], name, crs=crs) for name, crs, d in (("a", "EPSG:32638", 0), ("b", "EPSG:32639", 0.002)))  # fmt: skip
    assert kinds(a.set_crs("EPSG:4326"), b.set_crs("EPSG:4326")) == {"shared ground"}


# ----------------------------------------------------------------------------------------------------- same area


def dates(place: float, crs: str | None, *names: str, area: str = "bagdad") -> gpd.GeoDataFrame:
    """Tiles of scenes of one area, beside each other from `place` on."""
    boxes = [(place + 20 * i, 0, 10) for i in range(len(names))]
    return tile_table(boxes, names[0], [area] * len(names), crs, names)


@pytest.mark.parametrize("crs", [None, "EPSG:32638"])
def test_c16_dates_of_one_city_on_both_sides_are_named(crs: str | None) -> None:
    train = pd.concat(
        [dates(0, crs, "b_20150102", "b_20150102", "b_20150102"), dates(9000, crs, "mosul", area="mosul")]
    )
    judged = dates(20, crs, "b_20150204", area="bagdad").set_geometry([shapely.box(12, 0, 18, 9)])  # between two tiles
    assert find_leaks(train, judged) == [
        Leak("same area", "b_201501020", "b_201502040", "bagdad: b_20150102 and b_20150204")
    ]
    with pytest.raises(LeakError, match=r"1 show an area that trained in another scene \(same area\)"):
        require_disjoint(train, judged)


def test_c16_areas_say_nothing_when_scenes_lie_apart_or_share_one_folder() -> None:
    train = pd.concat([dates(0, "EPSG:32638", "one"), dates(0, "EPSG:32638", "x", area="other")])
    far = dates(5000, "EPSG:32638", "two")
    assert kinds(train, far) == set()  # a folder of scenes of many places
    assert kinds(dates(0, None, "one"), dates(0, None, "two")) == set()  # one folder for everything
    assert kinds(pd.concat([dates(0, None, "one"), dates(0, None, "x", area="other")]), dates(0, None, "two")) == {
        "same area"
    }
    inside = pd.concat([train, far])
    assert kinds(inside, far.assign(key=["elsewhere"], geometry=[shapely.box(7000, 0, 7010, 9)])) == set()


# ------------------------------------------------------------------------------------------------------- contents


def test_c18_copies_are_found_without_a_place(caplog: pytest.LogCaptureFixture) -> None:
    images = [texture((128, 128), seed) for seed in range(4)]
    train = with_prints(tile_table([(0, 0, 9)] * 4, "a", crs=None), images)
    copies = [images[2].copy(), 7 * images[1], texture((128, 128), 9)]
    judged = with_prints(tile_table([(50, 0, 9)] * 3, "b", crs=None), copies)
    same, near = find_leaks(train, judged)
    assert (same.kind, same.a, same.b) == ("same content", "a2", "b0")
    assert near == Leak("near-duplicate", "a1", "b1", "cosine 1.00")
    with pytest.raises(
        LeakError, match=r"2 of 3 .*same pixels under another name .*: b0 with a2.*look nearly the same"
    ):
        require_disjoint(train, judged)
    assert not caplog.records
    assert kinds(train, judged[["key", "scene", "area", "crs", "geometry"]]) == set()
    assert "contents are not compared" in caplog.text


# -------------------------------------------------------------------------------------------------------- the flag


@pytest.mark.parametrize(
    ("allow", "passes"),
    [
        (False, False), (True, True), (("shared ground",), False), (("same area", "shared ground"), True), ((), False),
    ],
)  # fmt: skip
def test_c16_only_allowed_kinds_pass_and_are_told(allow: bool | tuple[LeakKind, ...], passes: bool) -> None:
    train = pd.concat([dates(0, "EPSG:32638", "d1", "d1"), dates(9000, "EPSG:32638", "x", area="other")])
    judged = dates(5, "EPSG:32638", "d2", "d2")
    if passes:
        assert require_disjoint(train, judged, allow) == ("shared ground", "same area")
    else:
        with pytest.raises(LeakError, match=r"[12] of 2 evaluation tiles or scenes leak.*-P data.allow_leaks=True"):
            require_disjoint(train, judged, allow)


def test_c16_a_refusal_counts_by_kind_and_names_the_first_pairs() -> None:
    train, judged = tile_table([(20 * i, 0, 10) for i in range(5)], "a"), tile_table([(20 * i, 5, 10) for i in range(6)], "b")  # fmt: skip
    with pytest.raises(LeakError) as caught:
        require_disjoint(train, judged)
    text = str(caught.value)
    assert text.startswith("5 of 6 evaluation tiles or scenes leak from the training")
    assert "5 share ground (shared ground): b0 with a0 (50% of the smaller footprint); b1 with a1" in text
    assert "b2 with a2 (50% of the smaller footprint); and 2 more." in text
    assert "b3" not in text
    assert "hold out whole areas" in text


def test_c16_nothing_against_something_is_clean() -> None:
    tiles = tile_table([(0, 0, 10)])
    assert find_leaks(tiles, tiles[:0]) == find_leaks(tiles[:0], tiles) == []


# ------------------------------------------------------------------------------------------- clean data, whole chain


@pytest.mark.system
@LAW
@given(st.integers(0, 10_000), st.integers(2, 4))
def test_c19_folds_of_groups_never_leak(seed: int, folds: int) -> None:
    rng = np.random.default_rng(seed)
    base = [texture((32, 32), int(s)) for s in rng.integers(0, 1000, 12)]
    images = [base[i] * rng.uniform(0.5, 2) if rng.random() < 0.5 else base[i] for i in rng.integers(0, 12, 24)]
    boxes = [(float(x), float(y), 10.0) for x, y in rng.integers(0, 200, (24, 2))]
    tiles = with_prints(tile_table(boxes, scenes=[f"s{i}" for i in rng.integers(0, 20, 24)]), images)
    tiles["group"] = group_tiles(tiles, Grouping())
    if tiles["group"].nunique() < folds:
        return
    tiles["fold"] = folds_by_group(tiles, GroupFolds(folds=folds, strata=()))
    for k in range(folds):
        assert divide(tiles, ByFold(validation_fold=k)).leaks == ()
    broken = tiles.sample(frac=1, random_state=seed).reset_index(drop=True)
    assert find_leaks(broken[::2], broken[1::2])  # taken apart by chance, they leak


def copied(scenes: Path, name: str, change: Callable[[np.ndarray], np.ndarray], origin: tuple[float, float]) -> None:
    """A changed copy of the first scene in an area of its own, far away, compressed and with another nodata value."""
    image = change(read_image(scenes / "north" / "s1a_north_ASC_20150102.tif"))
    path = scenes / name / f"s1a_{name}_ASC_20150301.tif"
    path.parent.mkdir(parents=True)
    spec = RasterSpec(grid=grid(image.shape[1:], origin), bands=("vh", "vv"), dtype="float32", nodata=-1, compress=True)
    write_raster(path, image, spec)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes of four areas; two of them are the first one again, in disguise."""
    root = tmp_path_factory.mktemp("scenes")
    for i, area in enumerate(("north", "south")):
        image = texture((128, 192), 20 + i)
        image[:, :, -6:] = np.nan
        path = root / area / f"s1a_{area}_ASC_20150102.tif"
        write_image(path, image, grid((128, 192), (300_000.0 + 50_000 * i, 3_700_000.0)), ("vh", "vv"))
    copied(root, "repacked", lambda image: image, (500_000.0, 3_700_000.0))
    copied(root, "brighter", lambda image: 4 * image, (600_000.0, 3_700_000.0))
    return root


@pytest.fixture(scope="module")
def table(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> gpd.GeoDataFrame:
    """Their tiles of 64 px with statistics, as the steps of the chain write and read them."""
    output = tmp_path_factory.mktemp("tiles")
    jobs = cut_jobs(read_scenes(scenes), {}, output, ConstantSize(size=64, min_overlap=0))
    write_table(output / TILES, [row for job in jobs for row in cut_scene(job)])
    tiles = read_table(output / TILES, TILE_COLUMNS, "generate_tiles")
    config = StatsConfig(input_path=str(output), min_valid_ratio=0.5)
    results = {job.key: json.loads(json.dumps(scene_statistics(job))) for job in scene_jobs(tiles, output, 0.5)}
    write_table(output / TILE_STATS, summarise(tiles, results, output, output, config)[0])
    return read_tiles(output)


def test_c18_scenes_in_disguise_are_found_by_the_chain(table: gpd.GeoDataFrame) -> None:
    assert set(table["fold"]) == {0, 1, 2, 3}
    members = table.groupby("group")["area"].agg(set).tolist()
    assert sorted(map(sorted, members)) == [["brighter", "north", "repacked"], ["south"]]

    with pytest.raises(LeakError, match=r"6 of 6 .*6 hold the same pixels.*repacked.* with .*north"):
        divide(table, ByArea(validation_areas=("repacked",), training_areas=("north", "south")))
    with pytest.raises(LeakError, match=r"6 of 6 .*6 look nearly the same .*brighter.* with .*north"):
        divide(table, ByArea(validation_areas=("brighter",), training_areas=("north", "south")))
    found = divide(table, ByArea(validation_areas=("repacked",)), allow_leaks=True)
    assert found.leaks == ("same content", "near-duplicate")  # of north and of brighter
    assert divide(table, ByArea(validation_areas=("south",))).leaks == ()


def test_c16_scored_scenes_that_trained_under_another_name_are_found(scenes: Path, table: gpd.GeoDataFrame) -> None:
    trained, scored = table[table["area"] == "north"], read_scenes(scenes)
    found = {leak.b: leak for leak in copied_scenes(scored, trained)}
    assert {key: leak.kind for key, leak in found.items()} == {
        "s1a_north_ASC_20150102": "same content", "s1a_repacked_ASC_20150301": "same content",
        "s1a_brighter_ASC_20150301": "near-duplicate",
    }  # fmt: skip
    for leak in found.values():
        assert leak.detail.startswith("3 of 3 windows, the first at row 0, column 64")
        assert leak.a == "s1a_north_ASC_20150102/tile_64_0"
    assert copied_scenes(scored, trained.drop(columns="content")) == []
    assert copied_scenes(scored.assign(height=1), trained) == []


def test_c16_windows_of_a_scored_scene_lack_what_its_table_calls_missing(tmp_path: Path) -> None:
    """As the tiles that they are compared with: a copy is not hidden by its gaps."""
    image = texture((64, 64), 1)
    image[:, :20] = 7.0
    path = write_image(tmp_path / "image.tif", image, grid((64, 64)))
    places = pd.DataFrame([{"row": 0, "col": 0, "height": 64, "width": 64}])
    found = probe({"image": path, "nodata": 7.0}, places).iloc[0]
    expected = fingerprint(np.where(image == 7.0, np.nan, image))
    assert found["content"] == expected["content"]
    assert found["content"] != fingerprint(image)["content"]


def test_c16_scored_scenes_are_compared_by_name_and_ground(scenes: Path, table: gpd.GeoDataFrame) -> None:
    trained, scored = table[table["area"] == "north"], read_scenes(scenes)
    north = scored[scored["area"] == "north"]
    assert kinds(trained, north) == {"same scene", "shared ground"}
    assert kinds(trained, north.assign(key=["renamed"])) == {"shared ground"}
    assert kinds(trained, scored[scored["area"] != "north"]) == set()
    assert kinds_of(scene_leaks(scored, trained)) == ("same scene", "same content", "shared ground", "near-duplicate")
    assert scene_leaks(scored[scored["area"] == "south"], trained) == []
    places = scored[["key", "crs", "geometry"]].assign(scene=scored["key"])  # of label rasters: no images, no areas
    assert kinds_of(scene_leaks(places, trained)) == ("same scene", "shared ground")
    assert {leak.b for leak in scene_leaks(places, trained)} == set(north["key"])
