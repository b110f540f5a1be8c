"""As cross_validation.py, with a small network on generated tiles.

mlflow run . -e cross_validation --env-manager local -P config_path=configs/kelp/cross_validation_demo.py
"""

from dataclasses import replace

from .cross_validation import config as ten_folds

config = replace(ten_folds, training_config="configs/kelp/training_demo.py")
