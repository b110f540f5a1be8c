"""Scenes of the test areas to padded tiles of 2048 px, for models that predict tile by tile.

mlflow run . -e generate_test_tiles --env-manager local -P config_path=configs/unosat/generate_test_tiles.py
"""

from swath.data.tiles.cutting import TilesConfig
from swath.geo.windows import ConstantStride
from swath.geo.zones import MissingZones

config = TilesConfig(
    input_path="output/unosat/scenes/test",
    output_path="output/unosat/tiles_test",
    tiling=ConstantStride(size=2048, stride=2048),
    missing_zones=MissingZones(value=0.0, min_pixels=64),
)
