"""The best decision threshold on the held-out area of the training.

mlflow run . -e threshold_search --env-manager local -P config_path=configs/unosat/threshold_search.py

Predict that area first (README, part 6). With one model per fold: -P input_path="<held out by a>;<held out by b>".
"""

from swath.prediction.thresholds import ThresholdSearchConfig

config = ThresholdSearchConfig(
    input_path="output/unosat/held_out",
    labels_path="output/unosat/masks/train",
    output_path="output/unosat/threshold",
    name_parts=("vh", "vv", "3b"),
)
