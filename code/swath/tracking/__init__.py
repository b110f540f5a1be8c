"""Runs, and what they record. The only package that imports mlflow.

Metrics, images and files go through a queue to the tracking store, with retries: a store that is away for a while
delays them and never stops the work. What cannot be delivered in the end is kept in a local file and reported.
"""

from swath.tracking.bundle import provenance, versions
from swath.tracking.delivery import Delivery
from swath.tracking.process import Stopped, cli
from swath.tracking.project import ChildStep, command_of, ensure_step, finished_step, run_child_step, warm_up
from swath.tracking.runs import PARAM_LENGTH, Run, run, silent_run
from swath.tracking.store import fetch, history, located, metrics_of
from swath.tracking.system_metrics import system_metrics

__all__ = [
    "PARAM_LENGTH",
    "ChildStep",
    "Delivery",
    "Run",
    "Stopped",
    "cli",
    "command_of",
    "ensure_step",
    "fetch",
    "finished_step",
    "history",
    "located",
    "metrics_of",
    "provenance",
    "run",
    "run_child_step",
    "silent_run",
    "system_metrics",
    "versions",
    "warm_up",
]
