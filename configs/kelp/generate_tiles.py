"""The training tiles of the Kelp Wanted challenge as they are: each is a scene and a tile, and nothing is written twice.

mlflow run . -e generate_tiles --env-manager local -P config_path=configs/kelp/generate_tiles.py
"""

from swath.data.tiles.cutting import TilesConfig
from swath.geo.windows import Whole

config = TilesConfig(
    input_path="output/kelp/folds",
    output_path="output/kelp/tiles",
    only={"original_split": ("train",)},
    tiling=Whole(),
    write=False,
)
