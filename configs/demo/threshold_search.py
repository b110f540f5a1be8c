"""The best decision threshold on the demo's test areas, which its model has not seen.

mlflow run . -e threshold_search --env-manager local

To decide by another threshold without predicting again, make an ensemble of one:
mlflow run . -e ensemble --env-manager local -P input_paths=output/demo/predictions -P score_metric=None -P threshold=0.45 -P output_path=output/demo/decided
"""

from swath.prediction.thresholds import ThresholdSearchConfig

config = ThresholdSearchConfig(
    input_path="output/demo/predictions",
    labels_path="output/demo/masks/test",
    output_path="output/demo/threshold",
)
