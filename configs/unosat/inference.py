"""Predict the test areas: windows of 512 px, blended, averaged over flips and quarter turns.

mlflow run . -e inference --env-manager local -P config_path=configs/unosat/inference.py -P run_id=<training run>
"""

from swath.prediction.config import InferenceConfig
from swath.prediction.sliding import SlidingConfig

config = InferenceConfig(
    run_id="",
    input_path="output/unosat/scenes/test",
    output_path="output/unosat/predictions",
    sliding=SlidingConfig(window=512, overlap=128, tta="d4"),
)
