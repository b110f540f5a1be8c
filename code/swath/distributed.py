"""The processes of one job: joined as torchrun or SLURM started them, equal in what they log, ended together."""

from __future__ import annotations

import gc
import inspect
import logging
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import groupby
from typing import Any, Literal, TypeVar

import ignite.distributed as idist
import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import _get_default_store

from swath.errors import SwathError, TrainingError

T = TypeVar("T")

Launcher = Literal["auto", "slurm"]

FAILED, STOPPED = "swath/failed", "stopped by a signal"
GONE = (
    "another process of this job is gone, killed or out of memory ({error}). "
    "Start the same command again to go on from the last state."
)


@contextmanager
def process_group(launcher: Launcher, device: str | None) -> Iterator[None]:
    """Work together with the other processes that torchrun, or ``srun`` with launcher "slurm", started; else alone.

    gloo on the CPU, NCCL on GPUs, where each process takes the GPU of its local rank. The first rank alone writes and
    speaks. Whatever holds a wrapped model has to be gone at the end of the block: one that outlives its group takes
    the process down at its exit.
    """
    if launcher == "auto" and not dist.is_torchelastic_launched():
        yield
        return
    idist.initialize("nccl" if device_of(device).type == "cuda" else "gloo")
    if idist.get_rank():
        logging.getLogger("swath").setLevel(logging.WARNING)
    try:
        with fail_together():
            yield
    except BaseException as error:
        traceback.clear_frames(error.__traceback__)
        raise
    finally:
        gc.collect()
        idist.finalize()


@contextmanager
def fail_together() -> Iterator[None]:
    """What ends one process ends all, and for the same reason: the others raise TrainingError with what it said.

    A process that waits for another one only sees a broken connection, or the signal with which torchrun ends it.
    """
    if idist.get_world_size() == 1:
        yield
        return
    try:
        yield
    except BaseException as error:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun ends the others; the run has to be closed before
        said = None if isinstance(error, SwathError) else _said()
        if said is None:
            said = _say(error)
        _raise_instead(said, error)
        raise


def _raise_instead(said: str, error: BaseException) -> None:
    """Raise what ended all in place of what followed from it."""
    if isinstance(error, SwathError) or said == _words(error):
        return
    if said == STOPPED:
        raise KeyboardInterrupt from error
    raise TrainingError(said) from error


def _words(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return STOPPED
    if isinstance(error, dist.DistError) or "gloo" in str(error):
        return GONE.format(error=str(error).splitlines()[0][:200])
    return f"process {idist.get_rank()} failed: {type(error).__name__}: {error}"


def _say(error: BaseException) -> str:
    """Leave what ended this process for the others. The store of the group outlives the connections within it."""
    words = _words(error)
    with suppress(RuntimeError):
        _get_default_store().set(FAILED, words)
    return words


def _said() -> str | None:
    with suppress(RuntimeError):
        store = _get_default_store()
        if store.check([FAILED]):
            return str(store.get(FAILED).decode())
    return None


def is_main() -> bool:
    """Whether this process writes files and speaks."""
    return bool(idist.get_rank() == 0)


def data_parallel(model: nn.Module, device: torch.device) -> nn.Module:
    """The model for data-parallel training when there are several processes, else itself.

    `share_statistics` takes the place of the broadcast of buffers, which would keep one rank's and forbid a second
    forward pass before the backward one.
    """
    if idist.get_world_size() == 1:
        return model
    parallel, devices = nn.parallel.DistributedDataParallel, [device] if device.type == "cuda" else None
    known = inspect.signature(parallel).parameters  # torch 2.15 has a new name for it, and warns of the old one
    quiet: dict[str, Any] = {"forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers": False}
    return parallel(model, device_ids=devices, **quiet)


def share_statistics(model: nn.Module) -> None:
    """Running statistics of batch normalisation become their mean over all ranks: all hold the same model again.

    Those over all ranks (`swath.nn.batch_norm`) are equal already; others keep the samples of their rank.
    """
    if idist.get_world_size() == 1:
        return
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    buffers = [b for m in norms for b in (m.running_mean, m.running_var) if b is not None]
    if buffers:
        flat = mean_over_ranks(torch.cat([b.flatten() for b in buffers]))
        for buffer, part in zip(buffers, flat.split([b.numel() for b in buffers]), strict=True):
            buffer.copy_(part.view_as(buffer))


def mean_over_ranks(values: Tensor) -> Tensor:
    """The mean of a tensor over all ranks, the same on each to the last bit; on its own device."""
    world = idist.get_world_size()
    if world == 1:
        return values
    total = values.detach().clone()
    dist.all_reduce(total)
    return total / world


def all_gather(value: T) -> list[T]:
    """One object of every rank, in the order of ranks."""
    if idist.get_world_size() == 1:
        return [value]
    found: list[Any] = [None] * idist.get_world_size()
    dist.all_gather_object(found, value)
    return found


def on_all_ranks(work: Callable[[], T]) -> list[T]:
    """Do `work` on every rank, wait for all, and return their results by rank.

    A SwathError of any rank is raised on all of them, so that none waits for one that gave up. Every rank has to call it.
    """
    if idist.get_world_size() == 1:
        return [work()]
    found: T | SwathError
    try:
        found = work()
    except SwathError as error:
        found = error
    results = []
    for one in all_gather(found):
        if isinstance(one, SwathError):
            raise one
        results.append(one)
    return results


def partition(todo: Sequence[int], rank: int, world: int) -> list[range]:
    """This rank's part of ascending numbers, as runs of consecutive ones; the parts of all ranks differ by one at most."""
    mine = [int(i) for i in np.array_split(np.asarray(todo, int), world)[rank]]
    runs = [[i for _, i in run] for _, run in groupby(enumerate(mine), key=lambda pair: pair[1] - pair[0])]
    return [range(run[0], run[-1] + 1) for run in runs]


def conditions(device: torch.device) -> dict[str, str]:
    """What the last digits of a result depend on besides its settings: device, threads of arithmetic, PyTorch."""
    return {"device": device.type, "threads": str(torch.get_num_threads()), "torch": str(torch.__version__)}


def device_of(name: str | None) -> torch.device:
    """The device of a config: as named, such as cpu or cuda:1; None takes the GPU when there is one.

    Of several processes each takes the GPU of its own number on the machine, unless one is named.
    """
    device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    if device.type == "cuda" and device.index is None and idist.get_world_size() > 1:
        return torch.device("cuda", idist.get_local_rank())
    return device
