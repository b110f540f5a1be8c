"""Tiles of the Kelp Wanted challenge to a table of scenes with flags; pixels stay where they are.

mlflow run . -e import_scenes --env-manager local -P config_path=configs/kelp/import_scenes.py

A few milliseconds a tile once its file is in the page cache. Generated test tiles have labels, too, with
-P truth_path=output/kelp/input/truth/labels
"""

from swath.challenges.kelp.import_scenes import ImportKelpConfig

config = ImportKelpConfig(input_path="output/kelp/input", output_path="output/kelp/scenes")
