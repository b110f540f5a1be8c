"""Batches of a data set, made ahead by threads.

Reading, unpacking and copying pixels let go of the interpreter's lock, so threads do at once what PyTorch's loader needs
processes for: no batch is copied from process to process, no worker has to start, and memory is there once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

from torch.utils.data import BatchSampler, Sampler

from swath.data.samples.dataset import collate

AHEAD = 2
"""Batches that are ready or in the making per thread, as in PyTorch's loader."""


class BatchSource(Protocol):
    """A data set that gives many samples at once, as PyTorch's loader asks for them."""

    def __len__(self) -> int: ...

    def __getitems__(self, items: list[Any]) -> Any: ...


class Loader:
    """Batches in the sampler's order, `workers` threads ahead of their use; 0 makes each when it is asked for.

    Without a sampler, all samples in their order. The same batches for any number of workers; an error appears where
    its batch would. `pinned` batches lie in memory that a GPU copies from while it computes.
    """

    def __init__(
        self, dataset: BatchSource, batch: int, sampler: Sampler[Any] | Sequence[Any] | None = None, workers: int = 0,
        pinned: bool = False,
    ) -> None:  # fmt: skip
        self.dataset, self.workers, self.pinned = dataset, workers, pinned
        self.batches = BatchSampler(range(len(dataset)) if sampler is None else sampler, batch, drop_last=False)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Generator[dict[str, Any], None, None]:
        if not self.workers:
            yield from map(self._batch, self.batches)
            return
        ready: deque[Future[dict[str, Any]]] = deque()
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="loader")
        try:
            for items in self.batches:
                ready.append(pool.submit(self._batch, items))
                if len(ready) > AHEAD * self.workers:
                    yield ready.popleft().result()
            while ready:
                yield ready.popleft().result()
        finally:  # who stops in the middle waits for batches in the making only
            pool.shutdown(cancel_futures=True)

    def _batch(self, items: list[Any]) -> dict[str, Any]:
        batch = collate(self.dataset.__getitems__(items))
        if not self.pinned:
            return batch
        target = {task: labels.pin_memory() for task, labels in batch["target"].items()}
        return batch | {"image": batch["image"].pin_memory(), "target": target}
