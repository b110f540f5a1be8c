"""The steps of a chain in order, as child runs of one parent; a second start does only what is missing.

With ``-P "configs=configs/ai4arctic/training_*.py"`` a training with each of these configs instead.
"""

from swath.config.help import answer

if __name__ == "__main__":
    answer(__file__)  # --help comes before the slow imports

from functools import partial

from swath import config as configs
from swath import tracking
from swath.studies.current import made_by
from swath.studies.pipeline import PipelineConfig, PipelineStep, Planned, chain_of, config_of, fill_in, plan_steps


def do_step(run: tracking.Run, config: PipelineConfig, step: PipelineStep, run_ids: dict[str, str]) -> str:
    """The run id of a step: of the run that left its results, where they are all there, or of one that does it now."""
    parameters = {"config_path": step.config_path} | fill_in(step.parameters, run_ids)
    settings = config_of(step.config_path, parameters)
    if config.replace and hasattr(settings, "replace"):
        parameters["replace"] = "True"
    child = tracking.ChildStep(entry_point=step.entry_point, parameters=parameters, name=step.label)
    return tracking.ensure_step(run, child, None if config.replace else partial(made_by, settings))


def main() -> None:
    config, config_path = configs.from_command_line(PipelineConfig)
    config = chain_of(config)
    tracking.warm_up(config.preload)
    steps = plan_steps(config)
    with tracking.run(config, config_path, config.name, kind="pipeline") as run:
        run_ids: dict[str, str] = {}
        for planned in steps:
            step = planned.step
            run_ids[step.label] = do_step(run, config, step, run_ids)
            run.log_metrics(metrics_for_parent(planned, run_ids[step.label]))
        run.log_params({f"run_id.{name}": run_id for name, run_id in run_ids.items()})
    for meaning, path in config.results.items():
        print(f"{meaning:12s} {configs.relative(path)}")
    print(f"{'dashboard':12s} make ui")


def metrics_for_parent(planned: Planned, run_id: str) -> dict[str, float]:
    """A step's metrics, for the run of the chain; those of one of several steps of a pattern stand below its name."""
    prefix = f"{planned.step.label}/" if planned.of_pattern else ""
    metrics = tracking.metrics_of(run_id)
    return {f"{prefix}{name}": value for name, value in metrics.items() if not name.startswith("system/")}


if __name__ == "__main__":
    raise SystemExit(tracking.cli(main))
