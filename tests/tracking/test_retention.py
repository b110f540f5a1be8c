"""Cleaning up an experiment: what stays by law, what goes, and that nothing else is ever touched."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import mlflow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow import MlflowClient
from mlflow.entities import ViewType

from swath.errors import ConfigError, TrackingError
from swath.tracking import purge as purging
from swath.tracking.retention import CleanUpConfig, RunInfo, known, runs_to_delete, runs_to_keep
from tests.conftest import Script

pytestmark = pytest.mark.system

METRIC = "best/validation/iou_fg"


# ------------------------------------------------------------------------------------------------------ laws of a plan


def history(seed: int) -> list[RunInfo]:
    """Runs of two experiments: chains that name and repeat their steps, inferences, some pinned or running."""
    rng = random.Random(seed)
    runs: list[RunInfo] = []
    for i in range(rng.randint(1, 25)):
        experiment = rng.choice("aaab")
        older = [r for r in runs if r.experiment == experiment]
        parent = rng.choice(older) if older and rng.random() < 0.4 else None
        uses = {r.id for r in rng.sample(runs, min(len(runs), rng.choice([0, 0, 1, 2])))} | (
            {parent.id} if parent else set()
        )
        value = rng.random() if rng.random() < 0.5 else None
        run = RunInfo(
            id=f"r{i}", experiment=experiment, kind=rng.choice(["training", "pipeline"]), started=i, value=value,
            parent=parent.id if parent else None, uses=frozenset(uses), pinned=rng.random() < 0.05,
            status=rng.choice(["FINISHED"] * 6 + ["FAILED", "RUNNING"]),
        )  # fmt: skip
        if parent and rng.random() < 0.5:  # a chain names its step, and repeats what it reached
            at = runs.index(parent)
            runs[at] = replace(parent, uses=parent.uses | {run.id}, value=parent.value if value is None else value)
        runs.append(run)
    return runs


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 4), st.integers(0, 4), st.booleans())
def test_c90_what_stays_is_new_or_good_or_needed_and_needs_nothing_that_goes(
    seed: int, last: int, best: int, lower: bool
) -> None:
    runs = history(seed)
    config = CleanUpConfig(keep_last=last, keep_best=best)
    try:
        why = runs_to_keep(runs, "a", config, lower)
    except TrackingError:
        assert best
        assert all(r.value is None for r in runs if r.experiment == "a")
        return
    gone = {run.id: run for run in runs_to_delete(runs, why)}
    mine = [r for r in runs if r.experiment == "a"]
    assert all(run.experiment == "a" and not run.running and not run.pinned for run in gone.values())
    assert not any(used in gone for run in runs if run.id in why for used in run.uses)
    for kind in ("training", "pipeline"):
        ended = [r.id for r in mine if r.kind == kind and not r.running]
        assert not set(ended[len(ended) - last :]) & set(gone)
    order = list(gone)
    assert all(order.index(run.id) < order.index(run.parent) for run in gone.values() if run.parent in gone)
    sign = -1 if lower else 1
    for run in gone.values():
        if run.value is not None:
            better = {r.value for r in mine if r.id in why and r.value is not None and sign * (r.value - run.value) > 0}
            assert len(better) >= best
    for run in mine:  # the children of what stays for its own sake
        if run.id in why and not why[run.id].startswith("needed by"):
            assert not any(child.parent == run.id and child.id in gone for child in runs)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 3), st.integers(0, 3), st.integers(0, 25))
def test_c90_interrupted_anywhere_the_next_plan_is_the_rest_of_the_first(
    seed: int, last: int, best: int, done: int
) -> None:
    runs = history(seed)
    config = CleanUpConfig(keep_last=last, keep_best=best)
    try:
        todo = [run.id for run in runs_to_delete(runs, runs_to_keep(runs, "a", config, lower=False))]
    except TrackingError:
        return
    left = [run for run in runs if run.id not in todo[:done]]
    assert [run.id for run in runs_to_delete(left, runs_to_keep(left, "a", config, lower=False))] == todo[done:]


def test_c90_a_chain_and_its_training_share_one_place_among_the_best() -> None:
    chain = RunInfo(id="chain", experiment="a", started=0, value=0.9, uses=frozenset({"training"}))
    training = RunInfo(id="training", experiment="a", started=1, value=0.9, parent="chain", uses=frozenset({"chain"}))
    other = RunInfo(id="other", experiment="a", started=2, value=0.8)
    third = RunInfo(id="third", experiment="a", started=3, value=0.7)
    runs = [chain, training, other, third]
    why = runs_to_keep(runs, "a", CleanUpConfig(keep_last=0, keep_best=2), lower=False)
    assert set(why) == {"chain", "training", "other"}
    assert set(runs_to_keep(runs, "a", CleanUpConfig(keep_last=0, keep_best=1), lower=True)) == {"third"}


def test_c90_the_best_trial_holds_its_search_but_not_the_other_trials() -> None:
    search = RunInfo(id="search", experiment="a", kind="search")
    trials = [
        RunInfo(id=f"t{i}", experiment="a", kind="training", started=1 + i, value=i / 10, parent="search", uses=frozenset({"search"}))
        for i in range(9)
    ]  # fmt: skip
    later = RunInfo(id="later", experiment="a", kind="search", started=20)
    why = runs_to_keep([search, *trials, later], "a", CleanUpConfig(keep_last=1, keep_best=2), lower=False)
    assert set(why) == {"t8", "t7", "search", "later"}
    assert len(runs_to_keep([search, *trials], "a", CleanUpConfig(keep_last=1, keep_best=2), lower=False)) == 10


# ------------------------------------------------------------------------------------------------- through the script


@pytest.fixture
def client(store: str) -> MlflowClient:
    return MlflowClient()


@pytest.fixture
def experiment(client: MlflowClient, tmp_path: Path) -> str:
    """A fresh experiment called as its folder, with a root of its own for the files."""
    return str(client.create_experiment(tmp_path.name, artifact_location=str(tmp_path / "files")))


def add(
    client: MlflowClient, experiment: str, value: float | None = None, status: str = "FINISHED", **tags: str
) -> str:
    """A run with one file, and a metric where there is a value."""
    run_id = str(client.create_run(experiment, tags={"swath.kind": "training"} | tags).info.run_id)
    client.log_text(run_id, "x" * 1000, "model/weights.txt")
    if value is not None:
        client.log_metric(run_id, METRIC, value)
    if status != "RUNNING":
        client.set_terminated(run_id, status)
    return run_id


CleanUp = Callable[..., int]


@pytest.fixture
def clean_up(script: Script, tmp_path: Path) -> CleanUp:
    return partial(script, "clean_up", "configs/demo/clean_up.py", experiment=tmp_path.name)


def alive(client: MlflowClient, experiment: str, view: int = ViewType.ACTIVE_ONLY) -> set[str]:
    return {run.info.run_id for run in client.search_runs([experiment], run_view_type=view)}


def files(root: Path) -> set[str]:
    """Run ids that have files."""
    return {path.relative_to(root).parts[0] for path in root.rglob("*.txt")}


def test_c90_default_is_a_dry_run_that_shows_what_would_go_with_sizes(
    client: MlflowClient, experiment: str, clean_up: CleanUp, last_run: Callable[[], mlflow.entities.Run],
    capsys: pytest.CaptureFixture[str], tmp_path: Path,
) -> None:  # fmt: skip
    runs = [add(client, experiment, value) for value in (0.9, 0.1, 0.5, 0.2)]
    client.delete_run(add(client, experiment))
    before = alive(client, experiment, ViewType.ALL)
    assert clean_up(keep_last=1, keep_best=1, purge=True) == 0
    out = capsys.readouterr().out
    assert "This was a dry run" in out
    assert alive(client, experiment, ViewType.ALL) == before
    assert files(tmp_path / "files") == before
    logged = mlflow.artifacts.load_text(f"runs:/{last_run().info.run_id}/clean_up.csv")
    table = list(csv.DictReader(io.StringIO(logged)))
    assert {(r["run"], r["action"]) for r in table if r["run"] in runs} == {
        (runs[0], "stays"), (runs[3], "stays"), (runs[1], "mark as deleted"), (runs[2], "mark as deleted"),
        (runs[1], "purge"), (runs[2], "purge"),
    }  # fmt: skip
    assert {r["MB"] for r in table} == {"0.001"}
    assert all(run in out for run in runs[1:3])
    assert runs[0] not in out


def test_c90_newest_best_and_all_that_they_build_on_stay(
    client: MlflowClient, experiment: str, clean_up: CleanUp, store: str
) -> None:
    base = add(client, experiment, 0.3)
    middle = add(client, experiment, 0.31, **{"mlflow.parentRunId": base})
    worse = add(client, experiment, 0.1)
    best = add(client, experiment, 0.8, **{"swath.training_run": middle})
    running = add(client, experiment, 0.2, "RUNNING")
    pinned = add(client, experiment, 0.25, **{"swath.keep": ""})
    ensemble = add(client, experiment, None)
    client.log_param(ensemble, "cfg.run_ids", f"('{worse}', 'x')")
    elsewhere = client.create_experiment(f"{experiment}-other")
    used = add(client, experiment, 0.12)
    add(client, elsewhere, **{"swath.training_run": used})
    failed = add(client, experiment, None, "FAILED")
    goes = add(client, experiment, 0.22)
    newest = add(client, experiment, 0.21, "KILLED")
    assert clean_up(keep_last=1, keep_best=1, dry_run=False) == 0
    assert alive(client, experiment) == {base, middle, best, running, pinned, used, newest}
    assert alive(client, experiment, ViewType.DELETED_ONLY) == {worse, ensemble, failed, goes}
    assert len(alive(client, str(elsewhere))) == 1
    client.restore_run(goes)  # a mark can be taken back, the files are still there
    assert mlflow.artifacts.load_text(f"runs:/{goes}/model/weights.txt") == "x" * 1000
    assert clean_up(keep_last=3, keep_best=0, dry_run=False) == 0
    assert alive(client, experiment) == {running, pinned, used, goes, newest}


def test_c90_a_registered_model_holds_its_run(client: MlflowClient, experiment: str, clean_up: CleanUp) -> None:
    served, goes = add(client, experiment, 0.1), add(client, experiment, 0.1)
    client.create_registered_model(f"water-{served}")
    client.create_model_version(f"water-{served}", f"runs:/{served}/model", served)
    assert clean_up(keep_last=0, keep_best=0, dry_run=False) == 0
    assert alive(client, experiment) == {served}
    assert goes not in alive(client, experiment)


def test_c90_losses_are_better_when_lower_and_nan_is_never_best(
    client: MlflowClient, experiment: str, clean_up: CleanUp
) -> None:
    runs = [add(client, experiment) for _ in range(3)]
    for run_id, value in zip(runs, (0.9, float("nan"), 0.4), strict=True):
        client.log_metric(run_id, "validation/loss_water", value)
    assert clean_up(keep_last=0, keep_best=1, metric="validation/loss_water", dry_run=False) == 0
    assert alive(client, experiment) == {runs[2]}


def test_c90_a_wrong_metric_or_experiment_changes_nothing(
    client: MlflowClient, experiment: str, clean_up: CleanUp, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = {add(client, experiment, 0.5) for _ in range(3)}
    assert clean_up(keep_last=0, metric="best/validation/iuo", dry_run=False, purge=True) == 1
    assert "metric=best/validation/iuo: no run of the experiment has it" in capsys.readouterr().err
    assert clean_up(experiment="nonesuch", dry_run=False) == 1
    assert "no such experiment in the store. It has:" in capsys.readouterr().err
    assert clean_up(keep_last=-1, dry_run=False) == 1
    assert clean_up(keep_last=3, metric="best/validation/iuo", dry_run=False) == 0  # nothing would go anyway
    assert alive(client, experiment) == runs
    with pytest.raises(ConfigError, match="keep_last=-2"):
        CleanUpConfig(keep_last=-2)


# ------------------------------------------------------------------------------------------------------------- purging


def test_c90_purge_removes_files_and_records_of_this_experiments_deleted_runs_only(
    client: MlflowClient, experiment: str, clean_up: CleanUp, tmp_path: Path
) -> None:
    root = tmp_path / "files"
    before, goes, stays = (add(client, experiment, value) for value in (0.1, 0.2, 0.3))
    client.delete_run(before)
    needed, active = add(client, experiment, 0.1), add(client, experiment, 0.4)
    client.set_tag(active, "swath.training_run", needed)
    client.delete_run(needed)  # by hand, though a run builds on it
    running = add(client, experiment, 0.1, "RUNNING")
    client.delete_run(running)
    doomed = client.create_experiment(f"{experiment}-deleted", artifact_location=str(tmp_path / "doomed"))
    foreign = add(client, str(doomed))
    client.delete_experiment(doomed)
    (tmp_path / "outside.txt").write_text("here")
    (root / goes / "artifacts" / "model" / "link").symlink_to(tmp_path)

    assert clean_up(keep_last=1, keep_best=1, dry_run=False) == 0
    assert files(root) == {before, goes, stays, needed, active, running}  # no purge without the flag
    assert clean_up(keep_last=1, keep_best=1, dry_run=False, purge=True) == 0
    assert files(root) == {needed, active, running}
    assert {p.name for p in root.iterdir()} == {needed, active, running}
    assert alive(client, experiment, ViewType.ALL) == {needed, active, running}
    assert client.get_experiment(doomed).lifecycle_stage == "deleted"
    assert files(tmp_path / "doomed") == {foreign}
    assert (tmp_path / "outside.txt").read_text() == "here"


def test_c90_purge_never_leaves_the_experiments_folder(
    client: MlflowClient, experiment: str, clean_up: CleanUp, store: str, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    import sqlite3

    root = tmp_path / "files"
    linked, dotted, foreign, fine, active = (add(client, experiment) for _ in range(5))
    treasure = tmp_path / "treasure" / "artifacts"
    treasure.mkdir(parents=True)
    (treasure / "map.txt").write_text("gold")
    (root / linked).rename(tmp_path / "moved")
    (root / linked).symlink_to(treasure.parent)
    with sqlite3.connect(store.removeprefix("sqlite:///")) as database:
        set_uri = "UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?"
        database.execute(set_uri, (f"{root}/{dotted}/../{active}/artifacts", dotted))
        database.execute(set_uri, (str(treasure), foreign))
    database.close()
    for run_id in (linked, dotted, foreign, fine):
        client.delete_run(run_id)
    assert clean_up(keep_last=9, keep_best=0, dry_run=False, purge=True) == 0
    assert alive(client, experiment, ViewType.DELETED_ONLY) == {linked, dotted, foreign}
    assert (treasure / "map.txt").read_text() == "gold"
    assert active in files(root)
    assert fine not in files(root)
    out = capsys.readouterr().out
    assert f"a link leads out of the experiment's folder: {treasure}" in out
    assert f"its files are not in the experiment's folder: {treasure}" in out
    assert f"its files are not in the experiment's folder: {root}/{dotted}/../{active}/artifacts" in out
    stored = known(client.get_run(dotted), METRIC)
    with pytest.raises(TrackingError, match="nothing of it is gone"):
        list(purging.purge(client, [stored], str(root)))
    with pytest.raises(TrackingError, match="is not marked as deleted"):
        list(purging.purge(client, [known(client.get_run(active), METRIC)], str(root)))


def test_c90_an_experiment_folder_that_is_a_link_itself_is_fine(
    client: MlflowClient, clean_up: CleanUp, tmp_path: Path
) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "files").symlink_to(tmp_path / "disk")
    experiment = str(client.create_experiment(tmp_path.name, artifact_location=(tmp_path / "files").as_uri()))
    client.delete_run(add(client, experiment))
    assert clean_up(keep_last=9, keep_best=0, dry_run=False, purge=True) == 0
    assert not list((tmp_path / "disk").iterdir())


def test_c90_a_purge_that_was_cut_short_is_ended_by_the_same_command(
    client: MlflowClient, experiment: str, clean_up: CleanUp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    root = tmp_path / "files"
    runs = {add(client, experiment) for _ in range(3)}
    for run_id in runs:
        client.delete_run(run_id)
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    def cut(self: SqlAlchemyStore, run_id: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:  # after the files of the first run, before its record
        patch.setattr(SqlAlchemyStore, "_hard_delete_run", cut)
        assert clean_up(keep_last=9, keep_best=0, dry_run=False, purge=True) == 130
    assert len(files(root)) == 2
    assert alive(client, experiment, ViewType.DELETED_ONLY) == runs

    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

    delete, stuck = LocalArtifactRepository.delete_artifacts, min(files(root))

    def denied(self: LocalArtifactRepository, path: str | None = None) -> None:
        if stuck in str(self.artifact_dir):
            raise PermissionError(13, "Permission denied", stuck)
        delete(self, path)

    with monkeypatch.context() as patch:
        patch.setattr(LocalArtifactRepository, "delete_artifacts", denied)
        assert clean_up(keep_last=9, keep_best=0, dry_run=False, purge=True) == 1
    assert f"{stuck}: [Errno 13] Permission denied" in capsys.readouterr().err
    assert alive(client, experiment, ViewType.ALL) == {stuck}
    assert clean_up(keep_last=9, keep_best=0, dry_run=False, purge=True) == 0
    assert not alive(client, experiment, ViewType.ALL)
    assert not list(root.iterdir())


def test_c90_without_a_name_it_cleans_its_own_experiment_but_not_itself(
    client: MlflowClient, experiment: str, script: Script
) -> None:
    runs = [add(client, experiment, 0.1 * i) for i in range(3)]
    mlflow.set_experiment(experiment_id=experiment)
    try:
        for _ in range(2):
            overrides = {"keep_last": 1, "keep_best": 0, "dry_run": False, "purge": True}
            assert script("clean_up", "configs/demo/clean_up.py", **overrides) == 0
    finally:
        mlflow.set_experiment("tests")
    left = client.search_runs([experiment], run_view_type=ViewType.ALL)
    assert sorted(run.data.tags["swath.kind"] for run in left) == ["clean_up", "clean_up", "training"]
    assert runs[2] in {run.info.run_id for run in left}
    assert {run.info.status for run in left} == {"FINISHED"}
