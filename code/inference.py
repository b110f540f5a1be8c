"""Predict whole scenes with the model of a training run; with labels, score them."""

import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from swath import config as configs
from swath import tracking
from swath.data.catalog import pair_masks, read_scenes
from swath.engine import inference, scoring
from swath.engine.inference import InferenceConfig
from swath.engine.mapper import Item, SerialExecutor, run_items
from swath.engine.records import FOLDER, Record, read_record
from swath.engine.score_report import ScoreReport
from swath.engine.score_table import ScoreTable


def fetch_record(run_id: str, weights: str) -> Record:
    """The model of a training run, from the tracking store."""
    with tempfile.TemporaryDirectory() as folder:
        return read_record(tracking.fetch(run_id, FOLDER, Path(folder)), weights)


def main() -> None:
    config, config_path = configs.from_command_line(InferenceConfig)
    output = configs.absolute(config.output_path)
    name = f"inference {Path(config_path).parent.name}"
    with tracking.run(config, config_path, name, kind="inference") as run:
        record = fetch_record(config.run_id, config.weights)
        run.set_tags({"swath.training_run": config.run_id})
        scenes = read_scenes(configs.absolute(config.input_path))
        labels = pair_masks(scenes, configs.absolute(config.labels_path)) if config.labels_path else {}
        judged = False
        if labels:
            judged = scoring.require_fair(scenes, record.tiles, config.allow_selection_set)
            run.set_tags(scoring.fairness_tags(name, judged))
        device = torch.device(config.device or ("cuda" if torch.cuda.is_available() else "cpu"))
        predict = inference.predictor(record.model.to(device), config.sliding.tta, device)
        ledger = inference.fresh_ledger(config, output)
        ledger.record_settings(tracking.provenance(config_path))

        def one(row: Any) -> int:
            started, target = time.monotonic(), inference.scene_output(output, row.area, row.key)
            pixels = inference.predict_scene(
                Path(row.image), target, record.bands, predict, record.tasks, config.sliding
            )
            print(f"predicted {row.key} ({pixels / 1e6 / (time.monotonic() - started):.2f} MPix/s)", flush=True)
            run.log_picture(inference.quick_look(Path(row.image), target.classes), f"previews/{row.key}.png")
            return pixels

        rows = list(scenes.itertuples())
        items = [
            Item(key=r.key, job=r, inputs=(Path(r.image),), outputs=inference.scene_output(output, r.area, r.key).paths)
            for r in rows
        ]
        done = run_items(one, items, ledger, SerialExecutor())
        run.log_metrics({"inference/scenes": len(items), "inference/done_now": done.done_now})
        if labels:
            score(run, config, record, scenes, labels, scoring.fairness_notes(judged))


def score(
    run: tracking.Run, config: InferenceConfig, record: Record, scenes: Any, labels: dict[str, Path], notes: list[str]
) -> None:
    """Log the scores of all scenes together and broken down, beside what one threshold reaches on the same pixels."""
    output = configs.absolute(config.output_path)
    table = ScoreTable(record.tasks, config.scoring, notes)
    for about in scenes.to_dict("records"):
        classes = inference.scene_output(output, about["area"], about["key"]).classes
        truth, image = labels[about["key"]], Path(about["image"])
        found = scoring.score_scene(classes, truth, image, record.tasks, config.scoring.block)
        table.add(about["key"], about["area"], found, about)
    run.log_metrics(table.metrics(config.score_prefix))
    report = ScoreReport(table)
    for path in report.write(output):
        run.log_file(path)
    for name, picture in report.pictures().items():
        run.log_picture(picture, name)
    print(report.text())


if __name__ == "__main__":
    raise SystemExit(tracking.cli(main))
