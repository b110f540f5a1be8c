"""LWRefineNet that also learns from the test cities' tiles, without labels: equal answers under flips and turns.

mlflow run . --env-manager local -P config_path=configs/unosat/training_consistency.py

Cut the tiles first: generate_tiles with input_path=output/unosat/scenes/test, masks_path=None and
output_path=output/unosat/tiles_unlabelled, then generate_tiles_stats of that folder. Not published with a number.
"""

from dataclasses import replace
from functools import partial

from swath.nn.consistency import LinearRamp, TurnConsistency
from swath.training.config import Unlabelled

from .training_lwrefinenet_jaccard import config as base

config = replace(
    base,
    unlabelled=Unlabelled(
        tiles_path="output/unosat/tiles_unlabelled",
        method=partial(TurnConsistency),
        ramp=partial(LinearRamp, low=0.001, high=1.0, share=0.25),
    ),
)
