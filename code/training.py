"""Train a model on tiles; the run holds weights, config, folds, metrics by epoch, panels and confusion matrices."""

from collections.abc import Mapping
from pathlib import Path

from swath import config as configs
from swath import tracking
from swath.engine.evaluator import Evaluation
from swath.engine.panels import confusion_figure, stacked
from swath.engine.records import FOLDER, write_record
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
    for path in write_record(training, run.scratch):
        run.log_file(path, folder=FOLDER)
    metric = training.config.validation.metric
    if training.best is not None:
        run.log_metrics({f"best/{metric}": training.best, "best/iteration": float(training.best_iteration)})
        print(f"best {metric} {training.best:.4f} at iteration {training.best_iteration}")
    if training.stopped:
        run.set_tags({"swath.stopped": training.stopped})
    print(f"training run id: {run.id}")


def main() -> None:
    config, config_path = configs.from_command_line(TrainingConfig)
    name = config.name or f"training {Path(config_path).parent.name}/{Path(config_path).stem}"
    with tracking.run(config, config_path, name, kind="training") as run:
        training = Training(config, report(run, config))
        run.log_metrics({"model/parameters": float(count_parameters(training.learner.model))})
        training.run()
        finish(run, training)
    if run.complete:  # else the state stays, and the same command logs everything again
        training.forget()


if __name__ == "__main__":
    raise SystemExit(tracking.cli(main))
