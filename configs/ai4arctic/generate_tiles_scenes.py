"""A table of whole scenes for training on random crops of them: nothing is cut, nothing is written but the table.

mlflow run . -e generate_tiles --env-manager local -P config_path=configs/ai4arctic/generate_tiles_scenes.py
"""

from swath.data.tiles.cutting import TilesConfig
from swath.geo.windows import Whole

config = TilesConfig(
    input_path="output/ai4arctic/scenes/train",
    masks_path="output/ai4arctic/scenes/train/labels",
    output_path="output/ai4arctic/whole",
    tiling=Whole(),
    write=False,
)
