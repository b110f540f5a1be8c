"""Probabilities predicted per tile (configs/demo/inference_tiles.py) back to whole scenes.

mlflow run . -e merge_tiles --env-manager local
"""

from swath.prediction.merge_tiles import MergeTilesConfig

config = MergeTilesConfig(
    input_path="output/demo/tile_predictions/probabilities",
    tiles_path="output/demo/tiles/test",
    output_path="output/demo/merged",
)
