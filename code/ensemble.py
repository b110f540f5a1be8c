"""Predictions of several models for the same scenes to one: weighted mean or vote."""

from swath.config.help import answer

if __name__ == "__main__":
    answer(__file__)  # --help comes before the slow imports

from dataclasses import replace
from pathlib import Path

from swath import config as configs
from swath import tracking
from swath.errors import TrackingError
from swath.prediction.ensemble import EnsembleConfig, ensemble_jobs, member_weights
from swath.scoring.decisions import DECISION, decided
from swath.scoring.lineage import origin_of, prediction_folders, require_elsewhere
from swath.steps.config import ledger_of
from swath.steps.run import run_step


def main() -> None:
    config, config_path = configs.from_command_line(EnsembleConfig)
    output = configs.absolute(config.output_path)
    folders = prediction_folders(config.input_paths, "probabilities", "input_paths")
    require_elsewhere(output, folders)
    with tracking.run(config, config_path, "ensemble") as run:
        weights = member_weights(config, len(folders), lambda metric: [score_of(folder, metric) for folder in folders])
        config = decided(config, lambda text: tracking.located(text, DECISION, run.scratch))
        jobs = ensemble_jobs(config, folders, weights, output)
        for folder, weight in zip(folders, weights, strict=True):
            print(f"weight {weight:.4f}: {configs.relative(folder)}")
        run.log_metrics({f"ensemble/weight_{i}": weight for i, weight in enumerate(weights)})
        run.set_tags({"swath.training_run": ", ".join(sorted({r for f in folders for r in origin_of(f).run_ids}))})
        settled = replace(config, weights=weights, scores=None, score_metric=None)  # what decides the result
        ledger = ledger_of("ensemble", settled, output)
        run_step(ledger, jobs, settled, tracking.provenance(config_path), run.log_metrics)
        ledger.complete(jobs, run.id)


def score_of(folder: Path, metric: str) -> float:
    """A metric of the training run behind a member. Raises TrackingError when there is not one run, or no such metric."""
    runs = sorted(origin_of(folder).run_ids)
    if len(runs) != 1:
        raise TrackingError(
            f"score_metric={metric}: {configs.relative(folder)} goes back to {len(runs)} training runs, not to one. "
            "Give `scores` or `weights` instead."
        )
    found = tracking.metrics_of(runs[0])
    if metric not in found:
        raise TrackingError(
            f"score_metric={metric}: run {runs[0]} has none. It has: {', '.join(sorted(found)) or 'none'}."
        )
    return found[metric]


if __name__ == "__main__":
    raise SystemExit(tracking.cli(main))
