"""Keep the newest and the best runs of an experiment; mark the others as deleted, and purge them when asked to."""

from swath.config.help import answer

if __name__ == "__main__":
    answer(__file__)  # --help comes before the slow imports

from datetime import UTC, datetime
from typing import Any

import pandas as pd

from swath import config as configs
from swath import tracking
from swath.tracking import purge, retention
from swath.tracking.retention import CleanUpConfig, RunInfo
from swath.training.selection import lower_is_better


def main() -> None:
    config, config_path = configs.from_command_line(CleanUpConfig)
    with tracking.run(config, config_path, "clean_up", kind="clean_up") as run:
        client = run.client
        experiment = retention.experiment_id(client, config.experiment, run.experiment_id)
        root = client.get_experiment(experiment).artifact_location
        runs = retention.active_runs(client, config.metric)
        why = retention.runs_to_keep(runs, experiment, config, lower_is_better(config.metric))
        going, deleted = retention.runs_to_delete(runs, why), retention.deleted_runs(client, experiment)
        needed = {used for known in runs if known.id in why for used in known.uses}
        refused = {known.id: purge.why_not_purged(known, root, needed) for known in (*deleted, *going)}

        rows = [row(r, "stays", why[r.id]) for r in runs if r.experiment == experiment and r.id in why]
        rows += [row(r, "mark as deleted", "") for r in going]
        if config.purge:
            rows += [row(r, "leave" if refused[r.id] else "purge", refused[r.id]) for r in (*deleted, *going)]
        table = pd.DataFrame(rows, columns=COLUMNS)
        run.log_text(table.to_csv(index=False), "clean_up.csv")
        print(summary(table))
        if config.dry_run:
            print("This was a dry run, nothing is changed. -P dry_run=False does it.")
            return
        marked = list(retention.mark_deleted(client, going))
        print(f"marked as deleted: {len(marked)} runs")
        gone = []
        if config.purge:
            ready = [r for r in retention.deleted_runs(client, experiment) if not refused.get(r.id, "new")]
            gone = list(purge.purge(client, ready, root))
            print(f"purged: {len(gone)} runs")
        run.log_metrics({"clean_up/marked": len(marked), "clean_up/purged": len(gone)})


COLUMNS = ("action", "run", "name", "kind", "status", "started", "metric", "MB", "why")


def row(known: RunInfo, action: str, why: str) -> dict[str, Any]:
    """A line of the table: what happens to a run, and how much its files take."""
    size, started = purge.size(known), datetime.fromtimestamp(known.started / 1000, UTC)
    return {
        "action": action, "run": known.id, "name": known.name, "kind": known.kind, "status": known.status,
        "started": f"{started:%Y-%m-%d %H:%M}", "metric": known.value, "why": why,
        "MB": None if size is None else round(size / 1e6, 3),
    }  # fmt: skip


def summary(table: pd.DataFrame) -> str:
    """What goes, run by run, and how many stay for which reason."""
    moves = table[table["action"] != "stays"]
    totals = table.groupby("action")["MB"].agg(["size", "sum"])
    lines = [f"{action}: {int(count)} runs, {size:.1f} MB" for action, (count, size) in totals.iterrows()]
    return "\n".join([moves.drop(columns="metric").to_string(index=False), "", *lines] if len(moves) else lines)


if __name__ == "__main__":
    raise SystemExit(tracking.cli(main))
