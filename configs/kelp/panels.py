"""Tiles as pictures: true colour, two composites of infrared, NDVI, elevation, QA, label and prediction.

mlflow run . -e panels --env-manager local -P config_path=configs/kelp/panels.py -P most=100

With predictions: -P predictions_path=output/kelp/predictions -P output_path=output/kelp/panels_predicted
"""

from swath.prediction.panels import ClassPanel, ColorPanel, PanelsConfig, ValuePanel

config = PanelsConfig(
    input_path="output/kelp/scenes",
    output_path="output/kelp/panels",
    panels={
        "true colour": ColorPanel(bands=("R", "G", "B")),
        "NIR-R-G": ColorPanel(bands=("NIR", "R", "G")),
        "SWIR-NIR-R": ColorPanel(bands=("SWIR", "NIR", "R")),
        "NDVI": ValuePanel(formula="NDVI", colormap="RdYlGn", limits=(-0.5, 0.5)),
        "DEM": ValuePanel(formula="DEM", colormap="terrain"),
        "QA": ValuePanel(formula="QA", colormap="cividis", limits=(0.0, 1.0)),
        "label": ClassPanel(of="label"),
        "prediction": ClassPanel(of="prediction"),
    },
    classes=("no kelp", "kelp"),
)
