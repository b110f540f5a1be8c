"""The best decision threshold on probability maps of scenes that the models have not seen."""

from swath.config.help import answer

if __name__ == "__main__":
    answer(__file__)  # --help comes before the slow imports

from functools import partial, reduce

import numpy as np

from swath import config as configs
from swath import tracking
from swath.figures.pictures import write_picture
from swath.prediction import thresholds
from swath.prediction.thresholds import CountJob, ThresholdSearchConfig, count_scene
from swath.scoring.held_out import held_out_tags
from swath.scoring.lineage import Judgement, prediction_folders, require_held_out
from swath.scoring.pairs import pair_predictions
from swath.steps.ledger import Item
from swath.steps.run import process
from swath.training.model_record import fetch_tiles


def main() -> None:
    config, config_path = configs.from_command_line(ThresholdSearchConfig)
    output, labels = configs.absolute(config.output_path), configs.absolute(config.labels_path)
    folders = prediction_folders(config.input_path, "probabilities", "input_path")
    with tracking.run(config, config_path, "threshold_search", kind="validation") as run:
        paired = {folder: pair_predictions(folder, labels) for folder in folders}
        tiles_of = partial(fetch_tiles, fetch=tracking.fetch)
        judged = [require_held_out(f, pairs, tiles_of, config.allow_selection_set) for f, pairs in paired.items()]
        judgement = reduce(Judgement.joined, judged)
        run.set_tags(held_out_tags("threshold_search", judgement.selection_set))
        for note in (*(note for pairs in paired.values() for note in pairs.notes), *judgement.notes):
            print(note)
        jobs = thresholds.count_jobs(config, paired)
        items = [Item(key=j.key, job=j, inputs=(j.probabilities, j.labels)) for j in jobs]
        provenance = tracking.provenance(config_path)
        counts = process(
            "threshold_search", count_scene, items, config, output, provenance, run.log_metrics, replace=True
        )
        found = thresholds.search(by_area(jobs, counts), thresholds.threshold_values(config), config.score)
        found.table.to_csv(output / "thresholds.csv", index=False, float_format="%.6f")
        write_picture(output / "thresholds.png", thresholds.threshold_figure(found))
        for name in ("thresholds.csv", "thresholds.png"):
            run.log_file(output / name)
        for row in found.table.to_dict("records"):  # a curve in the dashboard: steps are per mille
            run.log_metrics({f"threshold/curve_{config.score}": row[config.score]}, round(1000 * row["threshold"]))
        run.log_metrics(found.metrics())
        print(found.report())


def by_area(jobs: list[CountJob], counts: dict[str, list[list[int]]]) -> dict[str, list[np.ndarray]]:
    """The counts of each area's scenes."""
    return {area: [np.array(counts[j.key]) for j in jobs if j.area == area] for area in sorted({j.area for j in jobs})}


if __name__ == "__main__":
    raise SystemExit(tracking.cli(main))
