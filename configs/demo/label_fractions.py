"""What the demo's training gains from more labels: 20 to 100 % of its scenes, each training with as many steps.

mlflow run . -e label_fractions --env-manager local

Ten trainings of two minutes each on two CPU cores. A second start does only what is missing. The three areas have six
scenes: 20 % is one, 40 % are two.
"""

from swath.studies.label_fractions import LabelFractionsConfig

config = LabelFractionsConfig(
    training_config="configs/demo/training.py",
    output_path="output/demo/label_fractions",
    seeds=(0, 1),
)
