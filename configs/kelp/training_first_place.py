"""U-Net with VGG-13 and scse, blurred labels, a boundary loss: the first place's main model.

mlflow run . --env-manager local -P config_path=configs/kelp/training_first_place.py

Published for their ensemble of 12 such models, with eight views each: 0.7332 on the private test
tiles, 0.7237 on the public ones; none for this model alone. Hours on a GPU. Their eight views are
-P sliding.tta=d4 in inference.

Of their 18 channels there are the eight that a formula of one pixel gives: five optical bands,
NDVI, NDWI and MNDWI. Not included are those that look at the whole tile or at neighbours: NIR and
its difference to red less their medians over water (ONIR, ODVI), closeness to land, six filters of
NDVI, and the probability of a tree model, which made their better models worse. Other differences:
no mosaic and no CutMix; missing pixels take the channel's smallest value, not 0; probabilities of
two classes in place of a sigmoid; folds are those of coasts, not of kelp cover.
"""

from dataclasses import replace
from functools import partial

import segmentation_models_pytorch as smp
from torch.optim import AdamW

from swath.data.augment.transforms import D4
from swath.nn.losses.blurred import BlurredDice, BlurredFocal
from swath.nn.losses.distance import Boundary
from swath.nn.losses.pixel import WeightedSum
from swath.nn.preprocess.normalise import ZScore
from swath.nn.preprocess.optical import Indices
from swath.training.config import EarlyStopping
from swath.training.schedules import Cosine, WarmUp
from swath.training.transfer import Freezing

from .training import config as base

loss = partial(
    WeightedSum,
    losses={
        "focal": partial(BlurredFocal, sigma=0.5),
        "dice": partial(BlurredDice, classes=(1,), sigma=0.5),
        "boundary": partial(Boundary, classes=(1,)),
    },
    weights={"boundary": 0.1},
)

config = replace(
    base,
    data=replace(base.data, batch=16, augmentation=(partial(D4),)),
    tasks={"kelp": replace(base.tasks["kelp"], loss=loss)},
    channels=partial(
        Indices, indices=("NDVI", "NDWI", "MNDWI"), bands=("SWIR", "NIR", "R", "G", "B"), missing=(-32768.0,)
    ),
    normaliser=partial(ZScore),
    model=partial(
        smp.Unet,
        encoder_name="vgg13",
        encoder_weights="imagenet",
        decoder_attention_type="scse",
    ),
    freezing=(Freezing(part="decoder.blocks.4.attention1"),),  # weighs a skip, of which the last block has none
    optimizer=partial(AdamW, lr=1e-3, weight_decay=1e-8),
    schedule=partial(WarmUp, after=Cosine(), share=0.05, start=0.01),
    epochs=100,
    validation=replace(base.validation, early_stopping=EarlyStopping(patience=30)),
)
