"""Charts of the test scenes with the model of a training run, scored on the grid of the scenes and on that of the challenge.

mlflow run . -e inference --env-manager local -P config_path=configs/ai4arctic/inference.py -P run_id=<id>

test/combined is the challenge's score on the pixels of the scenes, official/combined on its own pixels of 80 m. Without
the charts of the test scenes: -P labels_path=None -P also_score={}
"""

from swath.challenges.ai4arctic.tasks import AUTOICE
from swath.prediction.config import InferenceConfig
from swath.prediction.sliding import SlidingConfig

config = InferenceConfig(
    run_id="",
    input_path="output/ai4arctic/scenes/test",
    labels_path="output/ai4arctic/scenes/test/labels",
    also_score={"official": "output/ai4arctic/scenes/official/labels"},
    output_path="output/ai4arctic/predictions",
    sliding=SlidingConfig(window=512, overlap=128),
    allow_leaks=("same area",),  # the challenge's test scenes show the regions of the training scenes at other times
    scoring=AUTOICE,
)
