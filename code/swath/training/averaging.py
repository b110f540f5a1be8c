"""Averages of the weights over a training: exponential (EMA) and of the last part with equal weights (SWA)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from ignite.engine import Engine, Events
from ignite.handlers import EMAHandler
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, update_bn

from swath.distributed import share_statistics


class Averages:
    """The averages that a config asks for, updated by a trainer's events."""

    def __init__(self, model: nn.Module, ema_decay: float | None, swa_from: float | None) -> None:
        """`ema_decay`: per step; `swa_from`: share of the epochs after which each epoch's end is averaged."""
        self.model, self.swa_from = model, swa_from
        self.ema = EMAHandler(model, momentum=1 - ema_decay, handle_buffers="update") if ema_decay else None
        self.swa = AveragedModel(model) if swa_from is not None else None

    @property
    def judged(self) -> nn.Module:
        """The weights that are evaluated and kept: the moving average when there is one."""
        return self.ema.ema_model if self.ema else self.model

    def attach(self, engine: Engine, epochs: int) -> None:
        """Follow a trainer of `epochs` epochs."""
        if self.ema:
            self.ema.attach(engine)
        if self.swa:
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._add_epoch, epochs)

    def _add_epoch(self, engine: Engine, epochs: int) -> None:
        assert self.swa is not None
        assert self.swa_from is not None
        if engine.state.epoch > self.swa_from * epochs:
            self.swa.update_parameters(self.model)

    def averaged(self, images: Iterable[Tensor], device: torch.device) -> nn.Module | None:
        """The equal-weight average, its batch-norm statistics renewed on `images`; None when no epoch was averaged.

        Averaged weights have seen no image: the running statistics of any single epoch do not fit them
        (Izmailov et al. 2018, section 3.2).
        """
        if self.swa is None or int(self.swa.n_averaged) == 0:
            return None
        update_bn(images, self.swa, device)
        share_statistics(self.swa.module)
        return self.swa.module

    def state(self) -> dict[str, Any]:
        return {
            "ema": self.ema.ema_model.state_dict() if self.ema else None,
            "swa": self.swa.state_dict() if self.swa else None,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        if self.ema:
            self.ema.ema_model.load_state_dict(state["ema"])
        if self.swa:
            self.swa.load_state_dict(state["swa"])
