"""Statistics of the slices of 128 px, of which some are rightly more than 40 % kelp.

mlflow run . -e generate_tiles_stats --env-manager local -P config_path=configs/kelp/generate_tiles_stats_sahi.py

Slices of tiles that assign_folds left out have no fold, and take no part.
"""

from dataclasses import replace

from .generate_tiles_stats import config as whole

config = replace(whole, input_path="output/kelp/tiles_sahi", max_target_ratio=None)
