"""Statistics, folds and the skip rule of the demo's tiles.

mlflow run . -e generate_tiles_stats --env-manager local
"""

from swath.data.tiles.statistics import StatsConfig

config = StatsConfig(input_path="output/demo/tiles/train", min_valid_ratio=0.05)
