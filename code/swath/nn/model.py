"""Tasks, the model that serves them, and the one place where logits become probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from swath.config import Factory, configclass
from swath.errors import ConfigError, TrainingError
from swath.nn.losses.pixel import CrossEntropy
from swath.nn.losses.regression import MeanSquaredError, ordinal_classes
from swath.nn.networks.pretrained import Positions, build_network, takes
from swath.nn.preprocess.channels import Preprocess
from swath.nn.resizing import Resizing


@configclass
class Classification:
    """A task that assigns one of several classes to each pixel."""

    classes: tuple[str, ...] = ("background", "water")
    """Names of the classes in the order of their label values, from 0; 255 is ignore and never a class."""
    loss: Factory = partial(CrossEntropy)
    """Loss of the task."""
    weight: float = 1.0
    """Weight of the task's loss in the sum over tasks."""

    @property
    def channels(self) -> int:
        """What the head of the network gives: a logit per class."""
        return len(self.classes)

    @property
    def is_binary(self) -> bool:
        return len(self.classes) == 2

    def decide(self, probability_BKHW: Tensor) -> Tensor:
        """int64 (B, H, W): the most probable class; of two classes class 1 where P(class 1) >= 0.5, ties too."""
        p = probability_BKHW
        return (p[:, 1] >= 0.5).long() if self.is_binary else p.argmax(dim=1)

    def constant(self, counts: NDArray[np.integer]) -> int:
        """The class to name everywhere without looking, from pixels by class: the commonest."""
        return int(counts.argmax())


@configclass
class Regression:
    """A task whose classes are steps of one quantity: the head gives a number, in steps; the class is its nearest step."""

    classes: tuple[str, ...]
    """Names of the steps in the order of their label values, from 0; 255 is ignore and never a step."""
    loss: Factory = partial(MeanSquaredError)
    """Loss of the task."""
    weight: float = 1.0
    """Weight of the task's loss in the sum over tasks."""

    @property
    def channels(self) -> int:
        """What the head of the network gives: one number."""
        return 1

    @property
    def is_binary(self) -> bool:
        """Never a matter of one probability and a threshold."""
        return False

    def decide(self, value_B1HW: Tensor) -> Tensor:
        """int64 (B, H, W): rounded, then clamped to the steps there are; -1.2 is step 0."""
        return ordinal_classes(value_B1HW, len(self.classes))

    def constant(self, counts: NDArray[np.integer]) -> int:
        """The step to name everywhere without looking, from pixels by step: the nearest to the mean."""
        return round(float(np.average(np.arange(len(counts)), weights=counts)))


Task = Classification | Regression
"""What a model can be asked about a pixel."""


def probabilities(logits: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Logits (B, K, H, W) of each task to probabilities in [0, 1] that sum to 1 over classes. Nothing else does this.

    The number of a regression (K = 1) stays as it is.
    """
    return {task: v.float().softmax(dim=1) if v.shape[1] > 1 else v.float() for task, v in logits.items()}


class SegmentationModel(nn.Module):
    """Raw bands in, ``{task: logits}`` out: preprocessing, network and the split of its channels by task.

    Any height and width: inputs are padded to a multiple of `stride` and the output is cropped back. With `resize` the
    network sees its input at another size, and logits are those of the input's pixels all the same.
    """

    def __init__(
        self,
        preprocess: Preprocess,
        network: nn.Module,
        tasks: Mapping[str, Task],
        stride: int = 32,
        resize: Resizing | None = None,
    ) -> None:
        super().__init__()
        self.preprocess, self.network, self.stride, self.resize = preprocess, network, stride, resize
        self.sizes = {name: task.channels for name, task in tasks.items()}
        self.frozen: frozenset[str] = frozenset()
        """Names of parts whose normalisation keeps its running statistics in training; see `swath.training.transfer`."""

    def forward(self, image_BCHW: Tensor) -> dict[str, Tensor]:
        """float32 (B, C, H, W) of raw bands, NaN where nodata, to float (B, K_task, H, W) per task.

        Raises TrainingError when the network needs more samples or larger ones.
        """
        inputs = self.preprocess(image_BCHW)
        if self.resize is None:
            output = self._at_its_size(inputs)
        else:
            seen = self._at_its_size(self.resize.apply(inputs))
            output = self.resize.restore(seen, (image_BCHW.shape[-2], image_BCHW.shape[-1]))
        return dict(zip(self.sizes, output.split(list(self.sizes.values()), dim=1), strict=True))

    def _at_its_size(self, inputs_BCHW: Tensor) -> Tensor:
        """The network's output for inputs of any size, of that size."""
        height, width = inputs_BCHW.shape[-2:]
        margin = (0, -width % self.stride, 0, -height % self.stride)
        padded = F.pad(inputs_BCHW, margin, mode="replicate")
        try:
            output: Tensor = self.network(padded)
        except (ValueError, RuntimeError) as error:
            explained = _too_small(error, padded)
            if explained is None:
                raise
            raise explained from error
        return output[..., :height, :width]

    def train(self, mode: bool = True) -> SegmentationModel:
        """Training or evaluation mode for all parts; normalisation in frozen parts stays in evaluation mode."""
        super().train(mode)
        for part in self.frozen:
            for layer in self.get_submodule(part).modules():
                if getattr(layer, "running_mean", None) is not None:
                    layer.eval()
        return self


def _too_small(error: Exception, inputs_BCHW: Tensor) -> TrainingError | None:
    """What a person can do about torch's refusal of a small batch or a small image; None for other errors."""
    count, _, height, width = inputs_BCHW.shape
    if "more than 1 value per channel" in str(error):
        return TrainingError(
            f"batch norm cannot train on {count} sample of {height} x {width} pixels: some of the network's features "
            "are one pixel then. Give each process two samples or more (data.batch), or, where the network has no "
            "global pooling (DeepLab, UPerNet and PAN have), a larger data.crop."
        )
    if "Output size is too small" in str(error):
        return TrainingError(
            f"{height} x {width} pixels are too few for this network. Use a larger data.crop; PAN needs 128."
        )
    return None


def build_model(
    bands: Sequence[str],
    channels: Factory,
    fill: Factory,
    normaliser: Factory,
    network: Factory,
    tasks: Mapping[str, Task],
    rgb: Sequence[str | None] | None = None,
    resize: Resizing | None = None,
) -> SegmentationModel:
    """The model of a config for scenes with these bands. The network factory gets in_channels and classes, or `tasks`
    (names to channels) where it takes that.

    `rgb` names the derived channels that take a pretrained network's filters of red, green and blue, None for a
    colour that is not there; without it the first three do. Raises ConfigError for a name or setting there is not.
    """
    derived = channels(available=tuple(bands))
    count = len(derived.names)
    preprocess = Preprocess(derived, fill(channels=count), normaliser(channels=count))
    sizes = {name: task.channels for name, task in tasks.items()}
    made = build_network(
        partial(network, tasks=sizes) if takes(network, "tasks") else network,
        count, sum(sizes.values()), _positions(rgb, derived.names),
    )  # fmt: skip
    return SegmentationModel(preprocess, made, tasks, resize=resize)


def _positions(rgb: Sequence[str | None] | None, names: Sequence[str]) -> Positions | None:
    """Where the named channels are among all. Raises ConfigError that lists those there are."""
    unknown = [name for name in rgb or () if name is not None and name not in names]
    if unknown:
        raise ConfigError(f"rgb: no channel {', '.join(unknown)}. The network's channels are {', '.join(names)}.")
    return None if rgb is None else [None if name is None else names.index(name) for name in rgb]


def predict_classes(probability: Mapping[str, Tensor], tasks: Mapping[str, Task]) -> dict[str, Tensor]:
    """Each task's decision per pixel, int64 (B, H, W)."""
    return {task: tasks[task].decide(p) for task, p in probability.items()}


def count_parameters(model: nn.Module) -> int:
    """Number of trainable values."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
