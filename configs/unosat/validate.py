"""Score a folder of predictions against masks, from the files.

mlflow run . -e validate --env-manager local -P config_path=configs/unosat/validate.py
"""

from swath.nn.model import Classification
from swath.scoring.config import ValidateConfig

config = ValidateConfig(
    preds_path="output/unosat/predictions/classes",
    gt_path="output/unosat/masks/train",
    tasks={"water": Classification()},
    name_parts=("vh", "vv", "3b"),
)
