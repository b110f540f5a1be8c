"""Scenes and masks to tiles of 512 px that overlap by 32 px or more.

mlflow run . -e generate_tiles --env-manager local -P config_path=configs/unosat/generate_tiles.py

About 70 tiles per second and core.
"""

from swath.data.tiles.cutting import TilesConfig
from swath.geo.zones import MissingZones

config = TilesConfig(
    input_path="output/unosat/scenes/train",
    masks_path="output/unosat/masks/train",
    output_path="output/unosat/tiles",
    missing_zones=MissingZones(value=0.0, min_pixels=64),
)
