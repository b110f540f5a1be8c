"""Train a model on tiles; the run holds weights, config, folds, metrics by epoch, panels and confusion matrices.

On several devices or processes: ``torchrun --nproc_per_node 2 code/training.py --config_path ...``, or
``srun python code/training.py --config_path ... --launcher slurm``. The first process keeps the run.
"""

from collections.abc import Mapping
from pathlib import Path

from swath import config as configs
from swath import tracking
from swath.engine import ranks
from swath.engine.evaluator import Evaluation
from swath.engine.panels import confusion_figure, stacked
from swath.engine.records import FOLDER, WEIGHTS, write_record
from swath.engine.score_report import ScoreReport
from swath.engine.trainer import Reports, Training
from swath.engine.training_config import TrainingConfig
from swath.nn.heads import count_parameters


def report(run: tracking.Run, config: TrainingConfig) -> Reports:
    """Metrics go to the run as they come; panels and confusion matrices with every evaluation."""

    def evaluated(found: Evaluation, values: Mapping[str, float], step: int) -> None:
        metric = config.validation.metric or "validation/iou_fg"
        print(f"{config.validation.unit} {step}: {metric} {values.get(metric, float('nan')):.4f}", flush=True)
        if found.panels:
            run.log_image(stacked([found.panels[key] for key in sorted(found.panels)]), "validation_panels", step)
        for task, matrix in found.matrices.items():
            figure = confusion_figure(matrix, config.tasks[task].classes, f"{task}, step {step}")
            run.log_image(figure, f"validation_confusion_{task}", step)

    return Reports(metrics=run.log_metrics, evaluation=evaluated)


def finish(run: tracking.Run, training: Training) -> None:
    """Log what makes the run usable alone, and say how good it is."""
    tables = training.scores()  # all processes count together
    if not ranks.first():
        return
    for path in write_record(training, run.scratch):
        run.log_file(path, folder=FOLDER)
    for side, table in tables.items():
        run.log_metrics({f"best/{name}": value for name, value in table.metrics(side).items()})
        report_scores(run, side, ScoreReport(table))
    metric = training.config.validation.metric
    if training.best is not None:
        run.log_metrics({"best/iteration": float(training.best_iteration)})
        print(f"best {metric} {training.best:.4f} at iteration {training.best_iteration}")
    if training.stopped:
        run.set_tags({"swath.stopped": training.stopped})
    print(f"training run id: {run.id}")


def report_scores(run: tracking.Run, side: str, report: ScoreReport) -> None:
    """Tables, text and pictures of the best weights' scores on one side, as artifacts in a folder of its name."""
    for path in report.write(run.scratch / side):
        run.log_file(path, folder=side)
    for name, picture in report.pictures().items():
        run.log_picture(picture, f"{side}/{name}")


def first_weights(config: TrainingConfig, folder: Path) -> Path | None:
    """The file that a warm start begins with; that of another run is fetched."""
    if config.warm_start is None:
        return None
    weights = config.warm_start.weights
    if weights.startswith("runs:/"):
        return tracking.fetch(weights.removeprefix("runs:/"), f"{FOLDER}/{WEIGHTS}", folder)
    return configs.absolute(weights)


def train(config: TrainingConfig, config_path: str) -> None:
    """The training and its run."""
    name = config.name or f"training {Path(config_path).parent.name}/{Path(config_path).stem}"
    kept = tracking.run(config, config_path, name, kind="training") if ranks.first() else tracking.silent_run()
    with kept as run, ranks.one_fate():
        reports = report(run, config) if ranks.first() else Reports.none()
        training = Training(config, reports, start_from=first_weights(config, run.scratch))
        if training.folds.leaks:
            run.set_tags({"swath.leaks": ", ".join(training.folds.leaks), "mlflow.runName": f"{name} (leaks allowed)"})
        run.log_metrics({"model/parameters": float(count_parameters(training.learner.model))})
        training.run()
        finish(run, training)
    if run.complete:  # else the state stays, and the same command logs everything again
        training.unfinished.forget()


def main() -> None:
    config, config_path = configs.from_command_line(TrainingConfig)
    with ranks.joined(config.launcher, config.device):
        train(config, config_path)


if __name__ == "__main__":
    raise SystemExit(tracking.cli(main))
