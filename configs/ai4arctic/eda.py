"""What the training tiles hold, and how their scenes differ from those of the test in region, month, provider, mission.

mlflow run . -e eda --env-manager local -P config_path=configs/ai4arctic/eda.py
"""

from swath.eda.overview import EdaConfig

config = EdaConfig(
    input_path="output/ai4arctic/tiles",
    scenes_path="output/ai4arctic/scenes/train",
    test_scenes_path="output/ai4arctic/scenes/test",
    shift_fields=("region", "month", "provider", "mission"),
    output_path="output/ai4arctic/eda",
)
