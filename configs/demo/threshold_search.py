"""The best decision threshold on the demo's validation area. It takes two commands, the first one maps that area:

mlflow run . -e inference --env-manager local -P run_id=<id of the training> -P input_path=output/demo/scenes/train -P areas=dogwood -P labels_path=output/demo/masks/train -P allow_selection_set=True -P output_path=output/demo/predictions_validation
mlflow run . -e threshold_search --env-manager local

To decide the test areas by it without predicting them again, make an ensemble of one:
mlflow run . -e ensemble --env-manager local -P input_paths=output/demo/predictions -P score_metric=None -P threshold=output/demo/threshold -P output_path=output/demo/decided
"""

from swath.prediction.thresholds import ThresholdSearchConfig

config = ThresholdSearchConfig(
    input_path="output/demo/predictions_validation",
    labels_path="output/demo/masks/train",
    output_path="output/demo/threshold",
)
