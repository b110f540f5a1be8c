"""Pizza Quattro Formaggi: eight levels from the Marinara's weights. Published: 68.1 (SIC 68.8, SOD 69.9, FLOE 62.8), in percent.

mlflow run . --env-manager local -P config_path=configs/ai4arctic/training_quattro_formaggi.py -P warm_start.weights=runs:/<id>

The Quattro Stagioni with two levels more and 75 epochs. <id> is that of a run of training_marinara.py. Worse than without
any of it, which is why the number stands here.
"""

from dataclasses import replace
from functools import partial

from .training_quattro_stagioni import config as six_levels

config = replace(
    six_levels,
    name="Pizza Quattro Formaggi",
    model=partial(six_levels.model, filters=(16, *[32] * 7)),
    epochs=75,
)
