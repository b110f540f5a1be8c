"""VH and VV of the labelled areas to 3-band scenes.

mlflow run . -e generate_3b_images --env-manager local -P config_path=configs/unosat/generate_3b_images.py
"""

from swath.challenges.unosat import Generate3bConfig

config = Generate3bConfig(input_path="input/unosat/train", output_path="output/unosat/scenes/train")
