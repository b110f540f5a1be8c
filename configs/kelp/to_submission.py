"""Maps of the test tiles to the archive that the Kelp Wanted challenge takes, reopened and checked.

mlflow run . -e to_submission --env-manager local -P config_path=configs/kelp/to_submission.py

A zip instead of a tar: -P packing=zip. Maps of one model: -P input_path=<output_path of its inference>
"""

from swath.challenges.kelp.submission import KelpSubmissionConfig

config = KelpSubmissionConfig(
    input_path="output/kelp/ensemble", scenes_path="output/kelp/folds", output_path="output/kelp/submission"
)
