"""Pizza Quattro Formaggi: eight levels and all improvements. Published: 68.1 (SIC 68.8, SOD 69.9, FLOE 62.8), in percent.

mlflow run . --env-manager local -P config_path=configs/ai4arctic/training_quattro_formaggi.py

Concentration as a number with a squared error, floe size at half the weight, scenes drawn as often as their regions are in
the test set. Worse than without, which is why the number stands here. The team also began some runs from the outer
blocks of a shallower network: warm_start=WarmStart(weights="runs:/<id of its training>"), with the learning rate halved.
"""

from dataclasses import replace

from swath.challenges.ai4arctic.tasks import FLOE, SIC, SOD
from swath.data.samples.samplers import ShiftCorrection
from swath.nn.model import Classification, Regression

from .training_margherita import config as deep

config = replace(
    deep,
    name="Pizza Quattro Formaggi",
    data=replace(deep.data, sampler=ShiftCorrection(test_path="output/ai4arctic/scenes/test", fields=("region",))),
    tasks={
        "SIC": Regression(classes=SIC),
        "SOD": Classification(classes=SOD),
        "FLOE": Classification(classes=FLOE, weight=0.5),
    },
)
