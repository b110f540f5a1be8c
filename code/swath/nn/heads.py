"""Tasks, the model that serves them, and the one place where logits become probabilities."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from swath.config import Factory, configclass
from swath.data.channels import Preprocess
from swath.nn.losses import CrossEntropy

log = logging.getLogger("swath.model")


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
        return len(self.classes)

    @property
    def is_binary(self) -> bool:
        return len(self.classes) == 2


def probabilities(logits: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Logits (B, K, H, W) of each task to probabilities in [0, 1] that sum to 1 over classes. Nothing else does this."""
    return {task: values.float().softmax(dim=1) for task, values in logits.items()}


class SegmentationModel(nn.Module):
    """Raw bands in, ``{task: logits}`` out: preprocessing, network and the split of its channels by task.

    Any height and width: inputs are padded to a multiple of `stride` and the output is cropped back.
    """

    def __init__(
        self,
        preprocess: Preprocess,
        network: nn.Module,
        tasks: Mapping[str, Classification],
        stride: int = 32,
    ) -> None:
        super().__init__()
        self.preprocess, self.network, self.stride = preprocess, network, stride
        self.sizes = {name: task.channels for name, task in tasks.items()}

    def forward(self, image_BCHW: Tensor) -> dict[str, Tensor]:
        """float32 (B, C, H, W) of raw bands, NaN where nodata, to float (B, K_task, H, W) per task."""
        height, width = image_BCHW.shape[-2:]
        inputs = self.preprocess(image_BCHW)
        inputs = F.pad(inputs, (0, -width % self.stride, 0, -height % self.stride), mode="replicate")
        output = self.network(inputs)[..., :height, :width]
        return dict(zip(self.sizes, output.split(list(self.sizes.values()), dim=1), strict=True))


def build_model(
    bands: Sequence[str],
    channels: Factory,
    fill: Factory,
    normaliser: Factory,
    network: Factory,
    tasks: Mapping[str, Classification],
) -> SegmentationModel:
    """The model of a config for scenes with these bands. The network factory gets in_channels and classes."""  # fmt: skip
    derived = channels(available=tuple(bands))
    count = len(derived.names)
    preprocess = Preprocess(derived, fill(channels=count), normaliser(channels=count))
    factory = partial(network, in_channels=count, classes=sum(task.channels for task in tasks.values()))
    return SegmentationModel(preprocess, with_weights_if_reachable(factory), tasks)


def with_weights_if_reachable(factory: Callable[..., nn.Module]) -> nn.Module:
    """Build a network with the pretrained weights it asks for, or with random ones and a warning when there are none."""
    made = factory if isinstance(factory, partial) else partial(factory)
    own = inspect.signature(made.func).parameters.get("encoder_weights")  # smp asks for some unless told not to
    default = None if own is None or own.default is inspect.Parameter.empty else own.default
    wanted = made.keywords.get("encoder_weights", default)
    if wanted is None:
        return factory()
    try:
        return factory()
    except (
        OSError,
        RuntimeError,
    ) as error:  # no network: URLError, LocalEntryNotFoundError and kin are OSErrors
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        log.warning("pretrained weights %r cannot be loaded (%s): starting from random weights", wanted, reason)
        return factory(encoder_weights=None)


def predict_classes(probability: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Most probable class per pixel, int64 (B, H, W); of two classes class 1 where P(class 1) >= 0.5, ties too."""
    return {task: (p[:, 1] >= 0.5).long() if p.shape[1] == 2 else p.argmax(dim=1) for task, p in probability.items()}


def count_parameters(model: nn.Module) -> int:
    """Number of trainable values."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
