"""Tiles in the layout of the Kelp Wanted challenge, to try every command of the guide without the real ones.

mlflow run . -e generate_demo_scenes --env-manager local -P config_path=configs/kelp/generate_demo_scenes.py

About 0.15 s a tile. As the archives unpack: -P layout=archives -P output_path=output/kelp/archives
"""

from swath.challenges.kelp.simulate import KelpScenesConfig

config = KelpScenesConfig(output_path="output/kelp/input")
