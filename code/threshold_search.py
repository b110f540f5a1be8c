"""The best decision threshold on probability maps of scenes that the models have not seen."""

from functools import partial
from itertools import chain

import numpy as np

from swath import config as configs
from swath import tracking
from swath.challenges.shapefiles import write_picture
from swath.engine import thresholds
from swath.engine.mapper import Item, process
from swath.engine.origins import prediction_folders, require_held_out
from swath.engine.records import fetch_tiles
from swath.engine.thresholds import CountJob, ThresholdSearchConfig, count_scene


def main() -> None:
    config, config_path = configs.from_command_line(ThresholdSearchConfig)
    output, labels = configs.absolute(config.output_path), configs.absolute(config.labels_path)
    folders = prediction_folders(config.input_path, "probabilities", "input_path")
    by_folder, notes = thresholds.count_jobs(config, folders, labels)
    with tracking.run(config, config_path, "threshold_search", kind="validation") as run:
        tiles_of = partial(fetch_tiles, fetch=tracking.fetch)
        for folder, jobs in by_folder.items():
            keys = [job.key.partition("/")[2] for job in jobs]
            notes += require_held_out(folder, keys, tiles_of, config.allow_selection_set)
        for note in notes:
            print(note)
        run.set_tags({"swath.scored_on": "; ".join(notes)})
        jobs = list(chain.from_iterable(by_folder.values()))
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
