"""The test tiles by all models together: probabilities weighted by each model's Dice on tiles it has not seen.

mlflow run . -e ensemble --env-manager local -P config_path=configs/kelp/ensemble.py

The worst model weighs 0.2, the best one 1. All alike: -P score_metric=None. The largest probability: -P rule=max
"""

from swath.prediction.ensemble import EnsembleConfig

config = EnsembleConfig(
    input_paths="output/kelp/ten_folds/test/base/*",
    output_path="output/kelp/ensemble",
    score_metric="validation/f1_fg",
    score_range=(0.2, 1.0),
    threshold="output/kelp/threshold",
)
