"""Fine-tune the ViT that pretrain.py pretrained: a decoder per chart, concentration as a number. No number was published.

mlflow run . --env-manager local -P config_path=configs/ai4arctic/training_vit.py -P warm_start.weights=runs:/<id of pretrain.py>

The recipe for transformers of the multi-task reference: scenes at 200 m (guide, "The winners' recipe"), 30,000 steps of 16
crops, AdamW at 1e-4 with warm-up and cosine, validation every 1,000 steps. All weights learn from the start; in two stages:
training_vit_two_stages.py. Hours on a GPU; add -P precision=bf16 there. From random weights: -P warm_start=None
"""

from dataclasses import replace
from functools import partial

from torch.optim import AdamW

from swath.data.augment.random_crop import RandomCrop
from swath.data.augment.transforms import RandomFlip
from swath.nn.networks.decoders import TaskDecoders
from swath.training.config import WarmStart
from swath.training.schedules import Cosine, WarmUp

from .pretrain import config as pretraining
from .training_winners import config as winners

config = replace(
    winners,
    name="ViT, fine-tuned",
    data=replace(
        winners.data,
        crop=288,
        augmentation=(partial(RandomCrop, size=256, zoom=(1.0, 1.1), cat_max_ratio=0.9), partial(RandomFlip)),
    ),
    model=partial(TaskDecoders, network=pretraining.model),
    warm_start=WarmStart(),
    optimizer=partial(AdamW, lr=1e-4, weight_decay=0.01),
    no_decay=True,
    schedule=partial(WarmUp, after=Cosine(), share=0.05, start=1 / 3),
    epochs=60,
    validation=replace(winners.validation, every=1000, unit="iterations"),
)
