"""Pizza Basilico: the Margherita for 100 epochs. Published: 75.6 (SIC 78.2, SOD 75.3, FLOE 70.0), in percent on the test set.

mlflow run . --env-manager local -P config_path=configs/ai4arctic/training_basilico.py
"""

from dataclasses import replace

from .training_margherita import config as eight_levels

config = replace(eight_levels, name="Pizza Basilico", epochs=100)
