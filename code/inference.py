"""Predict whole scenes with the model of a training run; with labels, score them."""

import tempfile
import time
from pathlib import Path

import torch

from swath import config as configs
from swath import tracking
from swath.data.catalog import pair_masks, read_scenes
from swath.engine import inference
from swath.engine.inference import InferenceConfig
from swath.engine.panels import confusion_figure
from swath.engine.records import FOLDER, Record, read_record
from swath.engine.scoring import ScoreTable


def fetch_record(run_id: str) -> Record:
    """The model of a training run, downloaded from the tracking store."""
    with tempfile.TemporaryDirectory() as folder:
        return read_record(tracking.fetch(run_id, FOLDER, Path(folder)))


def main() -> None:
    config, config_path = configs.from_command_line(InferenceConfig)
    output = configs.absolute(config.output_path)
    with tracking.run(config, config_path, f"inference {Path(config_path).parent.name}", kind="inference") as run:
        record = fetch_record(config.run_id)
        run.set_tags({"swath.training_run": config.run_id})
        scenes = read_scenes(configs.absolute(config.input_path))
        labels = pair_masks(scenes, configs.absolute(config.labels_path)) if config.labels_path else {}
        if labels and inference.require_fair(scenes, record.tiles, config.allow_selection_set):
            run.set_tags(
                {
                    "swath.scored_on": "selection set",
                    "mlflow.runName": "inference (scored on the selection set)",
                }
            )
        device = torch.device(config.device or ("cuda" if torch.cuda.is_available() else "cpu"))
        predict = inference.predictor(record.model.to(device), config.sliding.tta, device)
        rows = list(scenes.itertuples())
        started, pixels = time.monotonic(), [0]

        def one(i: int) -> int:
            target = inference.scene_output(output, rows[i].area, rows[i].key)
            return inference.predict_scene(
                Path(rows[i].image), target, record.bands, predict, record.tasks, config.sliding
            )

        def done(i: int, count: int) -> None:
            pixels[0] += count
            rate = pixels[0] / 1e6 / (time.monotonic() - started)
            run.log_metrics({"inference/megapixels_per_second": rate}, i + 1)
            print(f"predicted {rows[i].key} ({i + 1} of {len(rows)}, {rate:.2f} MPix/s)")
            target = inference.scene_output(output, rows[i].area, rows[i].key)
            run.log_picture(inference.quick_look(Path(rows[i].image), target.classes), f"previews/{rows[i].key}.png")

        inference.run_scenes(len(rows), one, done)
        if labels:
            score(run, config, record, rows, labels, output)


def score(run: tracking.Run, config: InferenceConfig, record: Record, rows: list, labels: dict, output: Path) -> None:
    """Log the scores of all scenes together and by area, beside what one threshold reaches on the same pixels."""
    table = ScoreTable(record.tasks)
    for row in rows:
        target = inference.scene_output(output, row.area, row.key)
        table.add(
            row.key,
            row.area,
            inference.score_scene(target.classes, labels[row.key], Path(row.image), record.tasks),
        )
    run.log_metrics(table.metrics(config.score_prefix))
    run.log_text(table.csv(), "scores.csv")
    for task, matrix in table.totals().items():
        run.log_picture(
            confusion_figure(matrix, record.tasks[task].classes, f"{task}, all scenes"),
            f"confusion_{task}.png",
        )
    report = table.report()
    run.log_text(report, "scores.txt")
    (output / "scores.txt").write_text(report)
    (output / "scores.csv").write_text(table.csv())
    print(report)


if __name__ == "__main__":
    raise SystemExit(tracking.cli(main))
