"""One encoder for several tasks, with a decoder for each: the alternative to one decoder with a head per task."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from swath.config import Factory
from swath.errors import ConfigError
from swath.nn.networks.pretrained import build_network

PARTS = ("encoder", "decoder", "segmentation_head")


class TaskDecoders(nn.Module):
    """The encoder of `network`, and for each task a decoder and a head of its own.

    `network` is any factory whose networks have the parts of segmentation-models-pytorch (``encoder``, ``decoder``,
    ``segmentation_head``): its own, or `swath.nn.networks.unet.UNet`. `tasks` maps names to channels; the output (B, sum of
    channels, H, W) has them one after the other. A task that is left out changes nothing in the others. Raises
    ConfigError for networks of other parts.
    """

    def __init__(self, in_channels: int, tasks: Mapping[str, int], network: Factory) -> None:
        super().__init__()
        made = {name: build_network(network, in_channels, channels) for name, channels in tasks.items()}
        first = next(iter(made.values()))
        missing = [part for part in PARTS if not hasattr(first, part)]
        if missing:
            raise ConfigError(
                f"TaskDecoders(network={type(first).__name__}): it has no {', '.join(missing)}. Use a network of "
                "segmentation-models-pytorch or swath.nn.networks.unet:UNet, or one decoder for all tasks (the network alone)."
            )
        self.encoder = first.get_submodule("encoder")
        self.decoders = nn.ModuleDict({name: net.get_submodule("decoder") for name, net in made.items()})
        self.heads = nn.ModuleDict({name: net.get_submodule("segmentation_head") for name, net in made.items()})

    def forward(self, image_BCHW: Tensor) -> Tensor:
        found = self.encoder(image_BCHW)
        features = found if isinstance(found, tuple) else (found,)  # those of transformers have tokens besides
        return torch.cat([self.heads[name](decoder(*features)) for name, decoder in self.decoders.items()], dim=1)
