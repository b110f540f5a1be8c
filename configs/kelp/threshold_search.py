"""The threshold with the highest Dice on the maps that each model made of tiles it has not seen.

mlflow run . -e threshold_search --env-manager local -P config_path=configs/kelp/threshold_search.py
"""

from swath.prediction.thresholds import ThresholdSearchConfig

config = ThresholdSearchConfig(
    input_path="output/kelp/ten_folds/base/*",
    labels_path="output/kelp/folds",
    output_path="output/kelp/threshold",
    start=0.1,
    stop=0.9,
    score="f1_fg",
)
