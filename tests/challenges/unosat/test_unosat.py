"""The UNOSAT layout: pairs to 3-band scenes, polygons to masks, and every way in which a folder can be wrong."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from rasterio.crs import CRS

from swath.challenges.unosat.labels import find_labels
from swath.challenges.unosat.scenes import Pair, find_pairs, three_bands, write_3b
from swath.data.tables import SCENE_COLUMNS, SCENES, read_scenes, read_table
from swath.errors import CatalogError, RasterError, VectorError
from swath.geo.grid import Grid
from swath.geo.layout import RasterSpec
from swath.geo.raster import describe, read_image, read_labels
from swath.geo.raster_writer import write_raster
from swath.geo.rasterize import burn
from swath.geo.vector import write_vectors
from swath.labels import IGNORE
from tests.conftest import Script
from tests.synthetic import UTM, backscatter, blobs, cut_in_half, grid, polygons, times, write_area, write_image

CONFIG_3B, CONFIG_MASKS = "configs/demo/generate_3b_images.py", "configs/demo/rasterize.py"
DATE = "20150102T145957"
NAME = "s1a_north_{}_ASC_20150102t145957.tif"


def band(raw: Path, name: str) -> Path:
    return raw / "north" / DATE / NAME.format(name)


@pytest.fixture
def step(script: Script, raw: Path, tmp_path: Path) -> Callable[..., int]:
    """Run generate_3b_images or rasterize on `raw`, into scenes/ or masks/."""

    def run(name: str, **overrides: object) -> int:
        config, folder = (CONFIG_3B, "scenes") if name == "generate_3b_images" else (CONFIG_MASKS, "masks")
        paths = {"input_path": raw, "output_path": tmp_path / folder, "executor": "serial"}
        return script(name, config, **(paths | overrides))

    return run


# -------------------------------------------------------------------------------------------------------- 3-band images

pixels = hnp.arrays(np.float32, (3, 4), elements=st.one_of(st.just(np.nan), st.floats(0, 10, width=32)))


@settings(max_examples=50, deadline=None)
@given(pixels, pixels)
def test_c09_three_bands_are_vh_vv_and_mean_with_shared_gaps(vh: np.ndarray, vv: np.ndarray) -> None:
    out = three_bands(vh, vv)
    assert out.dtype == np.float32
    for row, col in np.ndindex(vh.shape):
        a, b = vh[row, col], vv[row, col]
        expected = [np.nan] * 3 if np.isnan(a) or np.isnan(b) else [a, b, 0.5 * (a + b)]
        np.testing.assert_allclose(out[:, row, col], expected, rtol=1e-6)


def test_c09_scene_keeps_place_nodata_and_values(step: Callable[..., int], raw: Path, tmp_path: Path) -> None:
    assert step("generate_3b_images") == 0
    path = tmp_path / "scenes" / "north" / NAME.format("3b")
    info, vh, vv = describe(path), read_image(band(raw, "vh"))[0], read_image(band(raw, "vv"))[0]
    assert info.grid == describe(band(raw, "vh")).grid
    assert (info.bands, info.dtype, info.nodata) == (("vh", "vv", "mean"), "float32", -99999.0)
    image = read_image(path)
    gap = np.isnan(vh) | np.isnan(vv)
    assert gap[:, -4:].all()
    for found, expected in zip(image, (vh, vv, 0.5 * (vh + vv)), strict=True):
        np.testing.assert_allclose(found, np.where(gap, np.nan, expected), rtol=1e-6)


def test_c45_listed_values_are_no_measurement_in_scenes_and_masks(
    step: Callable[..., int], raw: Path, tmp_path: Path
) -> None:
    """Zones of zeros, which orthorectification leaves: neither backscatter nor "no water"."""
    for name in ("vh", "vv"):
        image = read_image(band(raw, name))
        image[:, :10] = 0
        write_image(band(raw, name), image, describe(band(raw, name)).grid, (name,))
    for values, gaps in ({"missing_values": "0", "missing_zones": None}, True), ({"missing_zones": None}, False):
        for name, kind in (("generate_3b_images", "3b"), ("rasterize", "vh")):
            folder = tmp_path / f"{name}_{gaps}"
            assert step(name, output_path=folder, **values) == 0
            path = folder / "north" / NAME.format(kind)
            zone = np.isnan(read_image(path)) if kind == "3b" else read_labels(path) == IGNORE
            assert zone[:, :10].all() == gaps
            assert not zone[:, 10:, :-4].any()


def test_c45_zones_of_zeros_are_no_measurement_unless_the_config_says_otherwise(
    step: Callable[..., int], raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """64 connected zeros in both bands are a zone, 63 are not, nor are zeros in one band alone."""
    zone, small = np.zeros((96, 112), bool), np.zeros((96, 112), bool)
    zone[10:18, 20:28] = True
    small[40:49, 20:27] = True
    for name in ("vh", "vv"):
        image = read_image(band(raw, name))
        image[0, zone | small] = 0
        image[0, 60:80, 20:40] = 0 if name == "vh" else 0.1
        write_image(band(raw, name), image, describe(band(raw, name)).grid, (name,))
    valid = np.isfinite(read_image(band(raw, "vv"))[0])
    for rule, expected in (
        ({}, zone),
        ({"missing_zones__min_pixels": 63}, zone | small),
        ({"missing_zones": None}, ~valid),
    ):
        folders = {
            name: tmp_path / f"{name}_{len(rule)}_{expected.sum()}" for name in ("generate_3b_images", "rasterize")
        }
        capsys.readouterr()
        for name, folder in folders.items():
            assert step(name, output_path=folder, **rule) == 0
        scene = read_image(folders["generate_3b_images"] / "north" / NAME.format("3b"))
        labels = read_labels(folders["rasterize"] / "north" / NAME.format("vh"))[0]
        np.testing.assert_array_equal(np.isnan(scene), np.broadcast_to(expected | ~valid, scene.shape))
        np.testing.assert_array_equal(labels == IGNORE, expected | ~valid)
        found = {0: 1, 63: 2}.get(int(rule.get("missing_zones__min_pixels", 0) or 0))
        least = rule.get("missing_zones__min_pixels", 64)
        said = f"zones of 0 in VH and VV, {least} px or more: {found} in 1 of 2 scenes, taken as missing"
        assert capsys.readouterr().out.count(said) == (0 if "missing_zones" in rule else 2)


def test_c09_scenes_table_lists_every_scene_by_key(step: Callable[..., int], tmp_path: Path) -> None:
    assert step("generate_3b_images") == 0
    table = read_scenes(tmp_path / "scenes")
    assert list(table["key"]) == ["s1a_north_ASC_20150102t145957", "s1a_south_ASC_20150102t145957"]
    assert list(table["area"]) == ["north", "south"]
    assert all(Path(image).is_file() for image in table["image"])
    assert (tmp_path / "scenes" / SCENES).is_file()
    place = table.to_crs(32638).geometry.iloc[0]
    assert place.bounds == pytest.approx((400_000, 3_699_040, 401_120, 3_700_000), abs=0.1)


def test_c09_tags_of_the_source_are_kept(tmp_path: Path) -> None:
    paths = {}
    for name in ("vh", "vv"):
        spec = RasterSpec(grid=grid((8, 8)), bands=(name,), dtype="float32", tags={"ORBIT": "72"})
        paths[name] = tmp_path / f"a_{name}_1.tif"
        write_raster(paths[name], backscatter((8, 8), bands=1), spec)
    write_3b(Pair(vh=paths["vh"], vv=paths["vv"], area="a", output=tmp_path / "a_3b_1.tif", root=tmp_path))
    assert describe(tmp_path / "a_3b_1.tif").tags["ORBIT"] == "72"


@pytest.mark.parametrize(
    "place",
    [Grid(None, grid((20, 24)).transform, (20, 24)), Grid(UTM, Affine(10, 0, 4e5, 0, 10, 3.7e6), (20, 24))],
    ids=["no_crs", "south_up"],
)
def test_c09_unusual_places_are_kept(script: Script, tmp_path: Path, place: Grid) -> None:
    write_area(tmp_path / "raw", "north", place, labelled=False)
    paths = {"input_path": tmp_path / "raw", "output_path": tmp_path / "scenes", "executor": "serial"}
    assert script("generate_3b_images", CONFIG_3B, **paths) == 0
    assert describe(tmp_path / "scenes" / "north" / NAME.format("3b")).grid == place
    bounds = read_scenes(tmp_path / "scenes").geometry.iloc[0].bounds
    assert (bounds == place.bounds) == (place.crs is None)


def test_c09_colliding_names_get_their_folder_as_prefix(tmp_path: Path) -> None:
    for date in ("20150102", "20150114"):
        for name in ("vh", "vv"):
            write_image(tmp_path / "raw" / "north" / date / f"s1a_{name}_.tif", backscatter((4, 4), 1), grid((4, 4)))
    names = [
        p.output.relative_to(tmp_path / "out").as_posix() for p in find_pairs(tmp_path / "raw", tmp_path / "out", "3b")
    ]
    assert names == ["north/20150102_s1a_3b_.tif", "north/20150114_s1a_3b_.tif"]


@pytest.mark.parametrize(("gone", "left"), [("vv", "vh"), ("vh", "vv")])
def test_c09_missing_twin_names_both(
    step: Callable[..., int], raw: Path, capsys: pytest.CaptureFixture[str], gone: str, left: str
) -> None:
    band(raw, gone).unlink()
    assert step("generate_3b_images") == 1
    said = capsys.readouterr().err
    assert f"{band(raw, left)} has no twin {band(raw, gone).name}" in said
    assert "Download the other raster, or take this one out" in said


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (grid((95, 112)), "size 112 x 96 px against 112 x 95 px"),
        (Grid(CRS.from_epsg(32637), grid((96, 112)).transform, (96, 112)), "CRS EPSG:32638 against EPSG:32637"),
        (grid((96, 112), (400_005.0, 3_700_000.0)), "transform"),
    ],
    ids=["size", "crs", "transform"],
)
def test_c09_pair_on_two_grids_names_both_files(
    step: Callable[..., int], raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], other: Grid, said: str
) -> None:
    write_image(band(raw, "vv"), backscatter(other.shape, bands=1), other, ("vv",))
    assert step("generate_3b_images") == 1
    message = capsys.readouterr().err
    for text in (str(band(raw, "vh")), str(band(raw, "vv")), said, "Resample one onto the other, or take both out"):
        assert text in message
    kept = [p.name for p in (tmp_path / "scenes").rglob("*.tif")]
    assert kept == ["s1a_south_3b_ASC_20150102t145957.tif"]  # the good scene is done, the bad one has no file


def test_c09_two_bands_in_one_file_are_no_polarisation(tmp_path: Path) -> None:
    pair = Pair(
        vh=tmp_path / "a_vh_1.tif", vv=tmp_path / "a_vv_1.tif", area="a", output=tmp_path / "o.tif", root=tmp_path
    )
    write_image(pair.vh, backscatter((4, 4), bands=2), grid((4, 4)))
    write_image(pair.vv, backscatter((4, 4), bands=1), grid((4, 4)))
    with pytest.raises(RasterError, match=r"a_vh_1\.tif: expected one band, found 2"):
        write_3b(pair)


@pytest.mark.parametrize("kind", ["text", "truncated"])
def test_c09_unreadable_raster_is_named_and_the_others_are_done(
    step: Callable[..., int], raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    if kind == "text":
        band(raw, "vv").write_text("404 not found")
    else:
        cut_in_half(band(raw, "vv"))
    assert step("generate_3b_images") == 1
    said = capsys.readouterr().err
    assert f"{band(raw, 'vv')}: cannot be read as a raster" in said
    assert "1 of 2 items failed, the others are kept" in said
    assert "download it again" in said
    assert list(times(tmp_path / "scenes")) == ["south/s1a_south_3b_ASC_20150102t145957.tif"]
    before = times(tmp_path / "scenes")
    write_image(band(raw, "vv"), backscatter((96, 112), bands=1), grid((96, 112)), ("vv",))
    assert step("generate_3b_images") == 0  # once mended, only the failed one is made
    after = times(tmp_path / "scenes")
    assert len(after) == 2
    assert before.items() <= after.items()


@pytest.mark.parametrize("name", ["generate_3b_images", "rasterize"])
def test_c09_no_scene_found_says_where_it_looked(
    step: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (tmp_path / "nothing").mkdir()
    assert step(name, input_path=tmp_path / "nothing") == 1
    assert f"{tmp_path / 'nothing'}: no scene found" in capsys.readouterr().err
    assert step(name, input_path=tmp_path / "nowhere") == 1
    assert f"{tmp_path / 'nowhere'}: no such folder. Set input_path" in capsys.readouterr().err


def test_c09_second_run_is_a_no_op_and_a_new_input_is_done_again(
    step: Callable[..., int], raw: Path, tmp_path: Path
) -> None:
    assert step("generate_3b_images") == 0
    before = times(tmp_path / "scenes")
    assert step("generate_3b_images") == 0
    assert times(tmp_path / "scenes") == before
    write_image(band(raw, "vh"), backscatter((96, 112), bands=1, seed=9), grid((96, 112)), ("vh",))
    assert step("generate_3b_images") == 0
    changed = {name for name, time in times(tmp_path / "scenes").items() if time != before[name]}
    assert changed == {f"north/{NAME.format('3b')}"}


# -------------------------------------------------------------------------------------------------------- rasterisation


def test_c10_masks_lie_on_the_scenes_grid_with_classes_0_1_and_ignore(
    step: Callable[..., int], raw: Path, tmp_path: Path
) -> None:
    assert step("rasterize") == 0
    path = tmp_path / "masks" / "north" / NAME.format("vh")
    info = describe(path)
    assert info.grid == describe(band(raw, "vh")).grid
    assert (info.dtype, info.nodata, info.bands) == ("uint8", IGNORE, ("water",))
    frame = gpd.read_file(raw / "north" / "north.shp")
    expected = burn(list(frame.geometry), [1] * len(frame), info.grid, info.grid.window)
    expected[:, -4:] = IGNORE
    assert np.array_equal(read_labels(path)[0], expected)


def test_c10_options_centres_only_and_nodata_labelled(step: Callable[..., int], tmp_path: Path) -> None:
    assert step("rasterize", all_touched=False, ignore_nodata=False) == 0
    assert np.array_equal(read_labels(tmp_path / "masks" / "north" / NAME.format("vh"))[0], blobs((96, 112), 0))


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:32637"])
def test_c10_labels_in_another_crs_are_reprojected(
    step: Callable[..., int], raw: Path, tmp_path: Path, crs: str
) -> None:
    place = grid((96, 112))
    write_vectors(raw / "north" / "north.shp", polygons(place, crs=crs))
    assert step("rasterize", all_touched=False, ignore_nodata=False) == 0
    expected = burn(list(polygons(place).geometry), [1] * 3, place, place.window, all_touched=False)
    found = read_labels(tmp_path / "masks" / "north" / NAME.format("vh"))[0]
    assert (found != expected).mean() < 0.001
    assert expected.any()


def spoil(raw: Path, how: str) -> None:
    labels, place = raw / "north" / "north.shp", grid((96, 112))
    if how == "attribute":
        write_vectors(labels, polygons(place, attribute="KLASSE"))
    elif how == "crs":
        (raw / "north" / "north.prj").unlink()
    elif how == "empty":
        write_vectors(labels, polygons(place).iloc[:0])
    elif how == "outside":
        write_vectors(labels, polygons(grid(origin=(700_000.0, 3_000_000.0))))
    elif how == "value":
        write_vectors(labels, polygons(place, value=700))
    elif how == "words":
        write_vectors(labels, polygons(place).assign(DN="water"))
    elif how == "several":
        write_vectors(raw / "north" / "second.shp", polygons(place))
    elif how == "none":
        for part in (raw / "north").glob("north.*"):
            part.unlink()
    else:
        labels.write_text("not a shapefile")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("attribute", ["no attribute 'DN'", "It has: KLASSE", "Set `attribute`"]),
        ("crs", ["no CRS", "Add the .prj file"]),
        ("empty", ["no polygons in it (0 features)", "Remove the file or fill it"]),
        ("outside", ["none of its 3 polygons touches the scene", "check the CRS of both"]),
        ("value", ["must hold whole numbers from 0 to 255", "700", "Set `attribute`"]),
        ("words", ["must hold whole numbers from 0 to 255", "water", "Set `attribute`"]),
        ("several", ["needs one label file for its area north", "second.shp", "Keep exactly one"]),
        ("none", ["needs one label file for its area north", "found none", "Keep exactly one"]),
        ("unreadable", ["does not begin like a .shp file (15 bytes)", "Copy or download it again"]),
    ],
)
def test_c10_wrong_labels_are_named_with_value_and_remedy(
    step: Callable[..., int], raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], how: str, said: list[str]
) -> None:
    spoil(raw, how)
    assert step("rasterize") == 1
    message = capsys.readouterr().err
    for text in [*said, str(band(raw, "vh")) if how in ("several", "none") else str(raw / "north" / "north.shp")]:
        assert text in message
    assert not (tmp_path / "masks" / "north").exists() or not list((tmp_path / "masks" / "north").iterdir())


def test_c10_no_labels_anywhere(step: Callable[..., int], raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in raw.rglob("*.shp"):
        path.unlink()
    assert step("rasterize") == 1
    assert f"{raw}: no label polygons found (.shp" in capsys.readouterr().err


def test_c10_labels_apart_belong_to_the_area_they_are_named_by(raw: Path, tmp_path: Path) -> None:
    (tmp_path / "truth").mkdir()
    for area in ("north", "south"):
        for part in (raw / area).glob(f"{area}.*"):
            shutil.move(part, tmp_path / "truth" / part.name)
    pairs = find_pairs(raw, tmp_path / "out", "vh")
    found = {pair.area: labels for labels, pair in find_labels(pairs, tmp_path / "truth", apart=True)}
    assert found == {area: tmp_path / "truth" / f"{area}.shp" for area in ("north", "south")}
    with pytest.raises(VectorError, match=r"no label polygons found"):
        list(find_labels(pairs, raw))


def test_c10_a_scenes_own_labels_win_over_those_above(raw: Path, tmp_path: Path) -> None:
    write_vectors(raw / "north" / DATE / "date.shp", polygons(grid((96, 112))))
    found = {p.area: labels.name for labels, p in find_labels(find_pairs(raw, tmp_path, "vh"), raw)}
    assert found == {"north": "date.shp", "south": "south.shp"}


def test_c13_other_settings_into_the_same_folder_are_an_error(
    step: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert step("rasterize") == 0
    before = times(tmp_path / "masks")
    assert step("rasterize") == 0
    assert step("rasterize", all_touched=False) == 1
    said = capsys.readouterr().err
    assert f"{tmp_path / 'masks'}: holds results of rasterize with other settings" in said
    assert "all_touched: True before, False now" in said
    assert "Choose another output_path" in said
    assert times(tmp_path / "masks") == before


def test_c09_a_scene_that_two_areas_share_by_name_is_refused(raw: Path, script: Script, tmp_path: Path) -> None:
    for name in ("vh", "vv"):
        shutil.copy(band(raw, name), raw / "south" / DATE / NAME.format(name))
    paths = {"input_path": raw, "output_path": tmp_path / "scenes", "executor": "serial"}
    assert script("generate_3b_images", CONFIG_3B, **paths) == 1
    with pytest.raises(CatalogError, match="no such table"):
        read_table(tmp_path / "scenes" / SCENES, SCENE_COLUMNS, "generate_3b_images")
