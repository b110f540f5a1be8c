"""Many rasters to one: tiles put back, dates that vote."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from swath.errors import RasterError
from swath.geo import mosaic
from swath.geo.grid import Grid, Window
from swath.geo.layout import RasterSpec
from swath.geo.mosaic import Overlap, aggregate, common_grid, decide, mean_probability, merge_tiles
from swath.geo.raster import describe, read_image, read_labels
from swath.geo.raster_writer import write_raster
from swath.geo.windows import ConstantSize, ConstantStride, windows
from swath.labels import IGNORE
from tests.synthetic import NODATA, UTM, backscatter, blobs, grid, write_image, write_mask

LAW = settings(max_examples=30, deadline=None)
SHAPE = (45, 61)


def cut(folder: Path, image: np.ndarray, place: Grid, tiling: ConstantSize | ConstantStride) -> list[Path]:
    """Tiles of an image with NaN outside, cut by plain indexing."""
    wide = np.full((len(image), *(n + 2 * tiling.size for n in place.shape)), np.nan, np.float32)
    wide[:, : place.shape[0], : place.shape[1]] = image
    return [
        write_image(folder / f"tile_{w.col}_{w.row}.tif", wide[:, *w.slices], place.at(w))
        for w, _ in windows(place.shape, tiling)
    ]


# --------------------------------------------------------------------------------------------------------- merge tiles


@settings(max_examples=10, deadline=None)
@given(st.integers(16, 40), st.data(), st.sampled_from(["last", "max", "mean"]), st.integers(500, 3000))
def test_c97_cut_then_merge_restores_the_scene(
    tmp_path_factory: pytest.TempPathFactory, size: int, data: st.DataObject, overlap: str, strip: int
) -> None:
    folder, place = tmp_path_factory.mktemp("merge"), grid(SHAPE)
    tiling = data.draw(
        st.one_of(
            st.builds(ConstantSize, size=st.just(size), min_overlap=st.integers(0, size // 2)),
            st.builds(ConstantStride, size=st.just(size), stride=st.integers(size // 2, size), edge=st.just("pad")),
            st.builds(ConstantStride, size=st.just(size), stride=st.integers(size // 2, size), edge=st.just("shift")),
        )
    )
    image = backscatter(SHAPE, bands=2)
    image[:, 10:20, 5:9] = np.nan
    tiles = cut(folder, image, place, tiling)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mosaic, "STRIP_PIXELS", strip)
        merge_tiles(tiles, place, folder / "merged" / "scene.tif", overlap)
    info = describe(folder / "merged" / "scene.tif")
    assert info.grid == place
    assert (info.bands, info.nodata) == (("band_1", "band_2"), NODATA)
    merged = read_image(info.path)
    if overlap == "mean":
        np.testing.assert_allclose(merged, image, rtol=1e-6)
    else:
        assert np.array_equal(merged, image, equal_nan=True)


@pytest.mark.parametrize("overlap", ["last", "max", "mean"])
def test_c97_overlap_rules_equal_a_loop_over_pixels(tmp_path: Path, overlap: str) -> None:
    place, rng = grid(SHAPE), np.random.default_rng(3)
    paths, stack = [], []
    for i, (window, _) in enumerate(windows(SHAPE, ConstantSize(size=24, min_overlap=8))):
        values = rng.random((1, 24, 24)).astype(np.float32)
        values[rng.random(values.shape) < 0.1] = np.nan
        paths.append(write_image(tmp_path / f"{i}.tif", values, place.at(window)))
        layer = np.full(SHAPE, np.nan)
        layer[window.slices] = values[0]
        stack.append(layer)
    merge_tiles(paths, place, tmp_path / "out" / "scene.tif", overlap)
    expected = np.full(SHAPE, np.nan)
    for row in range(SHAPE[0]):
        for col in range(SHAPE[1]):
            seen = [layer[row, col] for layer in stack if not np.isnan(layer[row, col])]
            if seen:
                expected[row, col] = {"last": seen[-1], "max": max(seen), "mean": np.mean(seen)}[overlap]
    np.testing.assert_allclose(read_image(tmp_path / "out" / "scene.tif")[0], expected, rtol=1e-6)


def test_c97_class_tiles_stay_classes_and_gaps_are_nodata(tmp_path: Path) -> None:
    place, mask = grid((32, 32)), blobs((32, 32))
    tiles = [
        write_mask(tmp_path / f"{w.col}_{w.row}.tif", mask[w.slices], place.at(w))
        for w, _ in windows((32, 32), ConstantStride(size=16, stride=16))
    ]
    merge_tiles(tiles[:-1], place, tmp_path / "out" / "scene.tif")
    mask[16:, 16:] = IGNORE
    info = describe(tmp_path / "out" / "scene.tif")
    assert (info.dtype, info.nodata) == ("uint8", IGNORE)
    assert np.array_equal(read_labels(info.path)[0], mask)


@pytest.mark.parametrize("overlap", ["last", "max", "mean"])
def test_c97_bands_of_tiles_are_found_by_name(tmp_path: Path, overlap: Overlap) -> None:
    place, left, right = grid((16, 32)), Window(0, 0, 16, 16), Window(0, 16, 16, 16)
    names = ("ice", "water")
    for kind, write in (("soft", write_image), ("classes", write_mask)):
        values = np.stack([np.full((16, 32), 1), np.full((16, 32), 2)]).astype(np.uint8)
        first = write(tmp_path / kind / "a.tif", values[:, *left.slices], place.at(left), names)
        second = write(tmp_path / kind / "b.tif", values[::-1, *right.slices], place.at(right), names[::-1])
        merge_tiles([first, second], place, tmp_path / f"{kind}.tif", overlap)
        assert describe(tmp_path / f"{kind}.tif").bands == names
        np.testing.assert_array_equal(read_image(tmp_path / f"{kind}.tif"), values)
    other = write_mask(tmp_path / "c.tif", values[:, *right.slices], place.at(right), ("ice", "land"))
    with pytest.raises(RasterError, match=r"c\.tif: no band water; it has ice, land\. Merge tiles of one kind"):
        merge_tiles([first, other], place, tmp_path / "other.tif", overlap)


def test_c97_a_tile_off_the_scenes_pixels_is_named(tmp_path: Path) -> None:
    shifted = grid((8, 8), (400_003.0, 3_700_000.0))
    path = write_image(tmp_path / "tile_0_0.tif", backscatter((8, 8)), shifted)
    with pytest.raises(RasterError, match=r"tile_0_0\.tif: does not lie on the pixels.*0\.300.*Cut them again"):
        merge_tiles([path], grid((16, 16)), tmp_path / "scene.tif")
    assert not (tmp_path / "scene.tif").exists()


def test_c97_a_tile_that_is_not_where_the_table_says_is_named(tmp_path: Path) -> None:
    path = write_image(tmp_path / "tile_0_0.tif", backscatter((8, 8)), grid((8, 8)))
    for known, good in ((Window(0, 0, 8, 8), True), (Window(0, 8, 8, 8), False), (Window(0, 0, 8, 7), False)):
        if good:
            merge_tiles([path], grid((16, 16)), tmp_path / "scene.tif", windows=[known])
            continue
        with pytest.raises(RasterError, match=r"tile_0_0\.tif: lies elsewhere than the table of tiles says. Cut and"):
            merge_tiles([path], grid((16, 16)), tmp_path / "other.tif", windows=[known])
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["scene.tif", "tile_0_0.tif"]


# --------------------------------------------------------------------------------------------------------------- votes

votes = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 4)),
    elements=st.one_of(st.just(np.nan), st.floats(0, 1, width=32)),
)  # fmt: skip


@LAW
@given(votes, st.sampled_from(["mean", "any", "majority", "n-1"]), st.sampled_from([0.25, 0.5, 0.75]))
def test_c96_rules_equal_a_loop_and_nodata_dates_do_not_vote(stack: np.ndarray, rule: str, threshold: float) -> None:
    found, mean = decide(stack, rule, threshold), mean_probability(stack)
    for row, col in np.ndindex(stack.shape[1:]):
        seen = [v for v in stack[:, row, col] if not np.isnan(v)]
        n, yes = len(seen), sum(v >= threshold for v in seen)
        if not n:
            assert found[row, col] == IGNORE
            assert np.isnan(mean[row, col])
            continue
        assert mean[row, col] == pytest.approx(np.mean(seen), abs=1e-6)
        if rule == "mean":
            if abs(np.mean(seen) - threshold) > 1e-6:
                assert found[row, col] == (np.mean(seen) >= threshold)
        else:
            wanted = {"any": yes >= 1, "majority": yes > n / 2, "n-1": yes >= (n - 1 if n > 1 else 1)}[rule]
            assert found[row, col] == wanted


@LAW
@given(hnp.arrays(np.float32, (1, 4, 4), elements=st.sampled_from([0.0, 1.0])), st.permutations(range(3)))
def test_c96_one_date_is_the_identity_for_every_rule(date: np.ndarray, order: list[int]) -> None:
    for rule in ("mean", "any", "majority", "n-1"):
        assert np.array_equal(decide(date, rule), date[0])
        blind = np.concatenate([date, np.full((2, 4, 4), np.nan, np.float32)])[list(order)]
        assert np.array_equal(decide(blind, rule), date[0])  # dates that see nothing change nothing, in any order


# --------------------------------------------------------------------------------------------------------- common grid


def test_c96_common_grid_is_the_majoritys_and_holds_all_corners() -> None:
    bagdad = Grid(UTM, Affine(10.0027, 0, 407092.16, 0, -10.0027, 3699689.97), (10526, 10190))
    others = [Grid(UTM, Affine(10, 0, 407090, 0, -10, 3699690), (10529, 10193)) for _ in range(3)]
    for order in ([bagdad, *others], [*others, bagdad]):
        found = common_grid(order)
        assert found.crs == UTM
        assert found.resolution == (10, 10)
        assert found.bounds[0] == 407090
        assert found.bounds[3] == 3699690
        for a, b in zip(found.bounds[2:3], (bagdad.bounds[2],), strict=True):
            assert a >= b - 0.1
        assert found.bounds[1] <= bagdad.bounds[1] + 0.1


@LAW
@given(st.lists(st.tuples(st.integers(-20, 20), st.integers(-20, 20)), min_size=1, max_size=4))
def test_c96_grids_on_one_lattice_give_the_union_of_their_pixels(offsets: list[tuple[int, int]]) -> None:
    base = grid((30, 40))
    found = common_grid([base.at(Window(r, c, 30, 40)) for r, c in offsets])
    rows, cols = [r for r, _ in offsets], [c for _, c in offsets]
    union = Window(min(rows), min(cols), max(rows) - min(rows) + 30, max(cols) - min(cols) + 40)
    assert found.difference(base.at(union)) is None


def test_c96_another_utm_zone_is_brought_to_the_common_grid(tmp_path: Path) -> None:
    """A date delivered in the neighbouring zone shows the same ground as its twin."""
    from rasterio.warp import transform as move

    place = grid((60, 60), (750_000.0, 3_700_000.0))
    x, y = move(UTM, "EPSG:32639", [750_000.0], [3_700_000.0])
    far = Grid(describe_crs(), Affine(10, 0, x[0] - 300, 0, -10, y[0] + 300), (120, 120))
    found = common_grid([place, place, far])
    assert found.crs == UTM
    assert found.bounds[0] < place.bounds[0]
    assert found.bounds[2] > place.bounds[2]
    write_image(tmp_path / "a.tif", np.ones((1, 60, 60)), place)
    write_image(tmp_path / "b.tif", np.zeros((1, 120, 120)), far)
    write_image(tmp_path / "c.tif", np.ones((1, 60, 60)), place)
    grid_out = aggregate([tmp_path / f"{n}.tif" for n in "abc"], tmp_path / "classes.tif", None, "majority")
    labels = read_labels(tmp_path / "classes.tif")[0]
    col, row = (round(v) for v in ~grid_out.transform @ place.transform @ (0, 0))
    assert (labels[row : row + 60, col : col + 60] == 1).all()
    assert (labels == 0).sum() > 60 * 60


def describe_crs() -> object:
    from rasterio.crs import CRS

    return CRS.from_epsg(32639)


def test_c96_dates_with_and_without_crs_do_not_mix() -> None:
    with pytest.raises(RasterError, match="some dates of the area have a CRS and some have none; give all of them one"):
        common_grid([grid(), Grid(None, grid().transform, grid().shape)])


# ----------------------------------------------------------------------------------------------------------- aggregate


def disc(place: Grid) -> np.ndarray:
    """The same round lake on any grid, as uint8: pixel centres within 900 m of one point."""
    rows, cols = np.indices(place.shape) + 0.5
    x, y = place.transform.a * cols + place.transform.c, place.transform.e * rows + place.transform.f
    return (np.hypot(x - 408_700, y - 3_698_100) < 900).astype(np.uint8)


@pytest.mark.parametrize("kind", ["classes", "probabilities"])
@pytest.mark.parametrize("rule", ["mean", "majority", "any", "n-1"])
def test_c96_bagdad_dates_on_two_grids_agree_with_the_truth(tmp_path: Path, kind: str, rule: str) -> None:
    """One date has 10.0027 m pixels, the other 10 m; only pixels at the shore may differ."""
    fine = Grid(UTM, Affine(10, 0, 407_090, 0, -10, 3_699_690), (320, 340))
    coarse = Grid(UTM, Affine(10.0027, 0, 407_092.16, 0, -10.0027, 3_699_689.97), (317, 337))
    for name, place in (("a", coarse), ("b", fine), ("c", fine)):
        if kind == "classes":
            write_mask(tmp_path / f"{name}.tif", disc(place), place)
        else:
            write_image(tmp_path / f"{name}.tif", 0.1 + 0.8 * disc(place)[None], place, ("water",))
    place = aggregate([tmp_path / f"{n}.tif" for n in "abc"], tmp_path / "classes.tif", tmp_path / "p.tif", rule)
    assert place == fine
    found, truth = read_labels(tmp_path / "classes.tif")[0], disc(fine)
    shore = ndimage.maximum_filter(truth, 3) != ndimage.minimum_filter(truth, 3)
    assert np.array_equal(found[~shore], truth[~shore])
    mean = read_image(tmp_path / "p.tif")[0]
    expected = truth if kind == "classes" else 0.1 + 0.8 * truth
    np.testing.assert_allclose(mean[~shore], expected[~shore], atol=1e-5)
    info = describe(tmp_path / "classes.tif")
    assert (info.dtype, info.nodata, info.bands) == ("uint8", IGNORE, ("class",))


@pytest.mark.parametrize("nodata", [None, float("nan"), NODATA])
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_c96_where_a_date_has_no_pixels_it_has_no_vote(tmp_path: Path, nodata: float | None, dtype: str) -> None:
    """Two dates of ones that overlap in part: everything that is seen is 1, whatever the file declares as nodata."""
    nodata = None if dtype == "uint8" else nodata
    for name, left in (("a", 400_000.0), ("b", 400_050.0)):
        spec = RasterSpec(grid=grid((20, 20), (left, 3_700_000.0)), bands=("p",), dtype=dtype, nodata=nodata)
        write_raster(tmp_path / f"{name}.tif", np.ones((1, 20, 20)), spec)
    aggregate([tmp_path / "a.tif", tmp_path / "b.tif"], tmp_path / "classes.tif", tmp_path / "p.tif", "majority")
    assert (read_labels(tmp_path / "classes.tif") == 1).all()
    assert (read_image(tmp_path / "p.tif") == 1).all()


def test_c96_nodata_pixels_of_a_date_do_not_vote(tmp_path: Path) -> None:
    place = grid((20, 20))
    seen, blind = np.ones((1, 20, 20)), np.zeros((1, 20, 20))
    blind[:, :, 10:] = np.nan
    seen[:, :5] = np.nan
    write_image(tmp_path / "a.tif", seen, place)
    write_image(tmp_path / "b.tif", blind, place)
    aggregate([tmp_path / "a.tif", tmp_path / "b.tif"], tmp_path / "classes.tif", tmp_path / "p.tif", "majority")
    labels = read_labels(tmp_path / "classes.tif")[0]
    assert (labels[:5, 10:] == IGNORE).all()  # no date
    assert (labels[5:, 10:] == 1).all()  # the first date alone
    assert (labels[:, :10] == 0).all()  # the second alone, or one of two
    assert np.isnan(read_image(tmp_path / "p.tif")[0, :5, 10:]).all()


def test_c96_dates_without_crs_on_one_grid_are_merged(tmp_path: Path) -> None:
    place = Grid(None, grid((20, 20)).transform, (20, 20))
    for i, name in enumerate("abc"):
        write_mask(tmp_path / f"{name}.tif", blobs((20, 20), i), place)
    found = aggregate([tmp_path / f"{n}.tif" for n in "abc"], tmp_path / "classes.tif", None, "majority")
    assert found == place
    expected = sum(blobs((20, 20), i).astype(int) for i in range(3)) >= 2
    assert np.array_equal(read_labels(tmp_path / "classes.tif")[0], expected)


def test_c96_strips_do_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = [grid((40, 50)), Grid(UTM, Affine(10.7, 0, 399_990, 0, -10.7, 3_700_013), (40, 50))]
    for i, place in enumerate(places):
        write_image(tmp_path / f"{i}.tif", backscatter(place.shape, bands=1, seed=i).clip(0, 1), place)
    for pixels in (1_000_000, 60):
        monkeypatch.setattr(mosaic, "STRIP_PIXELS", pixels)
        paths = [tmp_path / "0.tif", tmp_path / "0.tif", tmp_path / "1.tif"]
        aggregate(paths, tmp_path / f"c{pixels}.tif", tmp_path / f"p{pixels}.tif", "mean", 0.2)
    once, often = (read_image(tmp_path / f"p{pixels}.tif") for pixels in (1_000_000, 60))
    np.testing.assert_allclose(once, often, atol=1e-6)
    assert np.isfinite(once).mean() > 0.8
    assert all(
        np.array_equal(a, b) for a, b in pairwise([read_labels(tmp_path / f"c{n}.tif") for n in (1_000_000, 60)])
    )
