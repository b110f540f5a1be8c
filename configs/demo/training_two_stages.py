"""Train from a pretrained encoder in two stages: it is fixed for two epochs, while the decoder learns, then all learn.

mlflow run . --env-manager local -P config_path=configs/demo/training_two_stages.py -P warm_start.weights=runs:/<run id of pretrain>

About two minutes on two CPU cores. In one stage: the same without this file (configs/demo/training.py).
"""

from dataclasses import replace

from swath.training.transfer import Freezing

from .training import config as base

config = replace(base, freezing=(Freezing(part="encoder", epochs=2),))
