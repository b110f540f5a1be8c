"""Pizza Tre Stagioni: the Quattro Stagioni with concentration as a class. The team planned it; no number was published.

mlflow run . --env-manager local -P config_path=configs/ai4arctic/training_tre_stagioni.py -P warm_start.weights=runs:/<id>

What the regression is worth. <id> is that of a run of training_marinara.py.
"""

from dataclasses import replace

from swath.challenges.ai4arctic.tasks import SIC
from swath.nn.model import Classification

from .training_quattro_stagioni import config as regression

config = replace(
    regression,
    name="Pizza Tre Stagioni",
    tasks=regression.tasks | {"SIC": Classification(classes=SIC)},
)
