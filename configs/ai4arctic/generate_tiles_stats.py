"""Statistics, groups and folds of the tiles; those without a quarter of measured pixels are left out of training.

mlflow run . -e generate_tiles_stats --env-manager local -P config_path=configs/ai4arctic/generate_tiles_stats.py
"""

from swath.data.tiles.statistics import StatsConfig

config = StatsConfig(input_path="output/ai4arctic/tiles", min_valid_ratio=0.25)
