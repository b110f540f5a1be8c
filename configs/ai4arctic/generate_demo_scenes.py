"""Sea-ice scenes in the layout of the AI4Arctic challenge, to try every command of the guide without the real ones.

mlflow run . -e generate_demo_scenes --env-manager local -P config_path=configs/ai4arctic/generate_demo_scenes.py

About 1.5 s a scene. The raw product: -P product=raw -P output_path=output/ai4arctic/raw
"""

from swath.challenges.ai4arctic.simulate import IceScenesConfig

config = IceScenesConfig(output_path="output/ai4arctic/input")
