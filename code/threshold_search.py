"""The best decision threshold on probability maps of scenes that the models have not seen."""

from swath.config.help import answer

if __name__ == "__main__":
    answer(__file__)  # --help comes before the slow imports

from functools import partial
from pathlib import Path

import numpy as np

from swath import config as configs
from swath import tracking
from swath.data.tables import write_csv
from swath.figures.pictures import write_picture
from swath.prediction import thresholds
from swath.prediction.thresholds import CountJob, Search, ThresholdSearchConfig
from swath.scoring.decisions import DECISION, Decision, write_decision
from swath.scoring.lineage import check_all_predictions, prediction_folders
from swath.scoring.pairs import pair_predictions
from swath.steps.config import ledger_of
from swath.steps.run import run_step
from swath.training.model_record import fetch_tiles


def main() -> None:
    config, config_path = configs.from_command_line(ThresholdSearchConfig)
    output, labels = configs.absolute(config.output_path), configs.absolute(config.labels_path)
    folders = prediction_folders(config.input_path, "probabilities", "input_path")
    with tracking.run(config, config_path, "threshold_search", kind="validation") as run:
        paired = {folder: pair_predictions(folder, labels, config.name_parts) for folder in folders}
        tiles_of = partial(fetch_tiles, fetch=tracking.fetch)
        check = check_all_predictions(paired, tiles_of, config.allow_selection_set)
        run.set_tags(check.tags("threshold_search"))
        for note in (*(note for pairs in paired.values() for note in pairs.notes), *check.notes):
            print(note)
        jobs = thresholds.count_jobs(config, paired)
        about, ledger = tracking.provenance(config_path), ledger_of("threshold_search", config, output)
        counts = run_step(ledger, jobs, config, about, run.log_metrics)
        found = thresholds.search(by_area(jobs, counts), thresholds.threshold_values(config), config.score)
        scenes = {key.partition("/")[0] for pairs in paired.values() for key in pairs.found}
        write_decision(output / DECISION, Decision(found.threshold, tuple(sorted(scenes))))
        run.log_file(output / DECISION)
        written = report(run, found, output)
        ledger.complete(jobs, run.id, [output / DECISION, *written])
        print(f"to decide by it: -P threshold={configs.relative(output)} in inference or ensemble")


def report(run: tracking.Run, found: Search, output: Path) -> list[Path]:
    """Log the table, the curve and the best threshold, and print it; return the files."""
    write_csv(output / "thresholds.csv", found.table)
    write_picture(output / "thresholds.png", thresholds.threshold_figure(found))
    files = [output / name for name in ("thresholds.csv", "thresholds.png")]
    for path in files:
        run.log_file(path)
    for row in found.table.to_dict("records"):  # a curve in the dashboard: steps are per mille
        run.log_metrics({f"threshold/curve_{found.score}": row[found.score]}, round(1000 * row["threshold"]))
    run.log_metrics(found.metrics())
    print(found.report())
    return files


def by_area(jobs: list[CountJob], counts: dict[str, list[list[int]]]) -> dict[str, list[np.ndarray]]:
    """The counts of each area's scenes."""
    return {area: [np.array(counts[j.key]) for j in jobs if j.area == area] for area in sorted({j.area for j in jobs})}


if __name__ == "__main__":
    raise SystemExit(tracking.cli(main))
