"""Score the predictions of the demo's test areas once more, from the files.

mlflow run . -e validate --env-manager local
"""

from swath.nn.model import Classification
from swath.scoring.config import ValidateConfig

config = ValidateConfig(
    preds_path="output/demo/predictions/classes",
    gt_path="output/demo/masks/test",
    tasks={"water": Classification()},
)
