"""The dB recipe on all four cities, nothing held out: the last weights are kept, for a submission.

mlflow run . --env-manager local -P config_path=configs/unosat/training_all_areas.py

No validation score; cross_validation tells what the recipe is worth.
"""

from dataclasses import replace

from swath.data.splits.split import ByArea

from .training_fpn_seresnext50_db import config as base

config = replace(base, data=replace(base.data, split=ByArea()))
