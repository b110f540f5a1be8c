"""U-Net with a ResNet-50 on seven bands, land and NDVI: the baseline of Kelp Wanted's second place.

mlflow run . --env-manager local -P config_path=configs/kelp/training.py

Published for their pipeline, with folds of coasts and cross entropy: Dice 0.6648 on the public test
tiles, 0.6824 with the Dice loss. A GPU is needed. Another fold judges with
-P data.split.column=split_3

As theirs: order of the bands, indices only where QA is 0 and elevation is not above 0, the smallest
value in gaps, training quantiles 1 to 99 % to [0, 1], one pixel of zeros on each side (350 to 352),
turns by up to 90 degrees and flips, AdamW, one cycle. Not as theirs: what turns bring in is missing
and ignored, not class 0; quantiles are those of all pixels of up to 256 training tiles, not means
of tiles' own; elevation and QA are scaled as every channel; probabilities are those of both
classes; the best weights are those of the foreground's Dice, the score of the challenge.
"""

from functools import partial

import segmentation_models_pytorch as smp
from torch.optim import AdamW

from swath.challenges.kelp.indices import KelpIndices
from swath.data.augment.transforms import RandomAffine, RandomFlip
from swath.data.splits.split import ByColumn
from swath.nn.losses.pixel import CrossEntropy
from swath.nn.model import Classification
from swath.nn.preprocess.channels import Fill
from swath.nn.preprocess.normalise import QuantileClamp
from swath.nn.resizing import Pad
from swath.training.config import DataConfig, TrainingConfig, ValidationConfig
from swath.training.schedules import OneCycle

config = TrainingConfig(
    data=DataConfig(
        tiles_path="output/kelp/tiles",
        split=ByColumn(column="split_0", validation=("val",)),
        crop=None,
        batch=32,
        augmentation=(partial(RandomAffine, degrees=90, p=0.5), partial(RandomFlip)),
    ),
    tasks={"kelp": Classification(classes=("background", "kelp"), loss=partial(CrossEntropy))},
    channels=partial(
        KelpIndices,
        indices=("DEMWM", "NDVI"),
        bands=("R", "G", "B", "SWIR", "NIR", "QA", "DEM"),
        quality="QA",
        elevation="DEM",
        missing=(-32768.0,),
    ),
    fill=partial(Fill, strategy="min"),
    normaliser=partial(QuantileClamp),
    rgb=("R", "G", "B"),
    model=partial(smp.Unet, encoder_name="resnet50", encoder_weights="imagenet"),
    resize=Pad(multiple=32),
    optimizer=partial(AdamW, lr=3e-4, weight_decay=1e-4),
    schedule=partial(OneCycle, warm_up=0.1, div=2.0, final_div=100.0),
    epochs=10,
    precision="bf16",
    validation=ValidationConfig(metric="validation/f1_fg"),
    output_path="output/kelp/training",
)
