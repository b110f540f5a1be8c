"""Train a small U-Net on three of the demo's areas; the fourth one selects the best weights.

mlflow run . --env-manager local

About two minutes on two CPU cores; expect validation/iou_fg of about 0.8.
"""

from functools import partial

import segmentation_models_pytorch as smp
from torch.optim import AdamW

from swath.data.augment.transforms import D4
from swath.data.splits.split import ByArea
from swath.nn.losses.overlap import SoftJaccard
from swath.nn.losses.pixel import CrossEntropy, WeightedSum
from swath.nn.model import Classification
from swath.nn.preprocess.channels import Decibel
from swath.training.config import DataConfig, TrainingConfig, ValidationConfig
from swath.training.schedules import OneCycle

config = TrainingConfig(
    data=DataConfig(
        tiles_path="output/demo/tiles/train",
        split=ByArea(validation_areas=("dogwood",)),
        crop=160,
        batch=8,
        samples_per_epoch=200,
        augmentation=(partial(D4),),
    ),
    tasks={
        "water": Classification(
            loss=partial(WeightedSum, losses={"ce": partial(CrossEntropy), "jaccard": partial(SoftJaccard)})
        )
    },
    channels=partial(Decibel, clip=(-35.0, 5.0)),
    model=partial(smp.Unet, encoder_name="resnet18", encoder_weights=None, decoder_channels=(128, 64, 32, 16, 16)),
    optimizer=partial(AdamW, lr=2e-3, weight_decay=1e-2),
    schedule=partial(OneCycle, warm_up=0.2),
    epochs=6,
    validation=ValidationConfig(every=2),
    output_path="output/demo/training",
)
