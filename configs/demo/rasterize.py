"""Label polygons of the demo's training areas to masks.

mlflow run . -e rasterize --env-manager local
"""

from swath.challenges.unosat.labels import RasterizeConfig

config = RasterizeConfig(input_path="output/demo/raw/train", output_path="output/demo/masks/train")
