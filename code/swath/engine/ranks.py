"""Several processes on one job, through Ignite: what they agree on, and how they fail together.

torchrun or SLURM starts the processes; a single one needs nothing of this and behaves as rank 0 of 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Literal, TypeVar

import ignite.distributed as idist
import numpy as np
import torch

from swath.errors import SwathError

Backend = Literal["gloo", "nccl"]
"""How processes talk to one another: gloo on CPUs, nccl on GPUs."""

T = TypeVar("T")


@contextmanager
def process_group(backend: Backend | None) -> Iterator[None]:
    """Join the other processes for the length of a block; None does so only where torchrun started us."""
    if backend is None and torch.distributed.is_torchelastic_launched():
        backend = "nccl" if torch.cuda.is_available() else "gloo"
    if backend is None:
        yield
        return
    idist.initialize(backend)
    try:
        yield
    finally:
        idist.finalize()


def on_all_ranks(work: Callable[[], T]) -> list[T]:
    """Do `work` on every rank, wait for all, and return their results by rank.

    A SwathError of any rank is raised on all of them, so that none waits for one that gave up. Every rank has to call it.
    """
    if idist.get_world_size() == 1:
        return [work()]
    found: dict[str, T | SwathError]
    try:
        found = {"result": work()}
    except SwathError as error:
        found = {"error": error}
    gathered: list[dict[str, T]] = idist.all_gather(found)  # type: ignore[assignment]
    for one in gathered:
        if "error" in one:
            raise one["error"]  # type: ignore[misc]
    return [one["result"] for one in gathered]


def share(todo: Sequence[int], rank: int, world: int) -> list[range]:
    """This rank's part of ascending numbers, as runs of consecutive ones; the parts of all ranks differ by one at most."""
    mine = [int(i) for i in np.array_split(np.asarray(todo, int), world)[rank]]
    runs = [[i for _, i in run] for _, run in groupby(enumerate(mine), key=lambda pair: pair[1] - pair[0])]
    return [range(run[0], run[-1] + 1) for run in runs]
