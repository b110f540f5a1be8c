"""U-Net with transformers: self-attention at the deepest level, cross-attention on the skips. No number was published.

mlflow run . --env-manager local -P config_path=configs/ai4arctic/training_transformer.py

The `unet_transformers` of the challenge's reference team (Petit et al. 2021). Attention looks at 32 x 32 cells at most, so
whole scenes cost what the plain U-Net's cost.
"""

from dataclasses import replace
from functools import partial

from swath.nn.networks.unet import CrossAttention, SelfAttention

from .training import config as base

config = replace(
    base,
    name="transformer U-Net",
    model=partial(base.model, middle=partial(SelfAttention), skip=partial(CrossAttention)),
)
