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
        plan = Plan(run, config)
        table = plan.table()
        run.log_text(table.to_csv(index=False), "clean_up.csv")
        print(summary(table))
        if config.dry_run:
            print("This was a dry run, nothing is changed. -P dry_run=False does it.")
        else:
            run.log_metrics(plan.carry_out())


class Plan:
    """What happens to the runs of an experiment, and why."""

    def __init__(self, run: tracking.Run, config: CleanUpConfig) -> None:
        self.client, self.config = run.client, config
        self.experiment = retention.experiment_id(self.client, config.experiment, run.experiment_id)
        self.root = self.client.get_experiment(self.experiment).artifact_location
        self.runs = retention.active_runs(self.client, config.metric)
        self.why = retention.runs_to_keep(self.runs, self.experiment, config, lower_is_better(config.metric))
        self.to_delete = retention.runs_to_delete(self.runs, self.why)
        self.deleted = retention.deleted_runs(self.client, self.experiment)
        needed = {used for known in self.runs if known.id in self.why for used in known.uses}
        candidates = (*self.deleted, *self.to_delete)
        self.refused = {known.id: purge.why_not_purged(known, self.root, needed) for known in candidates}

    def table(self) -> pd.DataFrame:
        """A row per run and action."""
        kept = [run for run in self.runs if run.experiment == self.experiment and run.id in self.why]
        rows = [row(run, "stays", self.why[run.id]) for run in kept]
        rows += [row(run, "mark as deleted", "") for run in self.to_delete]
        if self.config.purge:
            for run in (*self.deleted, *self.to_delete):
                reason = self.refused[run.id]
                rows.append(row(run, "leave" if reason else "purge", reason))
        return pd.DataFrame(rows, columns=COLUMNS)

    def carry_out(self) -> dict[str, float]:
        """Mark runs as deleted, purge them where the config says so; return how many."""
        marked = list(retention.mark_deleted(self.client, self.to_delete))
        print(f"marked as deleted: {len(marked)} runs")
        gone = []
        if self.config.purge:
            deleted = retention.deleted_runs(self.client, self.experiment)
            ready = [run for run in deleted if not self.refused.get(run.id, "new")]
            gone = list(purge.purge(self.client, ready, self.root))
            print(f"purged: {len(gone)} runs")
        return {"clean_up/marked": len(marked), "clean_up/purged": len(gone)}


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
