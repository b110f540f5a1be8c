"""Two models' predictions of the test areas to one; all count alike unless weights, scores or score_metric are set.

mlflow run . -e ensemble --env-manager local -P config_path=configs/unosat/ensemble.py

The rule of the UNOSAT pipeline, a vote of all members but one: -P rule=n-1.
"""

from swath.prediction.ensemble import EnsembleConfig

config = EnsembleConfig(
    input_paths="output/unosat/predictions;output/unosat/predictions_b",
    output_path="output/unosat/ensemble",
)
