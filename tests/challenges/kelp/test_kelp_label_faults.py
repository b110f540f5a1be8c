"""Label faults of kelp tiles: planted shifts and the mislabelled tile are found; panels of tiles."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from swath.challenges.kelp.import_scenes import ImportKelpConfig
from swath.challenges.kelp.product import MISSING
from swath.challenges.kelp.simulate import KelpScenesConfig
from swath.data.tables import read_scenes
from swath.geo.layout import RasterSpec
from swath.geo.raster import RasterReader, read_labels
from swath.geo.raster_writer import write_raster
from tests.conftest import Script


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 tiles with their table, and maps by a threshold on NDVI over clear water."""
    folder = tmp_path_factory.mktemp("kelp")
    made = KelpScenesConfig(output_path=str(folder / "input"), aois=8, tiles=24, seed=11)
    imported = ImportKelpConfig(
        input_path=str(folder / "input"),
        output_path=str(folder / "scenes"),
        truth_path=str(folder / "input/truth/labels"),
    )
    for step in (made, imported):
        step.finish({job.key: job.run() for job in step.jobs()})
    for row in read_scenes(folder / "scenes").to_dict("records"):
        with RasterReader(Path(row["image"]), (float(MISSING),), row["bands"]) as reader:
            swir, nir, red, _, _, qa, height = reader.image()
            is_kelp = ((nir - red) / (nir + red) > 0.03) & (height <= 0) & (swir < 9500) & (qa == 0)
            spec = RasterSpec(grid=reader.info.grid, bands=("kelp",), dtype="uint8", nodata=255)
            write_raster(
                folder / "maps/classes" / row["area"] / f"{row['key']}.tif", is_kelp[None].astype(np.uint8), spec
            )
    return folder


def test_c126_planted_faults_are_found_and_shifts_undone(tiles: Path, script: Script) -> None:
    args = {"input_path": tiles / "scenes", "output_path": tiles / "faults", "predictions_path": tiles / "maps"}
    config = "configs/kelp/find_label_faults.py"
    assert script("find_label_faults", config, executor="serial", pictures=2, **args) == 0
    truth = pd.read_csv(tiles / "input/truth/tiles.csv").set_index("tile_id")
    moved = truth[(truth["shift_rows"] != 0) | (truth["shift_cols"] != 0)]
    assert len(moved) == 2
    table = pd.read_csv(tiles / "faults/label_faults.csv")
    faults = table[(table["kind"] == "shift") & table["is_fault"]].set_index("key")
    assert set(faults.index) == set(moved.index)
    for key, row in moved.iterrows():
        assert abs(faults.loc[key, "rows"] - row["shift_rows"]) <= 1
        assert abs(faults.loc[key, "cols"] - row["shift_cols"]) <= 1
    doubted = table[table["kind"] == "disagreement"]
    wrong = truth.index[truth["is_mislabelled"]]
    assert doubted["key"].tolist()[: len(wrong)] == wrong.tolist()
    assert doubted["is_fault"].sum() == len(wrong)
    corrected = read_scenes(tiles / "faults").set_index("key")
    for key in moved.index:
        rows, cols = (int(faults.loc[key, name]) for name in ("rows", "cols"))
        before = read_labels(next((tiles / "input").rglob(f"{key}_kelp.tif")))[0]
        after = read_labels(Path(corrected.loc[key, "labels"]))[0]
        inside = after != 255
        at = np.argwhere(inside)
        assert inside.sum() == (350 - abs(rows)) * (350 - abs(cols))
        assert (after[inside] == before[at[:, 0] + rows, at[:, 1] + cols]).all()


def test_c35_c101_panels_of_a_tile_show_all_eight(tiles: Path, script: Script) -> None:
    args = {"input_path": tiles / "scenes", "output_path": tiles / "panels", "predictions_path": tiles / "maps"}
    assert script("panels", "configs/kelp/panels.py", executor="serial", most=3, **args) == 0
    pictures = sorted((tiles / "panels").glob("*.png"))
    assert [path.stem for path in pictures] == read_scenes(tiles / "scenes")["key"].tolist()[:3]
    assert all(cv2.imread(str(path)).shape[1] == 4 * 354 for path in pictures)
