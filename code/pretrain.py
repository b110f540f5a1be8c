"""Pretrain an encoder on tiles without labels: hidden patches are guessed; the run holds its weights and pictures.

A training starts from it with ``-P warm_start.weights=runs:/<run id>``, on any channels. Several processes: as `training`.
"""

from swath.config.help import answer
from swath.config.processes import start_processes

if __name__ == "__main__":
    answer(__file__)  # --help comes before the slow imports
    start_processes(__file__)

from collections.abc import Mapping
from pathlib import Path

from swath import config as configs
from swath import distributed, tracking
from swath.figures.pictures import stacked
from swath.nn.model import count_parameters
from swath.scoring.evaluate import Evaluation
from swath.training.identity import identity_of
from swath.training.loop import Reports
from swath.training.model_record import FOLDER, WEIGHTS
from swath.training.pretrain_config import PretrainConfig
from swath.training.pretraining import Pretraining


def report(run: tracking.Run) -> Reports:
    """Losses go to the run as they come, pictures with every evaluation."""

    def evaluated(found: Evaluation, values: Mapping[str, float], epoch: int) -> None:
        print(f"epoch {epoch}" + "".join(f": {name} {value:.4f}" for name, value in values.items()), flush=True)
        if found.panels:
            run.log_image(stacked([found.panels[key] for key in sorted(found.panels)]), "reconstructions", epoch)

    return Reports(metrics=run.log_metrics, evaluation=evaluated)


def pretrain(config: PretrainConfig, config_path: str) -> None:
    """The pretraining and its run."""
    name = config.name or f"pretraining {Path(config_path).parent.name}/{Path(config_path).stem}"
    kept = (
        tracking.run(config, config_path, name, kind="pretraining") if distributed.is_main() else tracking.silent_run()
    )
    with kept as run, tracking.system_metrics(run), distributed.fail_together():
        warm = config.warm_start
        start = tracking.located(warm.source(), f"{FOLDER}/{WEIGHTS}", run.scratch) if warm else None
        pretraining = Pretraining(config, report(run) if distributed.is_main() else Reports.none(), start)
        run.set_tags({tracking.IDENTITY: identity_of(config, pretraining.loop.inputs)})
        run.log_params(distributed.conditions(pretraining.device))
        run.log_metrics({"model/encoder_parameters": float(count_parameters(pretraining.model.network.encoder))})
        pretraining.run()
        if distributed.is_main():
            pretraining.write(run.scratch / WEIGHTS)
            run.log_file(run.scratch / WEIGHTS, folder=FOLDER)
            print(f"pretraining run id: {run.id}")
    if run.complete:  # else the state stays, and the same command logs everything again
        pretraining.loop.unfinished.forget()


def main() -> None:
    config, config_path = configs.from_command_line(PretrainConfig)
    with distributed.process_group(config.launcher, config.device):
        pretrain(config, config_path)


if __name__ == "__main__":
    raise SystemExit(tracking.cli(main))
