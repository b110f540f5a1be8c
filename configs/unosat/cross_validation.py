"""Each labelled area judged by a model that has not seen it: what a recipe is worth on ground it does not know.

mlflow run . -e cross_validation --env-manager local -P config_path=configs/unosat/cross_validation.py

As many trainings as there are areas. Variants side by side: variants={"base": {}, "jaccard": {"tasks.water.loss":
"swath.nn.losses.pixel:SoftJaccard"}}.
"""

from swath.studies.cross_validation import CrossValidationConfig

config = CrossValidationConfig(
    training_config="configs/unosat/training.py",
    inference_config="configs/unosat/inference.py",
    scenes_path="output/unosat/scenes/train",
    labels_path="output/unosat/masks/train",
    output_path="output/unosat/cross_validation",
    maps={"plain": {"sliding.tta": "off"}, "d4": {"sliding.tta": "d4"}},
)
