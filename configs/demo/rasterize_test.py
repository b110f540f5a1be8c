"""The truth of the demo's test areas to masks, for scoring only.

mlflow run . -e rasterize --env-manager local -P config_path=configs/demo/rasterize_test.py
"""

from dataclasses import replace

from .rasterize import config as train

config = replace(
    train,
    input_path="output/demo/raw/test",
    labels_path="output/demo/raw/truth",
    output_path="output/demo/masks/test",
)
