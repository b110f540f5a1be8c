"""Statistics, folds (areas in alphabetical order) and the skip rule: tiles with less than 5 % valid pixels.

mlflow run . -e generate_tiles_stats --env-manager local -P config_path=configs/unosat/generate_tiles_stats.py
"""

from swath.data.tiles.statistics import StatsConfig

config = StatsConfig(input_path="output/unosat/tiles", min_valid_ratio=0.05)
