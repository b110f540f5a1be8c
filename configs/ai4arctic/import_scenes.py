"""Scenes with charts, raw or ready-to-train, to rasters of 24 bands and of SIC, SOD and FLOE.

mlflow run . -e import_scenes --env-manager local -P config_path=configs/ai4arctic/import_scenes.py
"""

from swath.challenges.ai4arctic.import_scenes import ImportIceConfig

config = ImportIceConfig(input_path="output/ai4arctic/input/train", output_path="output/ai4arctic/scenes/train")
