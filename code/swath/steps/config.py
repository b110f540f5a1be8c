"""Where a preparation step's items are worked on."""

from __future__ import annotations

from swath.config.classes import configclass


@configclass
class StepConfig:
    """Where a preparation step's items are worked on; decides nothing about the result."""

    executor: str = "threads"
    """Where the work is done: threads, processes, serial, or a cluster: dask://<host>:<port> of its scheduler."""
    workers: int | None = None
    """Number of threads or processes; None takes one per core. A cluster works with all that it has."""
