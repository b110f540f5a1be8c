"""Class rasters cleaned by filters; with labels, what each filter is worth."""

from swath.config.help import answer

if __name__ == "__main__":
    answer(__file__)  # --help comes before the slow imports

from functools import partial

from swath import config as configs
from swath import tracking
from swath.data.tables import write_csv
from swath.prediction.postprocess import PostprocessConfig, filter_table, postprocess_jobs
from swath.scoring.lineage import check_predictions, prediction_folder, require_elsewhere
from swath.scoring.pairs import Pairs
from swath.steps.config import ledger_of
from swath.steps.run import run_step
from swath.training.model_record import fetch_tiles


def main() -> None:
    config, config_path = configs.from_command_line(PostprocessConfig)
    output = configs.absolute(config.output_path)
    source = prediction_folder(config.input_path, "classes", "input_path")
    require_elsewhere(output, [source])
    jobs = postprocess_jobs(config, source, output)
    with tracking.run(config, config_path, "postprocess") as run:
        if config.labels_path:
            pairs = Pairs({job.key: (job.classes, job.labels) for job in jobs if job.labels}, (), ())
            tiles_of = partial(fetch_tiles, fetch=tracking.fetch)
            check = check_predictions(source, pairs, tiles_of, config.allow_selection_set)
            run.set_tags(check.tags("postprocess"))
            for note in check.notes:
                print(note)
        about, ledger = tracking.provenance(config_path), ledger_of("postprocess", config, output)
        results = run_step(ledger, jobs, config, about, run.log_metrics)
        written = []
        run.log_metrics({"postprocess/changed_pixels": sum(found["changed"] for found in results.values())})
        if config.labels_path:
            table = filter_table(list(results.values()))
            write_csv(output / "filters.csv", table)
            run.log_file(output / "filters.csv")
            written.append(output / "filters.csv")
            for row in table.to_dict("records"):
                name = row["filters"].replace(" ", "_")
                run.log_metrics({f"postprocess/{score}_{name}": row[score] for score in ("iou_fg", "f1_fg", "gain")})
            print(table.to_string(index=False, float_format="%.4f"))
        ledger.complete(jobs, run.id, written)


if __name__ == "__main__":
    raise SystemExit(tracking.cli(main))
