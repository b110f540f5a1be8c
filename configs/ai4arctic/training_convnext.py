"""Fine-tune the ConvNeXt that pretrain_convnext.py pretrained, in UPerNet. No number was published.

mlflow run . --env-manager local -P config_path=configs/ai4arctic/training_convnext.py -P warm_start.weights=runs:/<id>

<id> is that of a run of pretrain_convnext.py; the recipe is that of training_vit.py. Hours on a GPU.
"""

from dataclasses import replace
from functools import partial

import segmentation_models_pytorch as smp

from swath.nn.networks.decoders import TaskDecoders

from .pretrain_convnext import config as pretraining
from .training_vit import config as base

network = partial(smp.UPerNet, **pretraining.model.keywords)  # the same encoder
config = replace(base, name="ConvNeXt, fine-tuned", model=partial(TaskDecoders, network=network))
