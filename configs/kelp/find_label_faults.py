"""Tiles whose labels look wrong: labels and elevation that lie off the image, and labels that predictions doubt.

mlflow run . -e find_label_faults --env-manager local -P config_path=configs/kelp/find_label_faults.py

0.3 s a tile and core. With maps of models that have not seen the tiles: -P predictions_path=<folder of maps>
"""

from swath.prediction.label_faults import FindLabelFaultsConfig
from swath.prediction.label_shifts import ShiftPair, ShiftSearch

config = FindLabelFaultsConfig(
    input_path="output/kelp/scenes",
    output_path="output/kelp/label_faults",
    shift=ShiftSearch(
        pairs={
            "elevation": ShiftPair(reference="clip(DEM, 0, 5)", image="MNDWI"),
            "label": ShiftPair(reference="label", image="clip((NIR - R)/(NIR + R), -0.1, 0.2)"),
        },
        flagged="QA",
    ),
    correct=True,
    picture_bands=("SWIR", "NIR", "R"),
)
