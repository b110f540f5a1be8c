"""Maps of generated test tiles against their truth, which the real ones have not.

mlflow run . -e validate --env-manager local -P config_path=configs/kelp/validate.py

F1 of the foreground over all pixels is the challenge's Dice.
"""

from swath.nn.model import Classification
from swath.scoring.config import ScoringConfig, ValidateConfig

config = ValidateConfig(
    preds_path="output/kelp/ensemble",
    gt_path="output/kelp/input/truth/labels",
    name_parts=("kelp",),
    tasks={"kelp": Classification(classes=("background", "kelp"))},
    scenes_path="output/kelp/folds",
    scoring=ScoringConfig(conditions=("on_several_sides", "has_target")),
)
