"""Fine-tune a SegFormer (MiT-B2) with ImageNet's weights. No number was published.

mlflow run . --env-manager local -P config_path=configs/ai4arctic/training_segformer.py

The recipe is that of training_vit.py. Hours on a GPU; the weights are fetched once, where the internet is in reach.
"""

from dataclasses import replace
from functools import partial

import segmentation_models_pytorch as smp

from swath.nn.networks.decoders import TaskDecoders

from .training_vit import config as base

network = partial(smp.Segformer, encoder_name="mit_b2", encoder_weights="imagenet")
config = replace(base, name="SegFormer, fine-tuned", model=partial(TaskDecoders, network=network), warm_start=None)
