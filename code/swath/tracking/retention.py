"""Which runs of an experiment stay, and the marking of the others as deleted. Their files are `purge`'s part.

A run stays when it is among the newest of its kind or the best, is pinned, is running, made a registered model, or when
a run that stays builds on it. All of that is read from the store, so a clean-up that was interrupted can be started
again: runs are marked from the newest to the oldest, and what is left is planned as it was before.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run as StoredRun
from mlflow.entities import ViewType
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from swath.config import configclass
from swath.errors import ConfigError, TrackingError

PIN = "swath.keep"
"""A run with this tag, whatever its value, always stays."""

REASON = "swath.reason"
"""Tag with the error that ended a run: a run that it speaks of is none that it builds on."""

RUN_ID = re.compile(r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])")
UNFINISHED = ("RUNNING", "SCHEDULED")
PAGE = 1000


@configclass
class CleanUpConfig:
    """Which runs of an experiment stay. Without dry_run=False, nothing is changed."""

    experiment: str | None = None
    """Name of the experiment; None takes the one that this run is in."""
    keep_last: int = 10
    """So many of the newest runs of each kind (training, inference, pipeline, ...) stay."""
    keep_best: int = 3
    """So many of the best runs by `metric` stay."""
    metric: str = "best/validation/iou_fg"
    """Logged metric that says which runs are best. Losses count as better when they are lower."""
    dry_run: bool = True
    """Only show what would go."""
    purge: bool = False
    """Remove the files and records of the experiment's deleted runs for good, those marked now and those marked before."""

    def __post_init__(self) -> None:
        if self.keep_last < 0 or self.keep_best < 0:
            raise ConfigError(
                f"keep_last={self.keep_last}, keep_best={self.keep_best}: give numbers of runs, 0 or more"
            )


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """What decides whether a run stays. `uses`: ids of the runs that its tags and parameters name."""

    id: str
    experiment: str
    name: str = ""
    kind: str = ""
    status: str = "FINISHED"
    started: int = 0
    """Milliseconds since 1970."""
    parent: str | None = None
    uses: frozenset[str] = frozenset()
    value: float | None = None
    """The metric that says what is best, where the run has it."""
    pinned: bool = False
    artifacts: str = ""
    """Where its files are, as a URI."""

    @property
    def running(self) -> bool:
        return self.status in UNFINISHED


# ---------------------------------------------------------------------------------------------------------- the store


def experiment_id(client: MlflowClient, name: str | None, default: str) -> str:
    """The id of the active experiment called `name`, or `default`. Raises TrackingError that lists the names."""
    if name is None:
        return default
    found = client.get_experiment_by_name(name)
    if found is None or found.lifecycle_stage != "active":
        known = ", ".join(sorted(e.name for e in _paged(client.search_experiments)))
        raise TrackingError(f"experiment={name}: no such experiment in the store. It has: {known}.")
    return str(found.experiment_id)


def active_runs(client: MlflowClient, metric: str) -> list[RunInfo]:
    """All runs of all experiments that are not deleted: runs of one experiment may build on those of another."""
    experiments = [e.experiment_id for e in _paged(client.search_experiments)]
    registered = {str(version.run_id) for version in _paged(client.search_model_versions)}
    return [known(run, metric, registered) for run in _paged(partial(client.search_runs, experiments))]


def deleted_runs(client: MlflowClient, experiment: str) -> list[RunInfo]:
    """The runs of one experiment that are marked as deleted."""
    search = partial(client.search_runs, [experiment], run_view_type=ViewType.DELETED_ONLY)
    return [known(run, "") for run in _paged(search)]


def _paged(search: Any) -> Iterator[Any]:
    token = None
    while True:
        page = search(max_results=PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def known(run: StoredRun, metric: str, registered: Iterable[str] = ()) -> RunInfo:
    """A stored run as the plan needs it; runs that made one of the `registered` models count as pinned."""
    tags, value = run.data.tags, run.data.metrics.get(metric)
    texts = [text for name, text in (*tags.items(), *run.data.params.items()) if name != REASON]
    return RunInfo(
        id=run.info.run_id, experiment=run.info.experiment_id, name=run.info.run_name or "",
        kind=tags.get("swath.kind", ""), status=run.info.status, started=run.info.start_time or 0,
        parent=tags.get(MLFLOW_PARENT_RUN_ID),
        uses=frozenset(found for text in texts for found in RUN_ID.findall(text)) - {run.info.run_id},
        value=None if value is None or math.isnan(value) else value,
        pinned=PIN in tags or run.info.run_id in registered, artifacts=run.info.artifact_uri or "",
    )  # fmt: skip


# ----------------------------------------------------------------------------------------------------------- the plan


def runs_to_keep(runs: Sequence[RunInfo], experiment: str, config: CleanUpConfig, lower: bool) -> dict[str, str]:
    """Run id to the reason why it stays; the runs of `experiment` that are not in it go.

    `runs` are the active runs of the whole store, `lower` says that low values of the metric are better. Raises
    TrackingError when runs would go, best ones are to be kept, and no run has the metric.
    """
    mine = [run for run in runs if run.experiment == experiment]
    why = {run.id: "of another experiment" for run in runs if run.experiment != experiment}
    why |= {run.id: "pinned or registered" for run in mine if run.pinned}
    why |= {run.id: "running" for run in mine if run.running}
    for run in _best(mine, config, lower):
        why.setdefault(run.id, f"among the {config.keep_best} best")
    for kind in sorted({run.kind for run in mine}):
        for run in _newest_first(r for r in mine if r.kind == kind and not r.running)[: config.keep_last]:
            why.setdefault(run.id, f"among the {config.keep_last} newest of its kind")
    why = _with_what_they_build_on(why, runs)
    unrated = all(run.value is None for run in mine)
    if config.keep_best and unrated and any(run.kind != "clean_up" for run in runs_to_delete(runs, why)):
        raise TrackingError(
            f"metric={config.metric}: no run of the experiment has it, so none can be kept as the best. "
            "Copy its name from the dashboard, or set keep_best=0."
        )
    return why


def runs_to_delete(runs: Sequence[RunInfo], why: Mapping[str, str]) -> list[RunInfo]:
    """The runs that do not stay, newest first: a child goes before its parent, so any part of the way is consistent."""
    return _newest_first(run for run in runs if run.id not in why)


def _newest_first(runs: Iterable[RunInfo]) -> list[RunInfo]:
    return sorted(runs, key=lambda run: (run.started, run.id), reverse=True)


def _best(mine: Sequence[RunInfo], config: CleanUpConfig, lower: bool) -> list[RunInfo]:
    """The best runs, the newest of equal ones first; runs that repeat a value of their steps share one place with them."""
    rated = [run for run in mine if run.value is not None and not run.running]
    sign = 1 if lower else -1
    best: list[RunInfo] = []
    seen: list[RunInfo] = []
    for run in sorted(_newest_first(rated), key=lambda r: sign * (r.value or 0.0)):
        if len(best) == config.keep_best:
            break
        if not any(run.value == other.value and _linked(run, other) for other in seen):
            best.append(run)
        seen.append(run)
    return best


def _linked(a: RunInfo, b: RunInfo) -> bool:
    """Whether one names the other, as a step names the chain that it is part of."""
    return a.id in b.uses or b.id in a.uses


def _children(runs: Iterable[RunInfo]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for run in runs:
        if run.parent:
            found[run.parent].append(run.id)
    return found


def _with_what_they_build_on(why: Mapping[str, str], runs: Sequence[RunInfo]) -> dict[str, str]:
    """`why` with the steps below the runs in it, and all runs that any of them names, and so on.

    A parent that stays only because of one of its children does not hold its other children: the trials of a search.
    """
    by_id, children = {run.id: run for run in runs}, _children(runs)
    reasons, todo = dict(why), [(run_id, True) for run_id in why]
    seen = set(todo)
    while todo:
        run_id, whole = todo.pop()
        steps = [(child, True) for child in children[run_id]] if whole else []
        named = [(used, False) for used in sorted(by_id[run_id].uses) if used in by_id]
        for other in (*steps, *named):
            reasons.setdefault(other[0], f"{'a step of' if other[1] else 'needed by'} {run_id}")
            if other not in seen:
                seen.add(other)
                todo.append(other)
    return reasons


# -------------------------------------------------------------------------------------------------------- the marking


def mark_deleted(client: MlflowClient, runs: Iterable[RunInfo]) -> Iterator[RunInfo]:
    """Mark runs as deleted, in order, and yield each that was; one that has been started again meanwhile stays.

    `mlflow runs restore --run-id ID` takes a mark back, until the run is purged.
    """
    for run in runs:
        info = client.get_run(run.id).info
        if info.status not in UNFINISHED and info.lifecycle_stage == "active":
            client.delete_run(run.id)
            yield run
