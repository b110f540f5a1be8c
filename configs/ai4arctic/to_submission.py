"""Charts of all test scenes in one NetCDF file on the grid of 80 m, reopened and checked.

mlflow run . -e to_submission --env-manager local -P config_path=configs/ai4arctic/to_submission.py
"""

from swath.challenges.ai4arctic.submission import IceSubmissionConfig

config = IceSubmissionConfig(
    input_path="output/ai4arctic/predictions/classes",
    scenes_path="output/ai4arctic/scenes/test",
    output_path="output/ai4arctic/submission",
)
