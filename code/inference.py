"""Predict whole scenes with the model of a training run; with labels, score them. Several processes share each scene."""

from swath.config.help import answer

if __name__ == "__main__":
    answer(__file__)  # --help comes before the slow imports

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import ignite.distributed as idist

from swath import config as configs
from swath import tracking
from swath.data.naming import pair_masks
from swath.data.tables import only_areas, only_where, read_scenes
from swath.distributed import process_group
from swath.prediction import previews
from swath.prediction.config import InferenceConfig
from swath.prediction.rasters import scene_output
from swath.prediction.scenes import predict_scenes
from swath.prediction.scored import scored_maps
from swath.scoring import held_out
from swath.scoring.report import ScoreReport
from swath.scoring.table import ScoreTable
from swath.training.model_record import ModelRecord, fetch_record


def main() -> None:
    config, config_path = configs.from_command_line(InferenceConfig)
    name = f"inference {Path(config_path).parent.name}"
    with process_group(config.launcher, config.device):
        first = idist.get_rank() == 0
        with tracking.run(config, config_path, name, kind="inference") if first else nullcontext() as run:
            infer(run, config, config_path, name)


def infer(run: tracking.Run | None, config: InferenceConfig, config_path: str, name: str) -> None:
    """Predict, and score where there are labels. Of several processes only the first has a run; the others just predict."""
    record = fetch_record(config.run_id, tracking.fetch, config.weights)
    scenes = only_where(only_areas(read_scenes(configs.absolute(config.input_path)), config.areas), config.only)
    if run is None:
        predict_scenes(config, record, scenes, configs.absolute(config.output_path))
        return
    run.set_tags({"swath.training_run": config.run_id})
    labels = pair_masks(scenes, configs.absolute(config.labels_path)) if config.labels_path else {}
    others = {n: pair_masks(scenes, configs.absolute(path)) for n, path in config.also_score.items()} if labels else {}
    notes: list[str] = []
    if labels:
        judged = held_out.require_scenes_held_out(scenes, record.tiles, config.allow_selection_set, config.allow_leaks)
        run.set_tags(held_out.held_out_tags(name, *judged))
        notes = held_out.held_out_notes(judged.selection_set, leaks=judged.leaks)
    predict(run, config, config_path, record, scenes)
    if labels:
        output = configs.absolute(config.output_path)
        table = scored_maps(scenes, labels, output, record, config.scoring, notes)
        report(run, table, config.score_prefix, output)
        on_theirs = replace(config.scoring, grid="labels")
        for prefix, other in others.items():
            print(f"\n{prefix}:")
            table = scored_maps(scenes, other, output, record, on_theirs, notes)
            report(run, table, prefix, output / prefix, prefix)


def predict(run: tracking.Run, config: InferenceConfig, config_path: str, record: ModelRecord, scenes: Any) -> None:
    """Predict the scenes that are not there yet; log pictures of the first ones, also of those predicted before."""
    output = configs.absolute(config.output_path)
    shown = set(list(scenes["key"])[: config.previews])

    def ready(row: Any) -> None:
        if row.key in shown:
            classes = scene_output(output, row.area, row.key).classes
            picture = previews.quick_look(Path(row.image), classes, tasks=record.tasks)
            run.log_picture(picture, f"previews/{row.key}.png")

    about = tracking.provenance(config_path)
    done_now = predict_scenes(config, record, scenes, output, about, ready)
    run.log_metrics({"inference/scenes": len(scenes), "inference/done_now": done_now})


def report(run: tracking.Run, table: ScoreTable, prefix: str, output: Path, folder: str = "") -> None:
    """Log a table of scores as metrics, files and pictures, and print it."""
    run.log_metrics(table.metrics(prefix))
    found = ScoreReport(table)
    for path in found.write(output):
        run.log_file(path, folder=folder or None)
    for name, picture in found.pictures().items():
        run.log_picture(picture, f"{folder}/{name}".lstrip("/"))
    print(found.text())


if __name__ == "__main__":
    raise SystemExit(tracking.cli(main))
