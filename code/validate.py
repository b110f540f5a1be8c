"""Score a folder of predictions against ground truth."""

from swath.config.help import answer

if __name__ == "__main__":
    answer(__file__)  # --help comes before the slow imports

from functools import partial
from typing import Any

from swath import config as configs
from swath import tracking
from swath.data.naming import date_of
from swath.data.tables import read_scenes, read_table
from swath.files import scratch_folder
from swath.scoring.comparison import compare, comparison_text
from swath.scoring.config import ValidateConfig
from swath.scoring.counts import COLUMNS
from swath.scoring.lineage import check_predictions, prediction_folder
from swath.scoring.pairs import pair_predictions
from swath.scoring.report import UNITS, ScoreReport
from swath.scoring.scenes import score_scene
from swath.scoring.table import ScoreTable
from swath.training.model_record import fetch_tiles


def main() -> None:
    config, config_path = configs.from_command_line(ValidateConfig)
    predictions = prediction_folder(config.preds_path, "classes", "preds_path")
    with tracking.run(config, config_path, "validate", kind="validation") as run:
        paired = pair_predictions(predictions, configs.absolute(config.gt_path), config.name_parts)
        tiles_of = partial(fetch_tiles, fetch=tracking.fetch)
        check = check_predictions(predictions, paired, tiles_of, config.allow_selection_set, config.run_id)
        run.set_tags(check.tags("validate"))
        table = ScoreTable(config.tasks, config.scoring, notes=[*paired.notes, *check.notes])
        scenes = about_scenes(config)
        for key, (predicted, labels) in paired.found.items():
            found = score_scene(predicted, labels, None, config.tasks, config.scoring.block, config.scoring.grid)
            about = scenes.get(key.partition("/")[0], {"date": date_of(labels)})
            table.add(key, str(about.get("area", predicted.parent.name)), found, about)
        run.log_metrics(table.metrics("validation"))
        run.log_metrics({"validation/missing": len(paired.missing), "validation/extra": len(paired.extra)})
        report = ScoreReport(table)
        for path in report.write(run.scratch / "scores"):
            run.log_file(path)
        for name, picture in report.pictures().items():
            run.log_picture(picture, name)
        print(report.text())
        if config.compare_with:
            against(run, config, table)


def about_scenes(config: ValidateConfig) -> dict[str, Any]:
    """What a table of scenes says of each scene, by key."""
    if not config.scenes_path:
        return {}
    return dict(read_scenes(configs.absolute(config.scenes_path)).set_index("key").to_dict("index"))


def against(run: tracking.Run, config: ValidateConfig, table: ScoreTable) -> None:
    """Log how the scores differ from those of another run on the same ground."""
    assert config.compare_with
    with scratch_folder() as folder:
        other = read_table(tracking.fetch(config.compare_with, UNITS, folder), COLUMNS, "validate")
    found = compare(other, table.rows, config.tasks, config.scoring)
    run.log_text(found.to_csv(index=False, float_format="%.6f"), "comparison.csv")
    print(f"against run {config.compare_with}\n{comparison_text(found)}")


if __name__ == "__main__":
    raise SystemExit(tracking.cli(main))
