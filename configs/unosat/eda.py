"""A report on the training tiles: target, valid pixels, dates, folds, bands, and what stands out.

mlflow run . -e eda --env-manager local -P config_path=configs/unosat/eda.py
"""

from swath.eda.overview import EdaConfig

config = EdaConfig(
    input_path="output/unosat/tiles",
    scenes_path="output/unosat/scenes/train",
    decibel=("vh", "vv", "mean"),
    output_path="output/unosat/eda",
)
