"""Pretrain an encoder on tiles without labels: hidden patches are guessed; the run holds its weights and pictures.

A training starts from it with ``-P warm_start.weights=runs:/<run id>``, on any channels. Several processes: as `training`.
"""

from swath.help import answer

if __name__ == "__main__":
    answer(__file__)  # --help comes before the slow imports

from collections.abc import Mapping
from pathlib import Path

from swath import config as configs
from swath import tracking
from swath.engine import ranks
from swath.engine.evaluator import Evaluation
from swath.engine.loop import Reports
from swath.engine.panels import stacked
from swath.engine.pretrain_config import PretrainConfig
from swath.engine.pretraining import Pretraining
from swath.engine.records import FOLDER, WEIGHTS
from swath.nn.heads import count_parameters


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
    kept = tracking.run(config, config_path, name, kind="pretraining") if ranks.first() else tracking.silent_run()
    with kept as run, ranks.one_fate():
        warm = config.warm_start
        start = tracking.located(warm.weights, f"{FOLDER}/{WEIGHTS}", run.scratch) if warm else None
        pretraining = Pretraining(config, report(run) if ranks.first() else Reports.none(), start)
        run.log_metrics({"model/encoder_parameters": float(count_parameters(pretraining.model.network.encoder))})
        pretraining.run()
        if ranks.first():
            pretraining.write(run.scratch / WEIGHTS)
            run.log_file(run.scratch / WEIGHTS, folder=FOLDER)
            print(f"pretraining run id: {run.id}")
    if run.complete:  # else the state stays, and the same command logs everything again
        pretraining.loop.unfinished.forget()


def main() -> None:
    config, config_path = configs.from_command_line(PretrainConfig)
    with ranks.joined(config.launcher, config.device):
        pretrain(config, config_path)


if __name__ == "__main__":
    raise SystemExit(tracking.cli(main))
