"""Score charts once more, from the files, on the challenge's grid of 80 m whatever their own pixels are.

mlflow run . -e validate --env-manager local -P config_path=configs/ai4arctic/validate.py
"""

from dataclasses import replace

from swath.challenges.ai4arctic.tasks import AUTOICE, FLOE, SIC, SOD
from swath.nn.model import Classification
from swath.scoring.config import ValidateConfig

config = ValidateConfig(
    preds_path="output/ai4arctic/predictions/classes",
    gt_path="output/ai4arctic/scenes/official/labels",
    scenes_path="output/ai4arctic/scenes/official",
    tasks={
        "SIC": Classification(classes=SIC),
        "SOD": Classification(classes=SOD),
        "FLOE": Classification(classes=FLOE),
    },
    scoring=replace(AUTOICE, grid="labels"),
)
