"""Tiles of 128 px out of the training tiles, for training_sahi.py; nothing is written twice.

mlflow run . -e generate_tiles --env-manager local -P config_path=configs/kelp/generate_tiles_sahi.py

Nine of each tile, the last ones beyond its edge, where they are missing and ignored;
-P tiling.stride=64 makes them overlap. Their statistics: generate_tiles_stats_sahi.py.
"""

from dataclasses import replace

from swath.geo.windows import ConstantStride

from .generate_tiles import config as whole

config = replace(whole, output_path="output/kelp/tiles_sahi", tiling=ConstantStride(size=128, stride=128))
