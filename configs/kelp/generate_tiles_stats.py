"""Statistics of the training tiles; those that are kelp by more than 40 % are mislabelled, and take no part.

mlflow run . -e generate_tiles_stats --env-manager local -P config_path=configs/kelp/generate_tiles_stats.py
"""

from swath.data.tiles.statistics import StatsConfig

config = StatsConfig(input_path="output/kelp/tiles", min_valid_ratio=0.0, max_target_ratio=0.4)
