"""Statistics of whole scenes; none is left out for what it did not measure.

mlflow run . -e generate_tiles_stats --env-manager local -P config_path=configs/ai4arctic/generate_tiles_stats_scenes.py

A worker holds two scenes in memory, 5 GB for real ones of 80 m: choose -P workers=... by that.
"""

from swath.data.tiles.statistics import StatsConfig

config = StatsConfig(input_path="output/ai4arctic/whole", min_valid_ratio=0.0)
