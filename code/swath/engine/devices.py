"""Where the arithmetic is done."""

from __future__ import annotations

import ignite.distributed as idist
import torch


def device_of(name: str | None) -> torch.device:
    """The device of a config: as named, such as cpu or cuda:1; None takes the GPU when there is one.

    Of several processes each takes the GPU of its own number on the machine, unless one is named.
    """
    device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    if device.type == "cuda" and device.index is None and idist.get_world_size() > 1:
        return torch.device("cuda", idist.get_local_rank())
    return device
