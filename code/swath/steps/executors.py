"""Where the items of a step are worked on: in this thread, in threads, in processes, or on the workers of a cluster."""

from __future__ import annotations

import os
import site
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from typing import Any

from swath.config import PROJECT_ROOT
from swath.errors import ConfigError, StepError
from swath.steps.memory import keep_freed_memory

CLUSTER = "dask://"
"""How the address of a Dask scheduler starts."""

CONNECT_SECONDS = 20
"""How long a scheduler, and then its first worker, may take to answer."""


class SerialExecutor(Executor):
    """Runs each call at once in this thread: the same interface, for debuggers and tests."""

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(function(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - handed on through the future
            future.set_exception(error)
        return future


@contextmanager
def executor(kind: str, workers: int | None) -> Iterator[Executor]:
    """A pool of `workers` (None: one per core): ``threads``, ``processes``, ``serial``, or ``dask://host:port``.

    Pending work dies with an error. Raises ConfigError for another kind, or for a cluster that cannot be used.
    """
    if kind.startswith(CLUSTER):
        with _cluster(kind) as pool:
            yield pool
        return
    count = workers or os.cpu_count() or 1
    makers: dict[str, Callable[[], Executor]] = {
        "threads": lambda: ThreadPoolExecutor(count),
        "processes": lambda: ProcessPoolExecutor(  # spawned: no handle crosses a fork
            count, mp_context=get_context("spawn"), initializer=keep_freed_memory
        ),
        "serial": SerialExecutor,
    }
    if kind not in makers:
        raise ConfigError(f"executor={kind}: expected one of {', '.join(makers)}, or {CLUSTER}<host>:<port>")
    pool = makers[kind]()
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


@contextmanager
def _cluster(kind: str) -> Iterator[Executor]:
    """All workers of a Dask cluster. An item whose worker dies is done again by another one."""
    try:
        from distributed import Client, KilledWorker
    except ImportError:
        raise ConfigError(
            f"executor={kind}: the package `distributed` is not installed here. "
            "Install it (`pip install distributed`), or choose executor=threads."
        ) from None
    try:
        client = Client(kind.replace(CLUSTER, "tcp://"), timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"executor={kind}: no Dask scheduler answers there ({error}). "
            "Start one with `dask scheduler --port <port>`, and check host, port and firewall."
        ) from None
    with client:
        _meet_workers(client, kind)
        pool = client.get_executor(pure=False)
        try:
            yield pool
        except KilledWorker as error:
            raise StepError(
                f"executor={kind}: an item took several workers down with it ({error}). "
                "Most often their memory is too small: start them with more, or with fewer threads each."
            ) from error
        except CancelledError:
            raise StepError(
                f"executor={kind}: the scheduler went away. What was finished is kept: "
                "start it and its workers again, then the same command."
            ) from None
        finally:
            pool.shutdown(wait=False)  # what has not started will not start


def _meet_workers(client: Any, kind: str) -> None:
    """Let scheduler and workers, also those to come, import swath from this project's folder; ConfigError if they cannot."""
    try:
        client.wait_for_workers(1, timeout=CONNECT_SECONDS)
    except TimeoutError:
        raise ConfigError(
            f"executor={kind}: the scheduler has no workers. Start some with `dask worker {kind.replace(CLUSTER, 'tcp://')}`."
        ) from None
    path = partial(site.addsitedir, str(PROJECT_ROOT / "code"))
    client.register_worker_callbacks(path)
    client.run_on_scheduler(path)  # it reads what it hands on
    answers = client.run(_import_error(), on_error="return")
    answers["the scheduler"] = client.run_on_scheduler(_import_error())
    failed = {who: why for who, why in answers.items() if why is not None}
    if failed:
        who, why = next(iter(failed.items()))
        raise ConfigError(
            f"executor={kind}: {len(failed)} of {len(answers)} processes there cannot import swath, {who} says: {why}. "
            f"Start scheduler and workers where {PROJECT_ROOT} is mounted under the same path, with its environment active."
        )


def _import_error() -> Callable[[], str | None]:
    """A function for workers that do not know swath yet: being local, it travels with its code."""

    def import_error() -> str | None:
        try:
            import swath.geo.raster  # noqa: F401
        except ImportError as error:
            return str(error)
        return None

    return import_error
