"""Scenes to tiles and back, through the scripts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
from affine import Affine

from swath.data.samples.dataset import Crops, TileDataset
from swath.data.samples.samplers import Draw
from swath.data.tables import TILE_COLUMNS, TILES, read_scenes, read_table
from swath.data.zones import rule_of
from swath.errors import CatalogError
from swath.geo.grid import Grid, Window
from swath.geo.layout import RasterSpec
from swath.geo.raster import describe, read_image, read_labels
from swath.geo.raster_writer import write_raster
from swath.geo.zones import MissingZones
from swath.labels import IGNORE
from tests.conftest import Script
from tests.synthetic import (
    NODATA,
    UTM,
    backscatter,
    blobs,
    cut_in_half,
    grid,
    times,
    write_image,
    write_mask,
    write_scenes,
)

SIZE, STRIDE = "configs/demo/generate_tiles.py", "configs/demo/generate_test_tiles.py"
SHAPE = (90, 110)


@pytest.fixture
def cut(script: Script, tmp_path: Path) -> Callable[..., int]:
    """Cut scenes/ (and masks/) of `tmp_path` into tiles/; ConstantSize of 48 px with 8 px overlap unless told."""

    def run(config: str = SIZE, **overrides: object) -> int:
        paths = {"input_path": tmp_path / "scenes", "output_path": tmp_path / "tiles", "executor": "serial"}
        masks = {"masks_path": tmp_path / "masks"} if config == SIZE else {}
        tiling = {"tiling__size": 48} | ({"tiling__min_overlap": 8} if config == SIZE else {"tiling__stride": 48})
        return script("generate_tiles", config, **(paths | masks | tiling | overrides))

    return run


@pytest.fixture
def scenes(tmp_path: Path) -> list[Path]:
    return write_scenes(tmp_path / "scenes", 2, SHAPE, tmp_path / "masks")


def with_zones(scene: Path) -> np.ndarray:
    """Put 0 into a zone of 100 px, of which one tile sees 20 and its neighbour the rest, and into one of 63; the large one."""
    large = np.zeros(SHAPE, bool)
    large[44:54, 60:70] = True
    image = read_image(scene)
    image[:, large] = 0
    image[:, 70:79, 4:11] = 0
    image[1, 10:30, 4:30] = 0  # zeros in one band alone
    write_image(scene, image, describe(scene).grid, ("vh", "vv", "mean"))
    return large


def test_c45_a_zone_that_is_large_in_the_scene_is_missing_in_every_tile(
    cut: Callable[..., int], scenes: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, large = read_labels(tmp_path / "masks" / "area0" / scenes[0].name)[0], with_zones(scenes[0])
    assert cut(STRIDE, masks_path=tmp_path / "masks", tiling__size=46, tiling__stride=46) == 0
    assert "zones of 0 in all bands, 64 px or more: in 2 of 12 tiles and 1 of 2 scenes" in capsys.readouterr().out
    table, scene = tiles_of(tmp_path / "tiles"), read_image(scenes[0])
    assert sorted(table["zone_pixels"][table["zone_pixels"] > 0]) == [20, 80]
    for row in table[table["area"] == "area0"].to_dict("records"):
        inside = Window(row["row"], row["col"], row["height"], row["width"]).intersect(Window(0, 0, *SHAPE))
        image = read_image(tmp_path / "tiles" / row["image"])[:, : inside.height, : inside.width]
        labels = read_labels(tmp_path / "tiles" / row["mask"])[0, : inside.height, : inside.width]
        zone = large[inside.slices]
        np.testing.assert_array_equal(image, np.where(zone, np.nan, scene[:, *inside.slices]))
        np.testing.assert_array_equal(labels, np.where(zone, IGNORE, before[inside.slices]))


@pytest.mark.system
def test_c45_windows_of_scenes_lose_the_zones_that_tiles_lose(
    cut: Callable[..., int], script: Script, scenes: list[Path], tmp_path: Path
) -> None:
    with_zones(scenes[0])
    tables = {}
    for name, options in {"tiles": {}, "windows": {"write": False}, "all": {"missing_zones": None}}.items():
        assert cut(masks_path=tmp_path / "masks", output_path=tmp_path / name, **options) == 0
        assert script("generate_tiles_stats", "configs/demo/generate_tiles_stats.py", input_path=tmp_path / name) == 0
        tables[name] = gpd.read_parquet(tmp_path / name / "tile_stats.parquet")
    for cache in ("off", "ram", "mmap"):
        pair = [
            TileDataset(
                tables[name], tmp_path / name, ["water"], Crops(size=32), cache=cache, cache_path=tmp_path / "c"
            )
            for name in ("tiles", "windows")
        ]
        for item in [*range(len(pair[0])), *(Draw(n % len(pair[0]), (1, n)) for n in range(20))]:
            files, windows = (data[item] for data in pair)
            np.testing.assert_array_equal(files["image"], windows["image"])
            np.testing.assert_array_equal(files["target"]["water"], windows["target"]["water"])
    for column in ("valid_ratio", "target_ratio", "labelled_ratio", "content", "zone_pixels"):
        assert list(tables["tiles"][column]) == list(tables["windows"][column]), column
    assert tables["tiles"]["valid_ratio"].mean() < tables["all"]["valid_ratio"].mean()
    assert rule_of([tables["tiles"], tables["windows"]]) == MissingZones(value=0.0, min_pixels=64)
    with pytest.raises(
        CatalogError, match=r"cut with different missing_zones: .* with missing_zones=None.*Cut all with one"
    ):
        rule_of([tables["tiles"], tables["all"]])


def tiles_of(folder: Path) -> gpd.GeoDataFrame:
    return read_table(folder / TILES, TILE_COLUMNS, "generate_tiles")


def test_c11_tiles_are_windows_of_image_and_mask_in_place(
    cut: Callable[..., int], scenes: list[Path], tmp_path: Path
) -> None:
    assert cut() == 0
    table = tiles_of(tmp_path / "tiles")
    assert len(table) == 2 * 3 * 3
    for i, scene in enumerate(scenes):
        image, mask, place = read_image(scene), blobs(SHAPE, i), describe(scene).grid
        for tile in table[table["area"] == f"area{i}"].itertuples():
            window = Window(tile.row, tile.col, tile.height, tile.width)
            info = describe(tmp_path / "tiles" / tile.image)
            assert info.path.name == f"tile_{tile.col}_{tile.row}.tif"
            assert info.path.parent.name == f"{scene.stem}_tiles"
            assert info.grid.difference(place.at(window)) is None
            assert (info.bands, info.nodata) == (("vh", "vv", "mean"), NODATA)
            assert np.array_equal(read_image(info.path), image[:, *window.slices], equal_nan=True)
            assert np.array_equal(read_labels(tmp_path / "tiles" / tile.mask)[0], mask[window.slices])
            assert describe(tmp_path / "tiles" / tile.mask).grid == info.grid


def test_c14_table_has_keys_cores_and_footprints(cut: Callable[..., int], scenes: list[Path], tmp_path: Path) -> None:
    assert cut() == 0
    table = tiles_of(tmp_path / "tiles")
    assert table["key"].is_unique
    assert table["key"].iloc[0] == "s1a_area0_ASC_20150102/tile_0_0"
    owners = np.zeros(SHAPE, int)
    for t in table[table["area"] == "area0"].itertuples():
        owners[Window(t.core_row, t.core_col, t.core_height, t.core_width).slices] += 1
    assert (owners == 1).all()
    on_ground = table[table["area"] == "area0"].to_crs(32638).geometry
    assert on_ground.area.to_numpy() == pytest.approx(480.0**2, rel=1e-4)
    assert on_ground.union_all().area == pytest.approx(900 * 1100, rel=1e-4)


@pytest.mark.parametrize("tiling", [{}, {"tiling__edge": "shift"}, {"tiling__stride": 40}])
def test_c97_test_tiles_merged_are_the_scene_again(
    cut: Callable[..., int], script: Script, scenes: list[Path], tmp_path: Path, tiling: dict[str, object]
) -> None:
    assert cut(STRIDE, **tiling) == 0
    padded = [np.isnan(read_image(p)[0, -1]).all() for p in (tmp_path / "tiles").rglob("tile_0_*.tif")]
    assert any(padded) == ("tiling__edge" not in tiling)
    paths = {
        "input_path": tmp_path / "tiles" / "images",
        "tiles_path": tmp_path / "tiles",
        "output_path": tmp_path / "out",
    }
    assert script("merge_tiles", "configs/demo/merge_tiles.py", **paths) == 0
    for i, scene in enumerate(scenes):
        merged = tmp_path / "out" / f"area{i}" / f"s1a_area{i}_ASC_20150102.tif"
        assert describe(merged).grid == describe(scene).grid
        assert describe(merged).bands == ("vh", "vv", "mean")
        assert np.array_equal(read_image(merged), read_image(scene), equal_nan=True)
    before = times(tmp_path / "out")
    assert script("merge_tiles", "configs/demo/merge_tiles.py", **paths) == 0
    assert times(tmp_path / "out") == before


def test_c97_merge_lists_tiles_without_a_raster(
    cut: Callable[..., int], script: Script, scenes: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = {
        "input_path": tmp_path / "tiles" / "images",
        "tiles_path": tmp_path / "tiles",
        "output_path": tmp_path / "out",
    }
    assert script("merge_tiles", "configs/demo/merge_tiles.py", **paths) == 1
    assert f"{tmp_path / 'tiles' / TILES}: no such table. Run `generate_test_tiles`" in capsys.readouterr().err
    assert cut(STRIDE) == 0
    (tmp_path / "tiles" / "images" / f"{scenes[0].stem}_tiles" / "tile_48_0.tif").unlink()
    assert script("merge_tiles", "configs/demo/merge_tiles.py", **paths) == 1
    said = capsys.readouterr().err
    assert "1 tiles have no raster, the first: s1a_area0_ASC_20150102/tile_48_0. Predict all tiles first" in said


@pytest.mark.parametrize("config", [SIZE, STRIDE])
def test_c11_a_scene_smaller_than_a_tile_gives_one_padded_tile(
    cut: Callable[..., int], tmp_path: Path, config: str
) -> None:
    write_scenes(tmp_path / "scenes", 1, (30, 100), tmp_path / "masks")
    assert cut(config) == 0
    table = tiles_of(tmp_path / "tiles")
    assert set(table["row"]) == {0}
    first = table[table["col"] == 0].iloc[0]
    image = read_image(tmp_path / "tiles" / first["image"])
    assert image.shape == (3, 48, 48)
    assert np.isnan(image[:, 30:]).all()  # the place outside is nodata, never a measurement
    assert np.isfinite(image[:, :30]).all()
    if config == SIZE:
        assert (read_labels(tmp_path / "tiles" / first["mask"])[0, 30:] == IGNORE).all()


def test_c12_padding_of_a_scene_without_nodata_is_declared(cut: Callable[..., int], tmp_path: Path) -> None:
    spec = RasterSpec(grid=grid((30, 30)), bands=("a",), dtype="float32")
    write_raster(tmp_path / "scenes" / "x.tif", np.zeros((1, 30, 30)), spec)
    assert cut(STRIDE, missing_zones=None) == 0
    path = next((tmp_path / "tiles").rglob("tile_0_0.tif"))
    assert describe(path).nodata == NODATA
    assert np.isnan(read_image(path)).sum() == 48 * 48 - 900


def test_c45_listed_values_of_a_scene_are_nodata_in_its_tiles(cut: Callable[..., int], tmp_path: Path) -> None:
    image = backscatter((48, 48), bands=2, gap=0)
    image[0, :5] = 0
    image[1, 7, 7] = -32768
    write_raster(
        tmp_path / "scenes" / "x.tif", image, RasterSpec(grid=grid((48, 48)), bands=("a", "b"), dtype="float32")
    )
    assert cut(STRIDE, missing_values="0,-32768") == 0
    found = read_image(next((tmp_path / "tiles").rglob("tile_0_0.tif")))
    np.testing.assert_array_equal(found, np.where(image <= 0, np.float32(np.nan), image))


@pytest.mark.parametrize(
    "place",
    [
        Grid(None, Affine.identity(), SHAPE),
        Grid(UTM, Affine(10, 0, 4e5, 0, 10, 3.7e6), SHAPE),
        Grid(UTM, Affine.translation(4e5, 3.7e6) @ Affine.rotation(30) @ Affine.scale(10, -10), SHAPE),
    ],
    ids=["no_crs", "south_up", "rotated"],
)
def test_c11_unusual_scenes_are_cut_and_merged(
    cut: Callable[..., int], script: Script, tmp_path: Path, place: Grid
) -> None:
    image = backscatter(SHAPE)
    write_image(tmp_path / "scenes" / "odd" / "x.tif", image, place)
    assert cut(STRIDE) == 0
    table = tiles_of(tmp_path / "tiles")
    window = Window(int(table.iloc[-1]["row"]), int(table.iloc[-1]["col"]), 48, 48)
    outline = table.iloc[[-1]].to_crs(32638).geometry.iloc[0] if place.crs else table.geometry.iloc[-1]
    assert outline.bounds == pytest.approx(place.at(window).bounds, abs=0.05)
    paths = {
        "input_path": tmp_path / "tiles" / "images",
        "tiles_path": tmp_path / "tiles",
        "output_path": tmp_path / "out",
    }
    assert script("merge_tiles", "configs/demo/merge_tiles.py", **paths) == 0
    merged = tmp_path / "out" / "odd" / "x.tif"
    assert describe(merged).grid.difference(place) is None
    assert np.array_equal(read_image(merged), image, equal_nan=True)


def test_c13_second_run_changes_nothing_and_a_lost_tile_comes_back(
    cut: Callable[..., int], scenes: list[Path], tmp_path: Path
) -> None:
    assert cut() == 0
    before, table = times(tmp_path / "tiles"), tiles_of(tmp_path / "tiles")
    assert cut(executor="threads", workers=2) == 0  # where the work is done decides nothing
    assert times(tmp_path / "tiles") == before
    assert tiles_of(tmp_path / "tiles").equals(table)
    lost = next((tmp_path / "tiles" / "masks").rglob("s1a_area1*/tile_0_0.tif"))
    lost.unlink()
    assert cut() == 0
    after = times(tmp_path / "tiles")
    assert after.keys() == before.keys()
    assert {n for n in after if after[n] == before[n]} == {n for n in before if "area0" in n}


def test_c13_log_has_command_and_every_setting(cut: Callable[..., int], scenes: list[Path], tmp_path: Path) -> None:
    assert cut() == 0
    log = json.loads((tmp_path / "tiles" / "generate_tiles.settings.json").read_text())
    assert log["settings"]["tiling.size"] == 48
    assert log["settings"]["tiling.min_overlap"] == 8
    assert log["sources"]["input_path"] == str(tmp_path / "scenes")
    assert "generate_tiles.py --config_path=configs/demo/generate_tiles.py" in log["command"]
    assert {"python", "rasterio", "gdal"} <= log["versions"].keys()


def test_c13_other_settings_are_an_error_that_says_which(
    cut: Callable[..., int], scenes: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cut() == 0
    before = times(tmp_path / "tiles", "*")
    assert cut(tiling__size=32) == 1
    said = capsys.readouterr().err
    assert f"{tmp_path / 'tiles'}: holds results of generate_tiles with other settings" in said
    assert "tiling.size: 48 before, 32 now" in said
    assert "Choose another output_path, or add -P replace=True" in said
    assert times(tmp_path / "tiles", "*") == before


def test_c36_a_scene_without_mask_is_listed(
    cut: Callable[..., int], scenes: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    next((tmp_path / "masks" / "area1").iterdir()).unlink()
    assert cut() == 1
    said = capsys.readouterr().err
    assert f"{tmp_path / 'masks'}: no mask for s1a_area1_ASC_20150102. Make masks for these scenes" in said


@pytest.mark.parametrize(
    ("place", "said"),
    [(grid((90, 111), (300_000.0, 3_700_000.0)), "size 111 x 90 px against 110 x 90 px"), (grid(SHAPE), "transform")],
)
def test_c10_a_mask_on_another_grid_is_refused(
    cut: Callable[..., int],
    scenes: list[Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    place: Grid,
    said: str,
) -> None:
    mask = next((tmp_path / "masks" / "area0").iterdir())
    write_mask(mask, blobs(place.shape), place)
    assert cut() == 1
    message = capsys.readouterr().err
    for text in (str(mask), str(scenes[0]), said, "Rasterise the labels on this scene"):
        assert text in message


def test_c36_a_truncated_scene_is_named(
    cut: Callable[..., int], scenes: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    cut_in_half(scenes[1])
    assert cut() == 1
    assert f"{scenes[1]}: cannot be read as a raster" in capsys.readouterr().err


def test_c11_no_scene_found(cut: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "scenes").mkdir()
    assert cut(STRIDE) == 1
    assert (
        f"{tmp_path / 'scenes'}: no scene found (no scenes.parquet, no GeoTIFF). Set input_path"
        in capsys.readouterr().err
    )


def test_c37_two_masks_of_one_scene_are_refused(scenes: list[Path], tmp_path: Path) -> None:
    from swath.data.pairing import pair_masks

    write_mask(tmp_path / "masks" / "other" / "s1a_area0_ASC_20150102.tif", blobs(SHAPE), grid(SHAPE))
    with pytest.raises(CatalogError, match=r"are the same scene by name \(s1a_area0_ASC_20150102\)\. Keep one of them"):
        pair_masks(read_scenes(tmp_path / "scenes"), tmp_path / "masks")


def test_c41_one_file_or_a_folder_of_tiles_are_scenes_too(
    cut: Callable[..., int], scenes: list[Path], tmp_path: Path
) -> None:
    alone = read_scenes(scenes[0])
    assert alone["image"].tolist() == [str(scenes[0])]
    assert alone["key"].tolist() == ["s1a_area0_ASC_20150102"]
    assert cut(STRIDE) == 0
    tiles = read_scenes(tmp_path / "tiles")
    assert len(tiles) == 2 * 2 * 3
    assert all(Path(p).is_file() for p in tiles["image"])


@pytest.mark.parametrize("content", [b"", b"not parquet"])
def test_c36_an_unreadable_table_says_which_step_to_run(tmp_path: Path, content: bytes) -> None:
    (tmp_path / TILES).write_bytes(content)
    with pytest.raises(CatalogError, match=r"tiles\.parquet: cannot be read.*Delete it and run `generate_tiles` again"):
        tiles_of(tmp_path)


def test_c36_a_table_without_the_columns_says_which(
    cut: Callable[..., int], scenes: list[Path], tmp_path: Path
) -> None:
    assert cut(STRIDE) == 0
    with pytest.raises(
        CatalogError, match=r"tiles\.parquet: lacks the columns skip\. Run `generate_tiles_stats` again"
    ):
        read_table(tmp_path / "tiles" / TILES, ["key", "skip"], "generate_tiles_stats")
