"""Label polygons (attribute DN = 255) to masks; pixels without a measurement become 255 = ignore.

mlflow run . -e rasterize --env-manager local -P config_path=configs/unosat/rasterize.py

Seconds per scene.
"""

from swath.challenges.unosat.labels import RasterizeConfig

config = RasterizeConfig(input_path="input/train", output_path="output/unosat/masks/train")
