"""Normalise batches on one and on two gloo processes; run by test_batch_norm.py as a program of its own."""

import gc
import sys
from pathlib import Path

import ignite.distributed as idist
import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from swath.nn.batch_norm import BatchNormOverRanks, over_all_ranks
from tests.dask_cluster import free_port

CPU = torch.device("cpu")


def network() -> nn.Module:
    """Batch norms with and without parameters, running statistics and activations, after convolutions."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(),
        nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), BatchNormAct2d(6, act_layer=nn.SiLU)),
        nn.Conv2d(6, 4, 1), nn.BatchNorm2d(4, momentum=None), nn.BatchNorm2d(4, affine=False),
        nn.BatchNorm2d(4, track_running_stats=False),
    )  # fmt: skip


def batch() -> Tensor:
    """Six images far from zero, the samples of the two processes at different levels."""
    images = torch.randn(6, 3, 8, 10, generator=torch.Generator().manual_seed(1))
    return 100 + images * torch.arange(1, 7).view(-1, 1, 1, 1)


def work(rank: int, folder: str) -> None:
    """Three steps on this rank's share of the samples; output, gradients and state of all ranks are kept."""
    world = idist.get_world_size()
    model = over_all_ranks(network(), CPU)
    kinds = [type(module) for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    assert all(issubclass(kind, BatchNormOverRanks) for kind in kinds) == (world > 1)
    images = batch()[rank::world].clone().requires_grad_()
    for _ in range(3):
        model.zero_grad()
        images.grad = None
        found = model(images.contiguous(memory_format=torch.channels_last))
        (found * torch.linspace(-1, 1, found[0].numel()).view(found[0].shape)).sum().backward()
    gradients = {name: value.grad for name, value in model.named_parameters()}
    if world > 1:  # the sum of what each rank has found, as training adds it up
        gradients = {name: idist.all_reduce(value) for name, value in gradients.items()}
    model.eval()
    kept = {"found": found.detach(), "images": images.grad, "gradients": gradients, "state": model.state_dict(),
            "judged": model[:-1](batch()[rank :: world]).detach()}  # fmt: skip
    torch.save(kept, Path(folder) / f"{world}_{rank}.pt")
    gc.collect()
    idist.barrier()


if __name__ == "__main__":
    torch.set_num_threads(1)
    work(0, sys.argv[1])
    with idist.Parallel(backend="gloo", nproc_per_node=2, start_method="fork", master_port=free_port()) as parallel:
        parallel.run(work, sys.argv[1])
