"""Two models' predictions of the demo's test areas to one, weighted by their scores on the validation area.

mlflow run . -e ensemble --env-manager local

The second model: train it with -P seed=1 -P output_path=output/demo/training_b, and predict with its run id and
-P output_path=output/demo/predictions_b.
"""

from swath.prediction.ensemble import EnsembleConfig

config = EnsembleConfig(
    input_paths="output/demo/predictions;output/demo/predictions_b",
    output_path="output/demo/ensemble",
    score_metric="best/validation/iou_fg",
)
