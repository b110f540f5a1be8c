"""As assign_folds.py, but tiles are dealt out one by one, whatever coast they show: to see what that does to scores.

mlflow run . -e assign_folds --env-manager local -P config_path=configs/kelp/assign_folds_random.py

Trainings on these folds refuse to start, as tiles of one coast train and judge; -P allow_leaks=True marks their runs.
"""

from dataclasses import replace

from .assign_folds import config as by_coast

config = replace(by_coast, output_path="output/kelp/random_folds", folds=replace(by_coast.folds, by="key"))
