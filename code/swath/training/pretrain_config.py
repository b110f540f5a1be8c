"""What a pretraining is told: the network whose encoder learns, and what it has to guess."""

from __future__ import annotations

from functools import partial

from swath.config import Factory, configclass
from swath.config.ranges import Count, PositiveCount, Share
from swath.nn.networks.masked import MaskedPyramid, Reconstruction
from swath.training.config import LearningConfig


@configclass
class PretrainConfig(LearningConfig):
    """Pretrain an encoder on tiles without using labels: parts of each image are hidden, and guessed from the rest."""

    model: Factory
    """The network that will be trained afterwards, the same value as its training's `model`; its encoder learns."""
    method: Factory = partial(MaskedPyramid)
    """What hides and guesses: partial(MaskedPyramid, patch=32) for convolutional encoders, or
    partial(MaskedTransformer, width=256, depth=4) for a ViT, which sees nothing but what is left."""
    ratio: Share = 0.6
    """Share of the patches that are hidden in every sample: 0.75 for a ViT, 0.6 for others are usual."""
    normalise_patches: bool = True
    """Guess each patch with mean 0 and variance 1: texture counts, not brightness."""
    evaluate_every: PositiveCount = 1
    """Epochs between evaluations on the tiles that are held out (`data.split`), and between panels."""
    panels: Count = 4
    """Tiles drawn at every evaluation: held out ones, or training tiles when none is."""

    def losses(self) -> Reconstruction:
        """The loss of the guess."""
        return Reconstruction(self.normalise_patches)
