"""Probabilities predicted per tile (configs/demo/inference_tiles.py) back to whole scenes, in `merged` beside them.

mlflow run . -e merge_tiles --env-manager local

For tiles of yours: -P input_path=<their folder>. With -P tiles_path=<folder of tiles.parquet> scenes get their own
size back; without, the padding of their last tiles stays, as nodata.
"""

from swath.prediction.merge_tiles import MergeTilesConfig

config = MergeTilesConfig(input_path="output/demo/tile_predictions")
