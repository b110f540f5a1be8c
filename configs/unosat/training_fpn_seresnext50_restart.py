"""The same in dB with one restart: poly over three quarters, then again from a quarter of the rate.

mlflow run . --env-manager local -P config_path=configs/unosat/training_fpn_seresnext50_restart.py

Published: validation IoU 0.543, F1 0.847, test F1 0.643: better on the validation city, worse on the test cities.
Hours on a GPU.
"""

from dataclasses import replace
from functools import partial

from swath.training.schedules import PolyRestart

from .training_fpn_seresnext50_db import config as base

config = replace(base, schedule=partial(PolyRestart, at=0.75, scale=0.25))
