"""Charts without specks of old ice below 25 pixels; -P task=... and -P target=... choose another chart and class.

mlflow run . -e postprocess --env-manager local -P config_path=configs/ai4arctic/postprocess.py

What the filter takes becomes class 0, so choose classes that border on water, or score it with labels_path first.
"""

from swath.prediction.postprocess import PostprocessConfig

config = PostprocessConfig(
    input_path="output/ai4arctic/predictions",
    output_path="output/ai4arctic/clean",
    labels_path="output/ai4arctic/scenes/test/labels",
    task="SOD",
    target=5,
    min_object=25,
)
