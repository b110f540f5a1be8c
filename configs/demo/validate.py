"""Score the predictions of the demo's test areas once more, from the files.

mlflow run . -e validate --env-manager local
"""

from swath.engine.scoring import ValidateConfig
from swath.nn.heads import Classification

config = ValidateConfig(
    preds_path="output/demo/predictions/classes",
    gt_path="output/demo/masks/test",
    tasks={"water": Classification()},
)
