"""Score a folder of predictions against ground truth."""

import tempfile
from pathlib import Path

from swath import config as configs
from swath import tracking
from swath.data.catalog import by_key
from swath.engine.inference import score_scene
from swath.engine.records import FOLDER, read_record
from swath.engine.scoring import ScoreTable, ValidateConfig, pair_predictions
from swath.errors import LeakError


def main() -> None:
    config, config_path = configs.from_command_line(ValidateConfig)
    predictions, truth = configs.absolute(config.preds_path), configs.absolute(config.gt_path)
    with tracking.run(config, config_path, "validate", kind="validation") as run:
        if config.run_id:
            refuse_training_scenes(config.run_id, set(by_key(predictions)))
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


def refuse_training_scenes(run_id: str, keys: set[str]) -> None:
    """Raise LeakError when predictions to be scored are of scenes that trained the run's model."""
    with tempfile.TemporaryDirectory() as folder:
        used = read_record(tracking.fetch(run_id, FOLDER, Path(folder))).tiles
    trained = used[used["side"] == "training"]
    leaked = sorted(keys & (set(trained["scene"]) | set(trained["key"])))
    if leaked:
        raise LeakError(
            f"{', '.join(leaked[:5])}: trained the model of run {run_id}; a score on it says nothing. Score other scenes."
        )


if __name__ == "__main__":
    raise SystemExit(tracking.cli(main))
