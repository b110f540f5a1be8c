"""What a table of scenes says of a scene's bands and nodata stands above what its file says, in inference too."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from swath.data.tables import SCENES, read_scenes, scene_row, write_table
from swath.geo.raster import read_image
from swath.prediction.config import InferenceConfig
from swath.prediction.scenes import predict_scenes
from swath.training.model_record import read_record
from tests.before_the_move.training import HERE
from tests.synthetic import backscatter, grid, write_image

SHAPE, BANDS = (64, 96), ("vh", "vv", "mean")


def maps(scenes: Path, output: Path) -> dict[str, np.ndarray]:
    """Probabilities of each scene, by key, as a committed record predicts them."""
    settings = InferenceConfig(run_id="before", input_path=str(scenes), output_path=str(output), device="cpu")
    table = read_scenes(scenes)
    predict_scenes(settings, read_record(HERE / "model"), table, output)
    return {row.key: read_image(output / "probabilities" / row.area / f"{row.key}.tif") for row in table.itertuples()}


def test_c47_c45_a_scene_without_names_is_predicted_by_those_of_its_table(tmp_path: Path) -> None:
    root, image = tmp_path / "scenes", backscatter(SHAPE)
    told = write_image(root / "a" / "told.tif", image, grid(SHAPE), BANDS)
    bare = np.where(np.isnan(image), np.float32(-1), image)[[2, 0, 1]]
    silent = write_image(root / "a" / "silent.tif", bare, grid(SHAPE))
    rows = [scene_row(told, root), scene_row(silent, root) | {"bands": ["mean", "vh", "vv"], "nodata": -1.0}]
    write_table(root / SCENES, rows)
    found = maps(root, tmp_path / "maps")
    assert np.isnan(found["told"]).any()
    np.testing.assert_array_equal(found["silent"], found["told"])
