"""Train a model on tiles; the run holds weights, config, folds, metrics by epoch, panels and confusion matrices.

On several devices or processes: --num_gpus 2, torchrun, or srun with --launcher slurm. The first keeps the run."""

from swath.config.help import answer
from swath.config.processes import start_processes

if __name__ == "__main__":
    answer(__file__)  # --help comes before the slow imports
    start_processes(__file__)

from collections.abc import Mapping
from pathlib import Path

from swath import config as configs
from swath import distributed, tracking
from swath.figures.charts import confusion_figure
from swath.figures.pictures import stacked
from swath.nn.model import count_parameters
from swath.scoring.evaluate import Evaluation
from swath.scoring.report import ScoreReport
from swath.training.config import TrainingConfig
from swath.training.identity import identity_of
from swath.training.loop import Reports, moment_of
from swath.training.model_record import FOLDER, WEIGHTS, write_record
from swath.training.sides import leak_tags
from swath.training.trainer import Training, build_training


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
    if not distributed.is_main():
        return
    for path in write_record(training, run.scratch):
        run.log_file(path, folder=FOLDER)
    for side, table in tables.items():
        run.log_metrics({f"best/{name}": value for name, value in table.metrics(side).items()})
        report_scores(run, side, ScoreReport(table))
    run.log_metrics(moment_of(["best/weights"], training.best_iteration, training.steps))
    if training.best is not None:
        print(f"best {training.config.validation.metric} {training.best:.4f} at iteration {training.best_iteration}")
    run.set_tags({"swath.stopped": training.stopped} if training.stopped else {})
    print(f"training run id: {run.id}")


def report_scores(run: tracking.Run, side: str, report: ScoreReport) -> None:
    """Tables, text and pictures of the best weights' scores on one side, as artifacts in a folder of its name."""
    for path in report.write(run.scratch / side):
        run.log_file(path, folder=side)
    for name, picture in report.pictures().items():
        run.log_picture(picture, f"{side}/{name}")


def train(config: TrainingConfig, config_path: str) -> None:
    """The training and its run."""
    name = config.name or f"training {Path(config_path).parent.name}/{Path(config_path).stem}"
    kept = tracking.run(config, config_path, name, kind="training") if distributed.is_main() else tracking.silent_run()
    with kept as run, tracking.system_metrics(run), distributed.fail_together():
        reports, warm = report(run, config) if distributed.is_main() else Reports.none(), config.warm_start
        start = tracking.located(warm.source(), f"{FOLDER}/{WEIGHTS}", run.scratch) if warm else None
        training = build_training(config, reports, start)
        tags = {tracking.IDENTITY: identity_of(config, training.loop.inputs)}
        run.set_tags(tags | leak_tags(training.folds.leaks, name))
        run.log_params(distributed.conditions(training.device))
        run.log_metrics({"model/parameters": float(count_parameters(training.learner.model))})
        training.run()
        finish(run, training)
    if run.complete:  # else the state stays, and the same command logs everything again
        training.unfinished.forget()


def main() -> None:
    config, config_path = configs.from_command_line(TrainingConfig)
    with distributed.process_group(config.launcher, config.device):
        train(config, config_path)


if __name__ == "__main__":
    raise SystemExit(tracking.cli(main))
