"""Predict the demo's test tiles one by one, as a model without sliding windows would.

mlflow run . -e inference --env-manager local -P config_path=configs/demo/inference_tiles.py -P run_id=<training run>
"""

from dataclasses import replace

from .inference import config as scenes

config = replace(
    scenes,
    input_path="output/demo/tiles/test",
    labels_path=None,
    output_path="output/demo/tile_predictions",
)
