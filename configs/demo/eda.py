"""A report on the demo's training tiles: target, valid pixels, dates, folds, bands, and what stands out.

mlflow run . -e eda --env-manager local

Seconds. Open output/demo/eda/report.html, or the run's artifacts in the dashboard.
"""

from swath.eda.overview import EdaConfig

config = EdaConfig(
    input_path="output/demo/tiles/train",
    scenes_path="output/demo/scenes/train",
    decibel=("vh", "vv", "mean"),
    output_path="output/demo/eda",
)
