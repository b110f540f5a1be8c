"""The second variant of learning from the test cities' tiles: hard pseudo-labels, three steps of their own on each batch.

mlflow run . --env-manager local -P config_path=configs/unosat/training_pseudolabels.py

Needs the tiles of training_consistency.py. Not published with a number.
"""

from dataclasses import replace
from functools import partial

from swath.nn.consistency import PseudoLabels

from .training_consistency import config as base

assert base.unlabelled is not None
config = replace(base, unlabelled=replace(base.unlabelled, method=partial(PseudoLabels), own_steps=3))
