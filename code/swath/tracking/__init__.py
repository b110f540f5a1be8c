"""Runs, and what they record. The only package that imports mlflow.

Metrics, images and files go through a queue to the tracking store, with retries: a store that is away for a while
delays them and never stops the work. What cannot be delivered in the end is kept in a local file and reported.
"""

from swath.interrupt import Stopped
from swath.tracking.bundle import provenance, versions
from swath.tracking.delivery import Delivery
from swath.tracking.process import cli
from swath.tracking.project import IDENTITY, ChildStep, command_of, ensure_step, run_child_step, warm_up
from swath.tracking.runs import PARAM_LENGTH, Run, run, silent_run
from swath.tracking.store import fetch, history, located, metrics_of, resolved_reference, run_of_reference
from swath.tracking.system_metrics import system_metrics

__all__ = [
    "IDENTITY",
    "PARAM_LENGTH",
    "ChildStep",
    "Delivery",
    "Run",
    "Stopped",
    "cli",
    "command_of",
    "ensure_step",
    "fetch",
    "history",
    "located",
    "metrics_of",
    "provenance",
    "resolved_reference",
    "run",
    "run_child_step",
    "run_of_reference",
    "silent_run",
    "system_metrics",
    "versions",
    "warm_up",
]
