"""The steps of a chain in order, as child runs of one parent; a second start does only what is missing.

With ``-P "configs=configs/ai4arctic/training_*.py"`` a training with each of these configs instead.
"""

from swath.config.help import answer

if __name__ == "__main__":
    answer(__file__)  # --help comes before the slow imports

from swath import config as configs
from swath import tracking
from swath.studies.pipeline import PipelineConfig, Planned, chain_of, fill_in, plan_steps


def main() -> None:
    config, config_path = configs.from_command_line(PipelineConfig)
    config = chain_of(config)
    tracking.warm_up(config.preload)
    steps = plan_steps(config)
    with tracking.run(config, config_path, config.name, kind="pipeline") as run:
        run_ids: dict[str, str] = {}
        changed: set[int] = set()  # places of the chain where something was done anew
        for planned in steps:
            step = planned.step
            parameters = {"config_path": step.config_path} | fill_in(step.parameters, run_ids)
            child = tracking.ChildStep(
                entry_point=step.entry_point, parameters=parameters, digest=planned.digest, name=step.label
            )
            outdated = any(place < planned.place for place in changed)
            done = None if outdated or not planned.output_is_there else tracking.finished_step(run, child)
            fresh = done is None
            if fresh:
                changed.add(planned.place)
            print(f"{'==> ' + step.label if fresh else 'done before: ' + step.label}", flush=True)
            run_ids[step.label] = done or tracking.run_child_step(run, child)
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
