"""Where the arithmetic is done."""

from __future__ import annotations

import torch


def device_of(name: str | None) -> torch.device:
    """The device of a config: as named, such as cpu or cuda:1; None takes the GPU when there is one."""
    return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
