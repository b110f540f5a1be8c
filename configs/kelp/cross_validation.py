"""A model for each of ten splits: each maps the tiles of its own coasts that it has not seen, and all test tiles.

mlflow run . -e cross_validation --env-manager local -P config_path=configs/kelp/cross_validation.py

Two of the splits: -P 'areas=["0","1"]'. A second start does only what is missing. Weights are the last ones of each
training: tiles that selected them could not judge them.
"""

from swath.studies.cross_validation import CrossValidationConfig

config = CrossValidationConfig(
    training_config="configs/kelp/training.py",
    inference_config="configs/kelp/inference.py",
    scenes_path="output/kelp/folds",
    labels_path="output/kelp/folds",
    column="judged_in",
    test_path="output/kelp/folds",
    test_only={"original_split": ("test",)},
    output_path="output/kelp/ten_folds",
)
