"""Each of the demo's training areas judged by a model that has not seen it, with and without flips and turns.

mlflow run . -e cross_validation --env-manager local

Four trainings: about ten minutes on two CPU cores. A second start does only what is missing.
"""

from swath.studies.cross_validation import CrossValidationConfig

config = CrossValidationConfig(
    training_config="configs/demo/training.py",
    inference_config="configs/demo/inference.py",
    scenes_path="output/demo/scenes/train",
    labels_path="output/demo/masks/train",
    output_path="output/demo/cross_validation",
    maps={"plain": {"sliding.tta": "off"}, "d4": {"sliding.tta": "d4"}},
)
