"""20 to 100 % of the training scenes, drawn by scene, one within the other, for the training of this folder.

mlflow run . -e label_fractions --env-manager local -P config_path=configs/ai4arctic/label_fractions.py

With and without a pretrained encoder: -P 'variants={"random": {}, "pretrained": {"warm_start.weights": "runs:/<run id>"}}'.
The training's split decides who judges; as many trainings as there are fractions, seeds and variants.
"""

from swath.studies.label_fractions import LabelFractionsConfig

config = LabelFractionsConfig(
    training_config="configs/ai4arctic/training.py",
    output_path="output/ai4arctic/label_fractions",
    seeds=(0,),
    metric="combined",
)
