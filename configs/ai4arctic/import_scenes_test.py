"""Test scenes, whose charts lie apart: all pixels that the charts label count, measured or not, as in the challenge.

mlflow run . -e import_scenes --env-manager local -P config_path=configs/ai4arctic/import_scenes_test.py

Without the charts: -P labels_path=None
"""

from dataclasses import replace

from .import_scenes import config as training

config = replace(
    training,
    input_path="output/ai4arctic/input/test",
    labels_path="output/ai4arctic/input/truth",
    output_path="output/ai4arctic/scenes/test",
    ignore_nodata=False,
)
