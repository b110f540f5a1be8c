"""Where the arithmetic is done."""

from __future__ import annotations

import ignite.distributed as idist
import torch


def device_of(name: str | None) -> torch.device:
    """The device of a config: as named, such as cpu or cuda:1; None takes this process's GPU when there is one."""
    own = f"cuda:{idist.get_local_rank()}"
    return torch.device(name or (own if torch.cuda.is_available() else "cpu"))
