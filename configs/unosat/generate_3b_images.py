"""VH and VV of the labelled areas to 3-band scenes.

mlflow run . -e generate_3b_images --env-manager local -P config_path=configs/unosat/generate_3b_images.py

Seconds per scene. For the test areas: -P input_path=input/test -P output_path=output/unosat/scenes/test
"""

from swath.challenges.unosat.scenes import Generate3bConfig

config = Generate3bConfig(input_path="input/train", output_path="output/unosat/scenes/train")
