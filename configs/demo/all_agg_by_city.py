"""The dates of each of the demo's test areas to one map, in `aggregated` beside the predictions.

mlflow run . -e all_agg_by_city --env-manager local
"""

from swath.prediction.aggregate import AggregateConfig

config = AggregateConfig(input_path="output/demo/predictions")
