"""VH and VV of the demo's test areas to 3-band scenes.

mlflow run . -e generate_3b_images --env-manager local -P config_path=configs/demo/generate_3b_images_test.py
"""

from dataclasses import replace

from .generate_3b_images import config as train

config = replace(train, input_path="output/demo/raw/test", output_path="output/demo/scenes/test")
