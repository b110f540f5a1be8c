"""Scenes and masks of the demo's training areas to tiles of 256 px that overlap by 32 px or more.

mlflow run . -e generate_tiles --env-manager local
"""

from swath.data.tiles.cutting import TilesConfig
from swath.geo.windows import ConstantSize
from swath.geo.zones import MissingZones

config = TilesConfig(
    input_path="output/demo/scenes/train",
    masks_path="output/demo/masks/train",
    output_path="output/demo/tiles/train",
    tiling=ConstantSize(size=256, min_overlap=32),
    missing_zones=MissingZones(value=0.0, min_pixels=64),
)
