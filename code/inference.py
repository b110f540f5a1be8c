"""Predict whole scenes with the model of a training run; with labels, score them. Several processes share each scene."""

from swath.config.help import answer
from swath.config.processes import start_processes

if __name__ == "__main__":
    answer(__file__)  # --help comes before the slow imports
    start_processes(__file__)

from dataclasses import replace
from pathlib import Path
from typing import Any

from swath import config as configs
from swath import tracking
from swath.distributed import is_main, process_group
from swath.prediction import previews
from swath.prediction.config import InferenceConfig
from swath.prediction.scored import complete_inference, infer
from swath.scoring.decisions import DECISION, decided
from swath.scoring.report import ScoreReport
from swath.scoring.table import ScoreTable
from swath.training.model_record import fetch_record


def main() -> None:
    config, config_path = configs.from_command_line(InferenceConfig)
    name = f"inference {Path(config_path).parent.name}"
    with process_group(config.launcher, config.device):
        kept = tracking.run(config, config_path, name, kind="inference") if is_main() else tracking.silent_run()
        with kept as run:
            predict(run, config, config_path, name)


def predict(run: tracking.Run, config: InferenceConfig, config_path: str, name: str) -> None:
    """Predict and score; log scores, and pictures of the first scenes, also of those predicted before."""
    config = replace(config, run_id=tracking.resolved_reference(config.run_id))
    config = decided(config, lambda text: tracking.located(text, DECISION, run.scratch))
    record = fetch_record(config.run_id, tracking.fetch, config.weights, config.trust)
    run.set_tags({"swath.training_run": tracking.run_of_reference(config.run_id)})

    def ready(number: int, row: Any, classes: Path, labels: Path | None) -> None:
        if number < config.previews:
            scene = row._asdict()
            if labels is None:
                picture = previews.quick_look(scene, classes, tasks=record.tasks)
            else:
                picture = previews.compared_look(scene, classes, labels, record.tasks)
            run.log_picture(picture, f"previews/{row.key}.png")

    about = tracking.provenance(config_path)
    found = infer(config, record, about, lambda check: run.set_tags(check.tags(name)), ready)
    run.log_metrics({"inference/scenes": found.scenes, "inference/done_now": found.done_now})
    written: list[Path] = []
    for prefix, table in found.tables.items():
        if prefix == config.score_prefix:
            written += report(run, table, prefix, configs.absolute(config.output_path))
        else:
            print(f"\n{prefix}:")
            written += report(run, table, prefix, configs.absolute(config.output_path) / prefix, prefix)
    complete_inference(config, found, run.id, written)


def report(run: tracking.Run, table: ScoreTable, prefix: str, output: Path, folder: str = "") -> list[Path]:
    """Log a table of scores as metrics, files and pictures, and print it; return the files that stay in `output`."""
    run.log_metrics(table.metrics(prefix))
    found = ScoreReport(table)
    written = found.write(output)
    for path in written:
        run.log_file(path, folder=folder or None)
    for name, picture in found.pictures().items():
        run.log_picture(picture, f"{folder}/{name}".lstrip("/"))
    print(found.text())
    return written


if __name__ == "__main__":
    raise SystemExit(tracking.cli(main))
