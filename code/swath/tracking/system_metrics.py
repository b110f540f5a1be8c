"""What a run takes of its machine: processor, memory, threads and GPUs, sampled while it works.

MLflow's own monitor asks the store for the run before each value and ends for good when there is no answer, and its end
waits for the store. Here its collectors are asked by a thread that never speaks to the store: values go through the
run's queue, like all others.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
from mlflow.environment_variables import MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL
from mlflow.system_metrics.metrics.base_metrics_monitor import BaseMetricsMonitor
from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor

from swath.tracking.runs import Run

log = logging.getLogger("swath.tracking")

SECONDS = 10.0
"""Between two samples, unless MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL says otherwise: as MLflow's own monitor."""
PATIENCE = 5.0
"""Seconds that a sample in the making may take at the end of a run."""
MEGABYTE = 1e6


class ProcessMonitor(BaseMetricsMonitor):
    """This process: its threads, the share of one core that it keeps busy (above 100 with several), its memory."""

    def __init__(self) -> None:
        super().__init__()
        self.process = psutil.Process()
        self.process.cpu_percent()  # the first call knows no time to compare with

    def collect_metrics(self) -> None:
        with self.process.oneshot():
            self._metrics["process_threads"].append(self.process.num_threads())
            self._metrics["process_cpu_percentage"].append(self.process.cpu_percent())
            self._metrics["process_memory_megabytes"].append(self.process.memory_info().rss / MEGABYTE)

    def aggregate_metrics(self) -> dict[str, float]:
        return {name: round(sum(values) / len(values), 1) for name, values in self._metrics.items()}


def monitors() -> list[BaseMetricsMonitor]:
    """What can be measured here; GPUs where there are some and their driver answers."""
    psutil.cpu_percent()  # the first call knows no time to compare with
    found: list[BaseMetricsMonitor] = [CPUMonitor(), ProcessMonitor()]
    try:
        found.append(GPUMonitor())
    except Exception as error:  # noqa: BLE001 - no GPU, no driver, no library for it: each raises its own
        log.debug("no system metrics of GPUs: %s", error)
    return found


@contextmanager
def system_metrics(run: Run, seconds: float | None = None) -> Iterator[None]:
    """Log ``system/...`` metrics of this machine to `run` every so many seconds, and once at the end of the block.

    The step of a value is the number of the sample, from 0. Nothing here waits for the store, and the block's end waits
    for a sample in the making only. A process without a run of its own (`silent_run`) samples nothing.
    """
    if not run.id:
        yield
        return
    interval = seconds or MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL.get() or SECONDS
    over = threading.Event()
    sampler = threading.Thread(target=_sample, args=(run, interval, over), name="system metrics", daemon=True)
    sampler.start()
    try:
        yield
    finally:
        over.set()
        sampler.join(PATIENCE)


def _sample(run: Run, interval: float, over: threading.Event) -> None:
    """Until `over`, and then once more: what a collector cannot tell is left out of the sample."""
    asked = monitors()
    number = 0
    ended = False
    while not ended:
        ended = over.wait(interval)
        values: dict[str, float] = {}
        for monitor in asked:
            values |= _asked(monitor)
        run.log_metrics({f"system/{name}": value for name, value in values.items()}, number)
        number += 1


def _asked(monitor: BaseMetricsMonitor) -> dict[str, float]:
    try:
        monitor.collect_metrics()
        return dict(monitor.aggregate_metrics())
    except Exception as error:  # noqa: BLE001 - whatever a driver raises, the run goes on
        log.debug("no system metrics of %s: %s", type(monitor).__name__, error)
        return {}
    finally:
        monitor.clear_metrics()
