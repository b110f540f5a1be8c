"""Score a folder of predictions against ground truth."""

import tempfile
from pathlib import Path

from swath import config as configs
from swath import tracking
from swath.data.catalog import read_scenes
from swath.engine.records import FOLDER, read_record
from swath.engine.scoring import ScoreTable, ValidateConfig, pair_predictions, require_fair, score_scene


def main() -> None:
    config, config_path = configs.from_command_line(ValidateConfig)
    predictions, truth = configs.absolute(config.preds_path), configs.absolute(config.gt_path)
    with tracking.run(config, config_path, "validate", kind="validation") as run:
        if config.run_id and selected_on(config, predictions):
            run.set_tags(
                {"swath.scored_on": "selection set", "mlflow.runName": "validate (scored on the selection set)"}
            )
        pairs = pair_predictions(predictions, truth)
        for note in pairs.notes:
            print(note)
        table = ScoreTable(config.tasks)
        for key, (predicted, labels) in pairs.found.items():
            table.add(key, predicted.parent.name, score_scene(predicted, labels, None, config.tasks))
        run.log_metrics(table.metrics("validation"))
        run.log_metrics({"validation/missing": len(pairs.missing), "validation/extra": len(pairs.extra)})
        run.log_text(table.csv(), "scores.csv")
        print(table.report())


def selected_on(config: ValidateConfig, predictions: Path) -> bool:
    """Whether the predicted scenes selected the run's weights; LeakError when they trained it."""
    assert config.run_id
    with tempfile.TemporaryDirectory() as folder:
        used = read_record(tracking.fetch(config.run_id, FOLDER, Path(folder))).tiles
    return require_fair(read_scenes(predictions), used, config.allow_selection_set)


if __name__ == "__main__":
    raise SystemExit(tracking.cli(main))
