"""SegFormer's encoder on three bands, the tile enlarged to 768 px: of the third place's ensemble.

mlflow run . --env-manager local -P config_path=configs/kelp/training_third_place.py

Published for their ensemble of nine such models at 512 to 1,024 px: 0.7296 on the private test
tiles, 0.7247 on the public ones, the best of the first three; none for this model alone. They
mapped with four flips and the threshold 0.43 (-P sliding.tta=flips -P threshold=0.43 in inference)
and removed land. Hours on a GPU. Another member saw 640 px:
-P model.encoder_name=mit_b2 -P resize.factor=1.8286

Differences to theirs: loss and scores are those of the tile's own pixels, not of enlarged labels;
one rate for encoder and decoder, whose rate was five times as high; their batch size is not known
to us. Missing pixels have the lower limit of the clipped range, 6,000, not 0.
"""

from dataclasses import replace
from functools import partial

import segmentation_models_pytorch as smp
from torch.optim import AdamW

from swath.data.augment.transforms import RandomFlip
from swath.nn.losses.overlap import Dice
from swath.nn.preprocess.channels import Fill
from swath.nn.preprocess.normalise import ZScore
from swath.nn.preprocess.optical import Indices
from swath.nn.resizing import Resize
from swath.training.schedules import Cosine, WarmUp

from .training import config as base

CLIPPED = {
    "SWIR_clipped": "clip(S1, 6000, 24000)",
    "NIR_clipped": "clip(N, 6000, 24000)",
    "G_clipped": "clip(G, 6000, 24000)",
}

config = replace(
    base,
    data=replace(base.data, batch=8, augmentation=(partial(RandomFlip),)),
    tasks={"kelp": replace(base.tasks["kelp"], loss=partial(Dice, classes=(1,)))},
    channels=partial(Indices, indices=tuple(CLIPPED), bands=(), formulas=CLIPPED, missing=(-32768.0,)),
    fill=partial(Fill, strategy="constant", value=6000.0),
    normaliser=partial(
        ZScore,
        mean=(0.485, 0.456, 0.406),  # of ImageNet's red, green and blue, and 0.9 of their deviation
        std=(0.2061, 0.2016, 0.2025),
        max_value=24_000.0,
    ),
    rgb=tuple(CLIPPED),
    model=partial(smp.Unet, encoder_name="mit_b1", encoder_weights="imagenet"),
    resize=Resize(factor=768 / 350),
    optimizer=partial(AdamW, lr=5e-5, weight_decay=1e-2),
    schedule=partial(WarmUp, after=Cosine(), share=2 / 32, start=0.01),
    epochs=32,
)
