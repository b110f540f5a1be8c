"""Label polygons of the training areas to masks."""

from swath.challenges.unosat import RasterizeConfig

config = RasterizeConfig(input_path="input/unosat/train", output_path="output/unosat/masks/train")
