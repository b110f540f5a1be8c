"""Scenes of the demo's test areas to padded tiles, for a model that predicts tile by tile.

mlflow run . -e generate_test_tiles --env-manager local
"""

from swath.data.tiles.cutting import TilesConfig
from swath.geo.windows import ConstantStride
from swath.geo.zones import MissingZones

config = TilesConfig(
    input_path="output/demo/scenes/test",
    output_path="output/demo/tiles/test",
    tiling=ConstantStride(size=512, stride=512),
    missing_zones=MissingZones(value=0.0, min_pixels=64),
)
