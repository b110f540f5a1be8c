"""AI4Arctic scenes: names, both products in, bands in the order of the config, charts, and the submission out."""

from __future__ import annotations

import json
import math
from datetime import datetime
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely

from swath.challenges.ai4arctic.charts import CHARTS
from swath.challenges.ai4arctic.import_scenes import ImportIceConfig, ice_jobs, swath_grid
from swath.challenges.ai4arctic.product import CHANNELS, SAR, parse_name
from swath.challenges.ai4arctic.simulate import MEAN_STD, IceScenesConfig
from swath.challenges.ai4arctic.submission import IceSubmissionConfig, check, plan, read_submission
from swath.data.pairing import pair_masks
from swath.data.tables import SCENES, read_scenes, write_table
from swath.errors import CatalogError, ConfigError, RasterError
from swath.geo.grid import Window
from swath.geo.layout import RasterSpec
from swath.geo.netcdf import NetcdfReader, Variable, write_netcdf
from swath.geo.polygons import PolygonRules, polygonize
from swath.geo.raster import describe, read_image, read_labels
from swath.geo.raster_writer import write_raster
from tests.conftest import Script

CIS = "S1A_EW_GRDM_1SDH_20190105T102726_20190105T102828_025341_02CE03_7680_icechart_cis_SGRDIEA_20190105T1023Z_pl_a.nc"
DMI = "S1B_EW_GRDM_1SDH_20180124T194759_20180124T194859_020301_022AA4_1F75_icechart_dmi_201801241950_SouthEast_RIC.nc"
SIZE = 110  # at 80 m; no multiple of the 25 pixels of a cell


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scenes with charts and one without, as either product, of the same ice."""
    folder = tmp_path_factory.mktemp("ice")
    for product in ("ready_to_train", "raw"):
        config = IceScenesConfig(
            output_path="unused", product=product, train_scenes=2, test_scenes=1, size=SIZE  # type: ignore[arg-type]
        )  # fmt: skip
        for job in config.scenes_to_make(folder / product):
            job.run()
    return folder


def imported(source: Path, output: Path, **changes: object) -> gpd.GeoDataFrame:
    config = ImportIceConfig(input_path=str(source), output_path=str(output), **changes)  # type: ignore[arg-type]
    write_table(output / SCENES, [job.run() for job in config.scenes_to_import(output)])
    return read_scenes(output)


# --------------------------------------------------------------------------------------------------------------- names


def test_c24_long_names() -> None:
    cis, dmi = parse_name(CIS), parse_name(DMI)
    assert cis is not None
    assert dmi is not None
    assert (cis.key, dmi.key) == ("20190105T102726_cis", "20180124T194759_dmi")
    assert cis.columns == {
        "mission": "S1A", "start": "2019-01-05T10:27:26", "end": "2019-01-05T10:28:28", "provider": "cis",
        "region": "SGRDIEA", "year": 2019, "month": 1, "hour": 10, "day_of_year": 5,
    }  # fmt: skip
    assert (dmi.mission, dmi.provider, dmi.region, dmi.start) == (
        "S1B",
        "dmi",
        "SouthEast",
        datetime(2018, 1, 24, 19, 47, 59),
    )
    assert parse_name(DMI.removesuffix("_RIC.nc") + ".nc").region == "SouthEast"  # type: ignore[union-attr]


def test_c24_short_names_and_others() -> None:
    short = parse_name("20191231T235959_dmi_prep.nc")
    assert short is not None
    assert short.key == "20191231T235959_dmi"
    assert (short.mission, short.region, short.columns["day_of_year"]) == (None, None, 365)
    assert parse_name("20191231T235959_dmi_prep_reference.nc") == short
    for name in ("20191331T235959_dmi_prep.nc", "20191231T235959_xyz_prep.nc", "a.nc", CIS.replace("_cis_", "_")):
        assert parse_name(name) is None, name


def test_c24_bad_names_are_listed(tmp_path: Path) -> None:
    for name in ("20191231T235959_dmi_prep.nc", "20191331T000000_dmi_prep.nc", "other.nc"):
        (tmp_path / name).touch()
    config = ImportIceConfig(input_path=str(tmp_path), output_path="unused")
    with pytest.raises(CatalogError, match=r"20191331T000000_dmi_prep\.nc, other\.nc.*rename or remove"):
        ice_jobs(config, tmp_path)


def test_c24_a_scene_twice_and_an_empty_folder_are_errors(made: Path, tmp_path: Path) -> None:
    first = sorted((made / "ready_to_train" / "train").glob("*.nc"))[0]
    long = next(p for p in (made / "raw" / "train").glob("*.nc") if parse_name(p.name).key in first.name)  # type: ignore[union-attr]
    for path in (first, long):
        (tmp_path / path.name).symlink_to(path)
    with pytest.raises(CatalogError, match="are both"):
        ice_jobs(ImportIceConfig(input_path=str(tmp_path), output_path="unused"), tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CatalogError, match="no scene found"):
        ice_jobs(ImportIceConfig(input_path=str(tmp_path / "empty"), output_path="unused"), tmp_path)


def test_c24_ready_to_train_files_take_their_origin_from_themselves_or_from_a_list(made: Path, tmp_path: Path) -> None:
    source = sorted((made / "ready_to_train" / "train").glob("*.nc"))[0]
    jobs = ice_jobs(ImportIceConfig(input_path=str(source.parent), output_path="unused"), tmp_path)
    assert jobs[0].area == jobs[0].name.region
    assert jobs[0].name.mission in ("S1A", "S1B")
    # a file that does not say where it comes from
    provider = source.stem.split("_")[1]
    name = CIS.replace("20190105T102726", source.name[:15]).replace("_cis_SGRDIEA_", "_cis_Elsewhere_")
    name = (
        name
        if provider == "cis"
        else DMI.replace("20180124T194759", source.name[:15]).replace("SouthEast", "Elsewhere")
    )
    (tmp_path / "in").mkdir()
    with NetcdfReader(source) as reader:
        kept = {n: Variable(dims=reader.dims(n), data=reader.read(n)) for n in reader.names}
    write_netcdf(tmp_path / "in" / source.name, kept.items())
    (tmp_path / "names.json").write_text(json.dumps([name]))
    paths = {"input_path": str(tmp_path / "in"), "output_path": "unused"}
    assert ice_jobs(ImportIceConfig(**paths), tmp_path)[0].area == provider  # type: ignore[arg-type]
    listed = ice_jobs(ImportIceConfig(**paths, names_path=str(tmp_path / "names.json")), tmp_path)  # type: ignore[arg-type]
    assert listed[0].area == "Elsewhere"
    (tmp_path / "names.json").write_text('["x.nc"]')
    with pytest.raises(CatalogError, match=r"names.json: names that tell.*x\.nc"):
        ice_jobs(ImportIceConfig(**paths, names_path=str(tmp_path / "names.json")), tmp_path)  # type: ignore[arg-type]


# -------------------------------------------------------------------------------------------------------------- import


def test_c27_ready_to_train_scenes_keep_the_values_of_the_file(made: Path, tmp_path: Path) -> None:
    scenes = imported(made / "ready_to_train" / "train", tmp_path)
    assert len(scenes) == 2
    for scene in scenes.itertuples():
        image, info = read_image(Path(scene.image)), describe(Path(scene.image))
        assert info.bands == CHANNELS
        assert info.grid == swath_grid((SIZE, SIZE), 2)
        with NetcdfReader(made / "ready_to_train" / "train" / f"{scene.key}_prep.nc") as reader:
            for name in SAR:
                stored = reader.read(name)
                np.testing.assert_array_equal(image[CHANNELS.index(name)], np.where(stored == 0, np.nan, stored))
            np.testing.assert_array_equal(
                image[CHANNELS.index("distance_map")], reader.read("distance_map")
            )  # 0 counts
            # the middle of cell (1, 2) is the middle of pixel (37, 62)
            middle = image[CHANNELS.index("btemp_36_5v"), 37, 62]
            assert middle == pytest.approx(reader.read("btemp_36_5v")[1, 2], abs=1e-6)
        assert scene.measured == pytest.approx(np.isfinite(image[0]).mean())
        assert (scene.area, scene.month) == (scene.region, int(scene.key[4:6]))


def test_c27_bands_follow_the_order_of_the_config(made: Path, tmp_path: Path) -> None:
    order = ("t2m", "nersc_sar_secondary", "latitude", "btemp_6_9h", "month_cos", "nersc_sar_primary")
    one = imported(made / "raw" / "train", tmp_path / "one", channels=order)
    two = imported(made / "raw" / "train", tmp_path / "two", channels=order[::-1])
    for a, b in zip(one["image"], two["image"], strict=True):
        assert describe(Path(a)).bands == order
        np.testing.assert_array_equal(read_image(Path(a)), read_image(Path(b))[::-1])


def test_c27_channels_that_are_not_there_name_the_file_and_what_is(made: Path, tmp_path: Path) -> None:
    config = ImportIceConfig(
        input_path=str(made / "raw" / "train"), output_path="unused", channels=("t2m", "glcm", "salinity")
    )
    with pytest.raises(
        RasterError, match=r"icechart.*\.nc: no variable 'glcm', 'salinity'\. It has: btemp_10_7h.*latitude"
    ):
        ice_jobs(config, tmp_path)[0].run()
    assert not list(tmp_path.rglob("*.tif"))
    with pytest.raises(ConfigError, match="t2m: name each band once"):
        ImportIceConfig(input_path="x", output_path="y", channels=("t2m", "t2m"))
    for factor in (1, 11):
        with pytest.raises(ConfigError, match=f"factor={factor}"):
            ImportIceConfig(input_path="x", output_path="y", factor=factor)


def test_c27_files_of_neither_product_and_grids_that_do_not_fit_are_errors(tmp_path: Path) -> None:
    def job(name: str, **variables: Variable) -> None:
        write_netcdf(tmp_path / name / "20191231T235959_dmi_prep.nc", variables.items())
        config = ImportIceConfig(input_path=str(tmp_path / name), output_path="unused", channels=("t2m",))
        ice_jobs(config, tmp_path)[0].run()

    sar = Variable(dims=("r", "c"), data=np.ones((100, 100), np.float32))
    place = Variable(dims=("a", "b"), data=np.arange(4.0).reshape(2, 2))
    with pytest.raises(RasterError, match="neither the raw product"):
        job("neither", nersc_sar_primary=sar)
    grids = {"sar_grid2d_latitude": place, "sar_grid2d_longitude": place, "nersc_sar_primary": sar}
    with pytest.raises(RasterError, match=r"'t2m' is \(9, 4\).*about \(4, 4\) cells"):
        job("cells", **grids, t2m=Variable(dims=("x", "y"), data=np.ones((9, 4))))


def test_c28_both_products_give_the_same_scenes(made: Path, tmp_path: Path) -> None:
    """Two ways to 80 m: the ready-to-train files, and the raw ones reduced here and standardised afterwards."""
    ready = imported(made / "ready_to_train" / "train", tmp_path / "ready").set_index("key")
    raw = imported(made / "raw" / "train", tmp_path / "raw").set_index("key")
    for key in ready.index:
        a, b = read_image(Path(ready.loc[key, "image"])), read_image(Path(raw.loc[key, "image"]))
        mean, deviation = (np.array([MEAN_STD[c][i] for c in CHANNELS])[:, None, None] for i in (0, 1))
        inner = np.s_[:, 2:-2, 12:-12]  # away from the edge of the swath
        np.testing.assert_allclose(a[inner], ((b - mean) / deviation)[inner], atol=2e-4)


def test_c29_places_angles_and_times(made: Path, tmp_path: Path) -> None:
    channels = ("latitude", "longitude", "sar_incidenceangle", "month_sin", "month_cos", "day_sin", "day_cos")
    for product in ("ready_to_train", "raw"):
        scenes = imported(made / product / "train", tmp_path / product, channels=channels)
        for scene in scenes.itertuples():
            latitude, longitude, angle, *times = read_image(Path(scene.image))
            inside = shapely.Point(longitude[50, 60], latitude[50, 60])
            assert scene.geometry.contains(inside)
            assert scene.geometry.bounds[0] <= longitude.min() + 1e-4
            turn, day = 2 * math.pi * (scene.month - 1) / 12, 2 * math.pi * (scene.day_of_year - 1) / 366
            expected = [math.sin(turn), math.cos(turn), math.sin(day), math.cos(day)]
            np.testing.assert_allclose([t.mean() for t in times], expected, atol=1e-6)
            if product == "raw":  # linear from 19 to 47 degrees over the 2 SIZE pixels of 40 m
                place = (np.arange(SIZE) * 2 + 0.5) / (2 * SIZE - 1)
                np.testing.assert_allclose(angle[7], 19 + 28 * place, atol=1e-4)
        assert scenes.crs.to_epsg() == 4326
        assert scenes["crs"].isna().all()


@pytest.mark.parametrize("factor", [2, 3, 5, 10])
def test_c30_reduced_scenes_are_area_means_of_the_size_that_the_rule_gives(
    made: Path, tmp_path: Path, factor: int
) -> None:
    scenes = imported(made / "raw" / "train", tmp_path, factor=factor, channels=SAR)
    size = int(2 * SIZE // 2 // (factor / 2))
    for scene in scenes.itertuples():
        assert (scene.height, scene.width, scene.official_height) == (size, size, SIZE)
        assert describe(Path(scene.image)).grid.resolution == (40 * factor, 40 * factor)
        source = next((made / "raw" / "train").glob(f"*{scene.key[:15]}*"))
        with NetcdfReader(source) as reader:
            blocks = reader.read(SAR[0])[: size * factor, : size * factor].reshape(size, factor, size, factor)
        share = np.isfinite(blocks).mean(axis=(1, 3))
        expected = np.where(
            share >= 0.5, np.nansum(blocks, axis=(1, 3)) / np.isfinite(blocks).sum(axis=(1, 3)).clip(1), np.nan
        )
        np.testing.assert_allclose(read_image(Path(scene.image))[0], expected, rtol=1e-5)


@pytest.mark.parametrize("factor", [2, 3, 7])
def test_c30_ready_to_train_scenes_reduce_by_parts_of_pixels(made: Path, tmp_path: Path, factor: int) -> None:
    scenes = imported(made / "ready_to_train" / "train", tmp_path, factor=factor, channels=(*SAR, "t2m"))
    size = int(SIZE // (factor / 2))
    for scene in scenes.itertuples():
        image = read_image(Path(scene.image))
        assert image.shape == (3, size, size)
        with NetcdfReader(made / "ready_to_train" / "train" / f"{scene.key}_prep.nc") as reader:
            stored = reader.read(SAR[0])
        stored[stored == 0] = np.nan
        # the pixel in the middle, its parts by hand: rows and columns from 20 f to 21 f, in halves of pixels
        fine = np.kron(stored, np.ones((2, 2)))[20 * factor : 21 * factor, 20 * factor : 21 * factor]
        assert image[0, 20, 20] == pytest.approx(fine.mean(), abs=1e-5)


def test_c31_labels_are_three_bands_of_bytes_on_the_grid_of_their_scene(made: Path, tmp_path: Path) -> None:
    scenes = imported(made / "ready_to_train" / "train", tmp_path, ignore_nodata=False)
    for key, path in pair_masks(scenes, tmp_path / "labels").items():
        info = describe(path)
        assert (info.bands, info.dtype, info.nodata) == (("SIC", "SOD", "FLOE"), "uint8", 255)
        assert info.grid == describe(Path(scenes.set_index("key").loc[key, "image"])).grid
        with NetcdfReader(made / "ready_to_train" / "train" / f"{key}_prep.nc") as reader:
            np.testing.assert_array_equal(read_labels(path), np.stack([reader.read(c) for c in CHARTS]))


def test_c26_c31_polygons_of_the_raw_product_become_the_same_labels(made: Path, tmp_path: Path) -> None:
    """The ready-to-train charts were made from the same polygons: equal but where a coast or an edge crosses four pixels."""
    ready = imported(made / "ready_to_train" / "train", tmp_path / "ready")
    raw = imported(made / "raw" / "train", tmp_path / "raw")
    raw_masks = pair_masks(raw, tmp_path / "raw" / "labels")
    for key, path in pair_masks(ready, tmp_path / "ready" / "labels").items():
        a, b = read_labels(path), read_labels(raw_masks[key])
        assert (a == b).mean() > 0.98
        for chart, classes in enumerate(CHARTS.values()):
            assert set(np.unique(b[chart])) <= {*range(classes), 255}


def test_c31_pixels_without_sar_have_no_label(made: Path, tmp_path: Path) -> None:
    with_rule = imported(made / "raw" / "train", tmp_path / "a", channels=("t2m",), factor=3)
    without = imported(made / "raw" / "train", tmp_path / "b", channels=SAR, factor=3, ignore_nodata=False)
    for a, b in zip(with_rule.itertuples(), without.itertuples(), strict=True):
        missing = np.isnan(read_image(Path(b.image))[0])
        assert missing.any()
        labels = {f: read_labels(tmp_path / f / "labels" / a.area / f"{a.key}.tif") for f in "ab"}
        assert (labels["a"][:, missing] == 255).all()
        np.testing.assert_array_equal(labels["a"][:, ~missing], labels["b"][:, ~missing])


def test_c31_charts_may_lie_apart_and_have_to_hold_classes(made: Path, tmp_path: Path) -> None:
    for product in ("ready_to_train", "raw"):
        folder = made / product
        assert not imported(folder / "test", tmp_path / product / "bare")["labelled"].any()
        scenes = imported(folder / "test", tmp_path / product / "with", labels_path=str(folder / "truth"))
        assert scenes["labelled"].all()
        assert len(pair_masks(scenes, tmp_path / product / "with" / "labels")) == 1
    with pytest.raises(CatalogError, match="no charts of"):
        imported(made / "raw" / "train", tmp_path / "x", labels_path=str(made / "raw" / "truth"))
    truth = sorted((made / "ready_to_train" / "truth").glob("*.nc"))[0]
    wrong = Variable(dims=("r", "c"), data=np.full((SIZE, SIZE), 11, np.uint8))
    write_netcdf(tmp_path / "wrong" / truth.name, ((c, wrong) for c in CHARTS))
    with pytest.raises(RasterError, match=r"reference\.nc: variable 'SIC' holds \[11\]; classes are 0 to 10"):
        imported(made / "ready_to_train" / "test", tmp_path / "y", labels_path=str(tmp_path / "wrong"))


def test_scenes_without_a_place_on_earth_have_polygons_in_metres(made: Path, tmp_path: Path) -> None:
    scene = next(imported(made / "raw" / "train", tmp_path, channels=SAR, factor=4).itertuples())
    labels = read_labels(tmp_path / "labels" / scene.area / f"{scene.key}.tif")[0]
    frame = polygonize(labels, describe(Path(scene.image)).grid, PolygonRules(classes=(0, 10)))
    assert frame.crs is None
    assert frame.area.sum() == pytest.approx(np.isin(labels, (0, 10)).sum() * 160**2)


# ------------------------------------------------------------------------------------------------------ generated data


def test_generated_scenes_follow_the_seed_and_hold_what_they_should(made: Path, tmp_path: Path) -> None:
    config = IceScenesConfig(output_path="unused", train_scenes=1, test_scenes=0, size=SIZE)
    job = config.scenes_to_make(tmp_path)[0]
    job.run()
    with (
        NetcdfReader(job.outputs[0]) as again,
        NetcdfReader(made / "ready_to_train/train" / job.outputs[0].name) as first,
    ):
        assert again.names == first.names
        for name in first.names:
            np.testing.assert_array_equal(again.read(name), first.read(name))
        assert {*CHANNELS, *CHARTS, "sar_grid2d_latitude", "sar_grid2d_longitude"} == {*first.names}
        assert first.shape("t2m") == (5, 5)  # 110 pixels of 80 m are 4.4 cells
        ice, sic = first.read("btemp_18_7h"), first.read("SIC")
        assert first.attributes["original_id"].endswith(".nc")
    assert (sic == 255).any()
    assert ice.std() > 0
    for path in (made / "ready_to_train" / "test").glob("*.nc"):
        with NetcdfReader(path) as reader:
            assert not {*CHARTS} & {*reader.names}


# ---------------------------------------------------------------------------------------------------------- submission


@pytest.fixture
def predicted(made: Path, tmp_path: Path) -> Path:
    """Test scenes at a factor of 5 and classes predicted for them, some pixels without."""
    scenes = imported(made / "raw" / "test", tmp_path / "scenes", channels=SAR, factor=5)
    rng = np.random.default_rng(0)
    for scene in scenes.itertuples():
        grid = describe(Path(scene.image)).grid
        classes = np.stack([rng.integers(0, n, grid.shape) for n in CHARTS.values()]).astype(np.uint8)
        classes[:, 3, :7] = 255
        spec = RasterSpec(grid=grid, bands=tuple(CHARTS), dtype="uint8", nodata=255)
        write_raster(tmp_path / "classes" / scene.area / f"{scene.key}.tif", classes, spec)
    return tmp_path


def config_of(folder: Path, **changes: object) -> IceSubmissionConfig:
    paths = {"input_path": folder / "classes", "scenes_path": folder / "scenes", "output_path": folder / "out"}
    return IceSubmissionConfig(**({k: str(v) for k, v in paths.items()} | changes))  # type: ignore[arg-type]


def test_c100_submission_has_each_chart_at_80_m(predicted: Path) -> None:
    made = config_of(predicted).submit({})
    (raster,) = (predicted / "classes").rglob("*.tif")
    key, classes = raster.stem, read_labels(raster)
    found = read_submission(made.archive)
    assert set(found) == {key}
    assert set(found[key]) == set(CHARTS)
    # 80 m pixel r has its middle at 80 r + 40 m, in the row of 200 m that holds it; the last row goes on
    cell = np.minimum((80 * np.arange(SIZE) + 40) // 200, classes.shape[1] - 1)
    expected = np.where(classes == 255, 0, classes)[:, cell[:, None], cell]
    for band, chart in enumerate(CHARTS):
        np.testing.assert_array_equal(found[key][chart], expected[band])
    with NetcdfReader(made.archive) as reader:
        assert reader.names == tuple(sorted(f"{key}_{chart}" for chart in CHARTS))
        assert reader.dims(f"{key}_SOD") == (f"{key}_SOD_dim0", f"{key}_SOD_dim1")
        assert reader.compression(f"{key}_SOD") == ("gzip", 1)
        assert reader.read(f"{key}_SOD").dtype == np.uint8
    assert made.metrics["missing_share"] == pytest.approx(7 / classes[0].size)
    assert key in made.lines[1]


def test_c100_what_was_imported_as_labels_comes_back(made: Path, tmp_path: Path) -> None:
    imported(made / "ready_to_train" / "test", tmp_path / "scenes", labels_path=str(made / "ready_to_train" / "truth"), ignore_nodata=False)  # fmt: skip
    (tmp_path / "classes").symlink_to(tmp_path / "scenes" / "labels")
    found = read_submission(config_of(tmp_path, missing=3).submit({}).archive)
    for key, charts in found.items():
        with NetcdfReader(made / "ready_to_train" / "truth" / f"{key}_prep_reference.nc") as reader:
            for chart, values in charts.items():
                truth = reader.read(chart)
                np.testing.assert_array_equal(values, np.where(truth == 255, 3, truth))


def test_c100_numbers_of_a_regression_are_rounded_and_clamped(predicted: Path) -> None:
    (raster,) = (predicted / "classes").rglob("*.tif")
    values = np.zeros((3, *describe(raster).grid.shape), np.float32)
    values[0, 0, :6] = [-1.2, 0.4, 0.6, 9.5001, 10.7, np.nan]
    write_raster(
        raster, values, RasterSpec(grid=describe(raster).grid, bands=tuple(CHARTS), dtype="float32", nodata=math.nan)
    )
    found = read_submission(config_of(predicted).submit({}).archive)[raster.stem]["SIC"]
    np.testing.assert_array_equal(found[0, [1, 3, 6, 8, 11, 13]], [0, 0, 1, 10, 10, 0])


def test_c100_predictions_that_do_not_fit_are_errors(predicted: Path) -> None:
    (raster,) = (predicted / "classes").rglob("*.tif")
    grid, classes = describe(raster).grid, read_labels(raster)
    spec = RasterSpec(grid=grid, bands=tuple(CHARTS), dtype="uint8", nodata=255)
    write_raster(raster, np.where(classes == 5, 6, classes), spec)
    with pytest.raises(RasterError, match="class 6 in SOD, whose classes are 0 to 5"):
        config_of(predicted).submit({})
    write_raster(raster, classes[:2], RasterSpec(grid=grid, bands=("SIC", "FLOE"), dtype="uint8", nodata=255))
    with pytest.raises(RasterError, match="no band SOD; it has SIC, FLOE"):
        config_of(predicted).submit({})
    small = grid.at(Window(0, 0, 8, 8))
    write_raster(raster, classes[:, :8, :8], RasterSpec(grid=small, bands=tuple(CHARTS), dtype="uint8", nodata=255))
    with pytest.raises(RasterError, match=r"\(8, 8\) pixels, its scene"):
        config_of(predicted).submit({})
    raster.rename(raster.with_name("20000101T000000_cis.tif"))
    with pytest.raises(
        CatalogError, match=f"no prediction of {raster.stem} .1 scenes without a prediction, 1 predictions"
    ):
        config_of(predicted).submit({})
    assert not list((predicted / "out").glob("*"))
    with pytest.raises(ConfigError, match="missing=6"):
        config_of(predicted, missing=6)


def test_c100_a_submission_that_is_not_as_it_should_be_does_not_stay(predicted: Path) -> None:
    plans = plan(config_of(predicted))
    key = plans[0].key
    good = {f"{key}_{chart}": np.zeros((SIZE, SIZE), np.uint8) for chart in CHARTS}

    def faults(changes: dict[str, np.ndarray | None], level: int = 1) -> str:
        arrays = {name: array for name, array in (good | changes).items() if array is not None}
        named = ((n, Variable(dims=(f"{n}_dim0", f"{n}_dim1"), data=a)) for n, a in arrays.items())
        write_netcdf(predicted / "s.nc", named, level=level)
        with pytest.raises(RasterError) as caught:
            check(predicted / "s.nc", plans)
        assert not (predicted / "s.nc").exists()
        return str(caught.value)

    assert f"{key}_SIC is missing" in faults({f"{key}_SIC": None})
    assert "other_SIC is not asked for" in faults({"other_SIC": good[f"{key}_SIC"]})
    assert "instead of (110, 110)" in faults({f"{key}_SIC": np.zeros((SIZE, 9), np.uint8)})
    assert "uint8 up to 255" in faults({f"{key}_SOD": np.full((SIZE, SIZE), 255, np.uint8)})
    assert "float32" in faults({f"{key}_SOD": np.zeros((SIZE, SIZE), np.float32)})
    assert "zlib level 1" in faults({}, level=4)


# ------------------------------------------------------------------------------------------------------- entry points


@pytest.mark.system
def test_c01_entry_points_take_the_configs_of_the_challenge(
    script: Script, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def start(name: str, config: str, **paths: object) -> int:
        return script(name, f"configs/ai4arctic/{config}.py", **paths)

    out = tmp_path / "input"
    options = {"output_path": out, "train_scenes": 1, "test_scenes": 1, "size": 100, "executor": "serial"}
    assert start("generate_demo_scenes", "generate_demo_scenes", **options) == 0
    places = {"input_path": out / "test", "labels_path": out / "truth", "output_path": tmp_path / "scenes"}
    assert start("import_scenes", "import_scenes_test", **places, executor="serial") == 0
    (tmp_path / "classes").symlink_to(tmp_path / "scenes" / "labels")
    places = {"input_path": tmp_path / "classes", "scenes_path": tmp_path / "scenes", "output_path": tmp_path / "out"}
    assert start("to_submission", "to_submission", **places) == 0
    assert "1 scenes, 3 charts, checked" in capsys.readouterr().out
    tiles = {
        "input_path": tmp_path / "scenes",
        "masks_path": tmp_path / "scenes" / "labels",
        "output_path": tmp_path / "tiles",
    }
    assert start("generate_tiles", "generate_tiles", **tiles, tiling__size=64, executor="serial") == 0
    table = gpd.read_parquet(tmp_path / "tiles" / "tiles.parquet")
    assert table["crs"].isna().all()
    assert {"region", "month", "provider", "mission", "factor"} <= {*table.columns}
    # a config of another step does not fit
    assert start("import_scenes", "to_submission") != 0
    assert "must be a SceneImport, found IceSubmissionConfig" in capsys.readouterr().err
