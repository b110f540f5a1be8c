"""Classes of the test areas without specks and holes of less than 1,000 m2.

mlflow run . -e postprocess --env-manager local -P config_path=configs/unosat/postprocess.py

Water only off land: -P mask_path=<polygons or raster of land>. With labels, what each filter is worth: -P labels_path=...
"""

from swath.prediction.postprocess import PostprocessConfig

config = PostprocessConfig(
    input_path="output/unosat/predictions",
    output_path="output/unosat/clean",
    min_object=1000.0,
    max_hole=1000.0,
    area_unit="m2",
)
