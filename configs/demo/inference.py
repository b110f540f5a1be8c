"""Predict the demo's test areas with the model of a training run, and score them.

mlflow run . -e inference --env-manager local -P run_id=<id of the training run>

Expect test/iou_fg well above baseline/threshold_iou_fg, the best that one threshold on one band can reach there.
"""

from swath.prediction.config import InferenceConfig
from swath.prediction.sliding import SlidingConfig

config = InferenceConfig(
    run_id="",
    input_path="output/demo/scenes/test",
    labels_path="output/demo/masks/test",
    output_path="output/demo/predictions",
    sliding=SlidingConfig(window=256, overlap=32),
)
