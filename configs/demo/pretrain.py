"""Pretrain the encoder of the demo's U-Net on its tiles, without labels; then train from it.

mlflow run . -e pretrain --env-manager local
mlflow run . --env-manager local -P warm_start.weights=runs:/<run id that it prints>

Five minutes on two CPU cores; expect validation/explained of more than 0.1 (0.15 after 200 of the 500 steps): the rest is
mostly speckle. It shows how it is done; what it is worth, label_fractions measures.
"""

from dataclasses import replace
from functools import partial

from torch.optim import AdamW

from swath.nn.networks.masked import MaskedPyramid
from swath.training.pretrain_config import PretrainConfig
from swath.training.schedules import Cosine, WarmUp

from .training import config as training

config = PretrainConfig(
    data=replace(training.data, samples_per_epoch=400),
    channels=training.channels,
    model=training.model,
    method=partial(MaskedPyramid, patch=32, width=64),
    optimizer=partial(AdamW, lr=1e-3, weight_decay=5e-2),
    no_decay=True,
    normalise_patches=False,  # within a patch there is little but speckle, which nobody can guess
    schedule=partial(WarmUp, after=Cosine()),
    epochs=10,
    evaluate_every=5,
    output_path="output/demo/pretraining",
)
