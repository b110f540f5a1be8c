"""Tiles in groups that show one coast, by elevation, which is nearly the same on every date.

mlflow run . -e group_scenes --env-manager local -P config_path=configs/kelp/group_scenes.py

Tiles of open sea have no relief and stay alone. A few milliseconds a tile, and ten seconds for all pairs of 7,000.
"""

from swath.data.leakage.embeddings import BandThumbnail
from swath.data.leakage.scene_groups import GroupScenesConfig

config = GroupScenesConfig(
    input_path="output/kelp/scenes",
    output_path="output/kelp/grouped",
    embedding=BandThumbnail(band="DEM"),
    sides="original_split",
)
