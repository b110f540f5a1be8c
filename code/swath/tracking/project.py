"""Entry points of MLproject as child runs of one parent, each in a process of its own that starts warm.

A server process imports the libraries once; every step is forked from it (the standard library's forkserver), so a
chain of ten short steps does not import torch and MLflow ten times.
"""

from __future__ import annotations

import os
import runpy
import shlex
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing import forkserver, get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from mlflow.exceptions import ExecutionException, MlflowException
from mlflow.projects.utils import get_or_create_run, get_run_env_vars, load_project

from swath import config as configs
from swath.config.command_line import DIFF, with_diff
from swath.errors import SwathError
from swath.interrupt import check_stop, stop_requested, uninterrupted
from swath.tracking.process import UNDELIVERED, tell_at_the_end
from swath.tracking.runs import Run
from swath.tracking.unreachable import unanswered

IDENTITY = "swath.identity"
"""Tag of a training's run: a digest of all that decides its result."""

MadeBy = Callable[[Callable[[str], str | None]], str | None]
"""Asks a step for the run that left its results, given what finds the run of a training by its identity."""

CLEAN_UP_SECONDS = 180.0
"""How long a step that was stopped may take to leave its files and its run in order."""

LOOK_SECONDS = 0.2
"""How often a chain looks whether it was asked to stop while a step works."""


@dataclass(frozen=True, kw_only=True)
class ChildStep:
    """An entry point to start as a child run, with its parameters."""

    entry_point: str
    parameters: Mapping[str, str]
    name: str


def warm_up(modules: Sequence[str]) -> None:
    """Start the server process that imports `modules`, while this process goes on."""
    get_context("forkserver").set_forkserver_preload(list(modules))
    forkserver.ensure_running()


def ensure_step(parent: Run, step: ChildStep, made_by: MadeBy | None = None) -> str:
    """The id of the run that left what the step would, or else of a run that does it now (`run_child_step`).

    ``made_by(training_of)`` asks the step's own records, see `swath.studies.current`; None asks nothing. Raises
    TrackingError when the store does not answer any more.
    """
    try:
        done = made_by(partial(_training_of, parent)) if made_by else None
        if done is not None and not _is_finished(parent, done):
            done = (
                None  # its numbers are not in this store: what is there already is found again, and a run made for it
            )
        print(f"{'done before: ' if done else '==> '}{step.name}", flush=True)
        return done or run_child_step(parent, step)
    except MlflowException as error:
        raise unanswered(error) from error


def _training_of(parent: Run, identity: str) -> str | None:
    """The newest finished run with an identity in the parent's experiment, or None."""
    found = parent.client.search_runs(
        [parent.experiment_id],
        f"tags.`{IDENTITY}` = '{identity}' and attributes.status = 'FINISHED'",
        max_results=1,
        order_by=["attributes.start_time DESC"],
    )
    return str(found[0].info.run_id) if found else None


def _is_finished(parent: Run, run_id: str) -> bool:
    try:
        found = parent.client.get_run(run_id).info
    except MlflowException:
        return False
    return found.status == "FINISHED" and found.lifecycle_stage == "active"


def command_of(entry_point: str, parameters: Mapping[str, str]) -> list[str]:
    """The command that ``mlflow run`` starts for an entry point of the project.

    Raises SwathError for an entry point that MLproject does not have.
    """
    project = load_project(str(configs.PROJECT_ROOT))
    try:
        found = project.get_entry_point(entry_point)
    except ExecutionException as error:
        raise SwathError(f"entry_point={entry_point}: not in MLproject ({error})") from None
    return shlex.split(found.compute_command(dict(parameters), storage_dir=None))


def run_child_step(parent: Run, step: ChildStep) -> str:
    """Start an entry point of the project as a child of `parent`, wait for it, and return its run id.

    The run is the one that ``mlflow run`` would make: same tags, same parameters but for folders of this machine, same
    command. Raises SwathError when it fails; its own message stands above, in its output. A step whose results are there
    and whose run is not whole in the store (`UNDELIVERED`) does not fail: the chain goes on, and ends with that status.
    """
    root = str(configs.PROJECT_ROOT)
    parameters = dict(step.parameters) | ({} if with_diff(sys.argv) else {DIFF: "False"})
    command = command_of(step.entry_point, parameters)
    run_id = get_or_create_run(
        None, root, parent.experiment_id, root, None, step.entry_point, configs.recorded(parameters)
    ).info.run_id
    environment = get_run_env_vars(run_id, parent.experiment_id)
    child = get_context("forkserver").Process(target=_execute, args=(command, environment), name=step.name)
    child.start()
    _wait(child)
    _name(parent, run_id, step.name)
    if child.exitcode == UNDELIVERED:
        tell_at_the_end(f"step {step.name}: its results are there, but not all of its run {run_id}, as said above")
    elif child.exitcode:
        _end(parent, run_id)
        raise SwathError(
            f"step {step.name} failed (exit status {child.exitcode}); fix what it says above and start the same command again"
        )
    return str(run_id)


def _name(parent: Run, run_id: Any, name: str) -> None:
    """The step's name in place of the script's own; a remark in brackets, such as what a score was judged on, stays."""
    own = parent.client.get_run(run_id).info.run_name or ""
    remark = own[own.index(" (") :] if " (" in own else ""
    parent.client.set_tag(run_id, "mlflow.runName", name + remark)


def _execute(command: Sequence[str], environment: Mapping[str, str]) -> None:
    """In the step's own process: what ``python script arguments`` does."""
    os.environ.update(environment)
    os.chdir(configs.PROJECT_ROOT)
    interpreter, script, *arguments = command
    if Path(interpreter).name != "python":
        raise SwathError(f"MLproject: a step's command must be `python <script> ...`, found {shlex.join(command)}")
    sys.argv = [script, *arguments]
    sys.path.insert(0, str((configs.PROJECT_ROOT / script).parent))
    runpy.run_path(script, run_name="__main__")


def _wait(child: BaseProcess) -> None:
    """Until the step's end; a step is never left behind, and gets the time to clean up."""
    try:
        while child.exitcode is None:
            check_stop()
            child.join(LOOK_SECONDS)
    except BaseException:
        with uninterrupted():
            if stop_requested() != signal.SIGINT:  # Ctrl-C reaches the step by itself, other signals do not
                child.terminate()
            child.join(CLEAN_UP_SECONDS)
            child.kill()
        raise


def _end(parent: Run, run_id: Any) -> None:
    """A step that was killed could not say so in its run."""
    if parent.client.get_run(run_id).info.status == "RUNNING":
        parent.client.set_terminated(run_id, "FAILED")
