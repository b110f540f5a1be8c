"""VH and VV of the demo's training areas to 3-band scenes.

mlflow run . -e generate_3b_images --env-manager local
"""

from swath.challenges.unosat.scenes import Generate3bConfig

config = Generate3bConfig(input_path="output/demo/raw/train", output_path="output/demo/scenes/train")
