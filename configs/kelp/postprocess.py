"""Predicted classes without kelp on land, by the elevation that each tile holds; pixels without one stay.

mlflow run . -e postprocess --env-manager local -P config_path=configs/kelp/postprocess.py

The third place's rule, a sum of 2 x 2 px, takes pixels beside land for land, too: -P impossible.land.square=2. Nothing under
clouds: a second entry of `impossible`, "cloud": Impossible(band="QA", above=0.5). Each filter is scored, on and off, where the
labels are known: maps of left-out tiles with -P input_path=output/kelp/ten_folds/base/0 -P labels_path=output/kelp/folds
"""

from swath.prediction.impossible import Impossible
from swath.prediction.postprocess import PostprocessConfig

config = PostprocessConfig(
    input_path="output/kelp/ensemble",
    output_path="output/kelp/clean",
    scenes_path="output/kelp/scenes",
    impossible={"land": Impossible(band="DEM", above=0.0)},
)
