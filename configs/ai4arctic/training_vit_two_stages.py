"""Fine-tune the pretrained ViT in two stages: it is fixed for 30 epochs, while the decoders learn, then all learn.

mlflow run . --env-manager local -P config_path=configs/ai4arctic/training_vit_two_stages.py -P warm_start.weights=runs:/<id>

<id> is that of a run of pretrain.py. Fixed throughout, what the multi-task reference calls a frozen encoder:
-P freezing.0.epochs=None
"""

from dataclasses import replace

from swath.training.transfer import Freezing

from .training_vit import config as one_stage

config = replace(one_stage, name="ViT, fine-tuned in two stages", freezing=(Freezing(part="encoder", epochs=30),))
