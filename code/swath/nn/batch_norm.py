"""Batch normalisation over the samples of all processes, so that several of them train as one does, on CPUs, too."""

from __future__ import annotations

import logging
from typing import Any

import ignite.distributed as idist
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

log = logging.getLogger("swath.nn")

KNOWN = ("BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "BatchNormAct2d")
"""Classes of torch and timm that `over_all_ranks` can take the place of; the last also drops and activates."""


class _SumOverRanks(torch.autograd.Function):
    """The sum of a tensor over all ranks; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total


class BatchNormOverRanks(_BatchNorm):
    """What ``BatchNorm`` computes of all ranks' samples together; ``SyncBatchNorm`` is for GPUs only.

    Mean and variance are sums over all ranks in float32, in two passes: first the mean, then the squares of what
    differs from it. Every rank has to call it equally often while it trains. Without training it is an ordinary one.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected at least 2 dimensions, got {input.dim()}")

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, ...) of the input's type."""
        if not self.training:
            return super().forward(input)
        self._check_input_dim(input)
        values = input.float()
        others = [dim for dim in range(values.dim()) if dim != 1]
        shape = [1, -1] + [1] * (values.dim() - 2)
        count = _count_over_ranks(values)
        mean = _SumOverRanks.apply(values.sum(others)) / count
        centred = values - mean.view(shape)
        variance = _SumOverRanks.apply(centred.square().sum(others)) / count
        self._keep(mean.detach(), variance.detach() * (count / max(count - 1, 1)))
        scale = torch.rsqrt(variance + self.eps)
        if self.affine:
            scale = scale * self.weight.float()
        normalised = centred * scale.view(shape)
        if self.affine:
            normalised = normalised + self.bias.float().view(shape)
        return normalised.to(input.dtype)

    def _keep(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics towards those of a batch, as torch does."""
        if not self.track_running_stats or self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_(variance.to(self.running_var.dtype), share)


class _WithActivation(BatchNormOverRanks):
    """The same, then dropout and activation, as timm's ``BatchNormAct2d``."""

    act: nn.Module
    drop: nn.Module

    def forward(self, input: Tensor) -> Tensor:
        found: Tensor = self.act(self.drop(super().forward(input)))
        return found


def _count_over_ranks(values: Tensor) -> int:
    """Values per channel over all ranks. Raises ValueError where there is one alone."""
    count = torch.tensor([values.numel() // values.shape[1]], dtype=torch.int64, device=values.device)
    dist.all_reduce(count)
    total = int(count)
    if total < 2:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {tuple(values.shape)}")
    return total


def over_all_ranks(model: nn.Module, device: torch.device) -> nn.Module:
    """`model` with every batch normalisation replaced by one over all ranks, with the same parameters and buffers.

    On GPUs these are SyncBatchNorm. Of one process the model is left as it is; on CPUs so are kinds of batch
    normalisation that are not known, with a warning.
    """
    if idist.get_world_size() == 1:
        return model
    if device.type == "cuda":
        from timm.layers import convert_sync_batchnorm  # torch's own drops timm's activations

        converted: nn.Module = convert_sync_batchnorm(model)
        return converted
    return _converted(model)


def _converted(module: nn.Module) -> nn.Module:
    if isinstance(module, _BatchNorm) and not isinstance(module, BatchNormOverRanks):
        return _replaced(module)
    for name, child in module.named_children():
        setattr(module, name, _converted(child))
    return module


def _replaced(norm: _BatchNorm) -> nn.Module:
    """A normalisation over all ranks in place of one; `norm` itself where its class is not known."""
    kind = type(norm).__name__
    if kind not in KNOWN:
        log.warning("%s normalises by the samples of each process alone", kind)
        return norm
    new = (_WithActivation if kind == "BatchNormAct2d" else BatchNormOverRanks)(
        norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats
    )
    for name, parameter in norm.named_parameters(recurse=False):
        setattr(new, name, parameter)
    for name, buffer in norm.named_buffers(recurse=False):
        setattr(new, name, buffer)
    for name, child in norm.named_children():
        setattr(new, name, child)
    new.train(norm.training)
    return new
