"""The maps of the demo's test areas to polygons of at least 1,000 m2, beside the predictions.

mlflow run . -e polygonize --env-manager local
"""

from swath.prediction.polygonize import PolygonizeConfig

config = PolygonizeConfig(input_path="output/demo/predictions", min_area=1000.0)
