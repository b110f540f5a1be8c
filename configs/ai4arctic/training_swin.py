"""Fine-tune a Swin-B with ImageNet's weights in UPerNet. No number was published.

mlflow run . --env-manager local -P config_path=configs/ai4arctic/training_swin.py

The recipe is that of training_vit.py. Hours on a GPU; the weights are fetched once, where the internet is in reach.
"""

from dataclasses import replace
from functools import partial

import segmentation_models_pytorch as smp

from swath.nn.networks.decoders import TaskDecoders

from .training_vit import config as base

network = partial(
    smp.UPerNet,
    encoder_name="tu-swin_base_patch4_window7_224",
    encoder_weights="imagenet",
    img_size=256,
    strict_img_size=False,  # whole scenes judge
)
config = replace(base, name="Swin, fine-tuned", model=partial(TaskDecoders, network=network), warm_start=None)
