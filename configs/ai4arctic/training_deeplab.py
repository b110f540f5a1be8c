"""Fine-tune a DeepLabV3+ (ResNet-50 with the deep stem) with ImageNet's weights. No number was published.

mlflow run . --env-manager local -P config_path=configs/ai4arctic/training_deeplab.py

Crops, rates and steps are those of training_winners.py, as the multi-task reference trains its convolutional networks. Hours
on a GPU; the weights are fetched once, where the internet is in reach.
"""

from dataclasses import replace
from functools import partial

import segmentation_models_pytorch as smp

from swath.nn.networks.decoders import TaskDecoders

from .training_winners import config as winners

network = partial(smp.DeepLabV3Plus, encoder_name="tu-resnet50c", encoder_weights="imagenet")
config = replace(winners, name="DeepLabV3+, fine-tuned", model=partial(TaskDecoders, network=network))
