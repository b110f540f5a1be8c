"""Tiles of the Kelp Wanted challenge mapped by one model; those with labels are scored.

mlflow run . -e inference --env-manager local -P config_path=configs/kelp/inference.py -P run_id=<id of the training run>

All test tiles, without scores: as it stands. The tiles that a training of split 3 has not seen, with scores:
-P 'only={"judged_in": ["3"]}' -P labels_path=output/kelp/folds -P output_path=output/kelp/held_out
"""

from swath.prediction.config import InferenceConfig
from swath.prediction.sliding import SlidingConfig
from swath.scoring.config import ScoringConfig

config = InferenceConfig(
    run_id="",
    input_path="output/kelp/folds",
    only={"original_split": ("test",)},
    output_path="output/kelp/predictions",
    sliding=SlidingConfig(window=350, overlap=0),
    scoring=ScoringConfig(conditions=("has_target", "qa_ok", "almost_all_water")),
)
