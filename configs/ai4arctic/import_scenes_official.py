"""The test scenes on the challenge's own grid of 80 m, for their charts: scores there are those of the challenge.

mlflow run . -e import_scenes --env-manager local -P config_path=configs/ai4arctic/import_scenes_official.py
"""

from dataclasses import replace

from .import_scenes_test import config as test

config = replace(test, channels=("nersc_sar_primary",), factor=2, output_path="output/ai4arctic/scenes/official")
