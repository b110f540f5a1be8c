"""The demo's predictions without specks and holes, and what either filter is worth on the test areas.

mlflow run . -e postprocess --env-manager local
"""

from swath.prediction.postprocess import PostprocessConfig

config = PostprocessConfig(
    input_path="output/demo/predictions",
    output_path="output/demo/clean",
    labels_path="output/demo/masks/test",
    min_object=1000.0,
    max_hole=1000.0,
    area_unit="m2",
)
