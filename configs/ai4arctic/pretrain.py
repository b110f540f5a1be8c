"""Pretrain a ViT on the training scenes' tiles, with or without charts: a masked autoencoder of 24 bands.

mlflow run . -e pretrain --env-manager local -P config_path=configs/ai4arctic/pretrain.py

Any tiles will do, as many as there are: -P data.tiles_path=<folder>. A GPU is needed; add -P precision=bf16 there. The
generated scenes are too few to learn from: -P epochs=1 -P data.samples_per_epoch=64 shows that it runs, in two minutes on a
CPU. No number is published for it.
"""

from functools import partial

import segmentation_models_pytorch as smp
from torch.optim import AdamW

from swath.data.augment.transforms import D4
from swath.data.splits.split import RandomSplit
from swath.nn.networks.masked import MaskedTransformer
from swath.training.config import DataConfig
from swath.training.pretrain_config import PretrainConfig
from swath.training.schedules import Cosine, WarmUp

config = PretrainConfig(
    data=DataConfig(
        tiles_path="output/ai4arctic/tiles",
        split=RandomSplit(fractions=(0.95, 0.05, 0.0), by="scene"),
        allow_leaks=("same area",),  # other times of a region, and no score is claimed
        crop=256,
        batch=64,
        samples_per_epoch=6400,
        augmentation=(partial(D4),),
    ),
    model=partial(
        smp.DPT,
        encoder_name="tu-vit_small_patch16_224",
        encoder_weights=None,
        img_size=256,
        dynamic_img_size=True,
        num_classes=0,
        final_norm=False,
        decoder_fusion_channels=128,
        decoder_intermediate_channels=(96, 192, 384, 384),
    ),
    method=partial(MaskedTransformer, width=256, depth=4, heads=8),
    ratio=0.75,
    optimizer=partial(AdamW, lr=1.5e-4, weight_decay=5e-2, betas=(0.9, 0.95)),
    no_decay=True,
    schedule=partial(WarmUp, after=Cosine()),
    epochs=300,
    evaluate_every=10,
    output_path="output/ai4arctic/pretraining",
)
