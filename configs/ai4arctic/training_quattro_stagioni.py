"""Pizza Quattro Stagioni: six levels from the Marinara's weights. Published: 77.7 (SIC 83.8, SOD 77.5, FLOE 66.1), in percent.

mlflow run . --env-manager local -P config_path=configs/ai4arctic/training_quattro_stagioni.py -P warm_start.weights=runs:/<id>

The best of the team's U-Nets on the test set. <id> is that of a run of training_marinara.py: its blocks become the outer
ones of the deeper network. Half the learning rate, the improvements of training_improved.py, 40 epochs.
"""

from dataclasses import replace
from functools import partial

from torch.optim import Adam

from swath.training.config import WarmStart

from .training_improved import config as improved

config = replace(
    improved,
    name="Pizza Quattro Stagioni",
    model=partial(improved.model, filters=(16, *[32] * 5)),
    warm_start=WarmStart(),
    optimizer=partial(Adam, lr=5e-5),
    epochs=40,
)
