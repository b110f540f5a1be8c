"""Polygons of the stages of development, `id` = class; -P task=SIC -P classes=0,1,2,3,4,5,6,7,8,9,10 for concentration.

mlflow run . -e polygonize --env-manager local -P config_path=configs/ai4arctic/polygonize.py

The scenes have no place on earth: coordinates are metres from the first pixel's corner.
"""

from swath.prediction.polygonize import PolygonizeConfig

config = PolygonizeConfig(
    input_path="output/ai4arctic/predictions/classes",
    output_path="output/ai4arctic/polygons/SOD",
    task="SOD",
    classes=(0, 1, 2, 3, 4, 5),
    format="gpkg",
)
