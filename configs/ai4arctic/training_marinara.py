"""Pizza Marinara: four levels. Published: 74.5 (SIC 75.2, SOD 76.4, FLOE 69.4), in percent on the challenge's test set.

mlflow run . --env-manager local -P config_path=configs/ai4arctic/training_marinara.py
"""

from dataclasses import replace

from .training import config as base

config = replace(base, name="Pizza Marinara")
