"""Reading, computing and writing at the same time: one step ahead and one step behind, each in a thread of its own."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")


def prefetch(items: Iterator[T]) -> Generator[T, None, None]:
    """The same items; while one is in use, a thread makes the next. An error appears where its item would."""
    end = object()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(next, items, end)
        while (item := future.result()) is not end:
            future = pool.submit(next, items, end)
            yield item  # type: ignore[misc]


@contextmanager
def write_behind(function: Callable[..., Any]) -> Iterator[Callable[..., None]]:
    """`function` as one that returns at once while a thread does its work: one call at a time, all done when the block ends.

    An error appears at the next call, or at the block's end.
    """
    last: Future[Any] | None = None

    def call(*arguments: Any) -> None:
        nonlocal last
        if last is not None:
            last.result()
        last = pool.submit(function, *arguments)

    with ThreadPoolExecutor(1) as pool:
        yield call
        if last is not None:
            last.result()
