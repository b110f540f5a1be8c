"""Raw data with the names of the UNOSAT challenge's cities, to try every command of the guide without the real ones.

mlflow run . -e generate_demo_scenes --env-manager local -P config_path=configs/unosat/generate_demo_scenes.py

Seconds. Scenes of 768 px; the real ones have about 10,190 x 10,526.
"""

from swath.challenges.demo.simulate import DemoScenesConfig

config = DemoScenesConfig(
    output_path="input",
    train_areas=("38SLF", "38RPV", "38SMA", "38SNE"),
    test_areas=("38RNV", "38SLD", "38SME", "38SMB"),
)
