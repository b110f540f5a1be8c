"""Tiles of the training scenes with their charts.

mlflow run . -e generate_tiles --env-manager local -P config_path=configs/ai4arctic/generate_tiles.py

For the generated scenes, which are small: -P tiling.size=256
"""

from swath.data.tiles.cutting import TilesConfig
from swath.geo.windows import ConstantSize

config = TilesConfig(
    input_path="output/ai4arctic/scenes/train",
    masks_path="output/ai4arctic/scenes/train/labels",
    output_path="output/ai4arctic/tiles",
    tiling=ConstantSize(size=512, min_overlap=0),
)
