"""Generate a challenge's raw data: scenes in its layout, their labels, and the truth of those to be mapped."""

from swath.config.help import answer

if __name__ == "__main__":
    answer(__file__)  # --help comes before the slow imports

from swath import config as configs
from swath.challenges.protocols import SceneMaker, run_job


def main() -> None:
    config, config_path = configs.from_command_line(SceneMaker)  # type: ignore[type-abstract]
    from swath import tracking
    from swath.steps.ledger import Item
    from swath.steps.run import process

    step, output = "generate_demo_scenes", configs.absolute(config.output_path)
    items = [Item(key=j.key, job=j, inputs=j.inputs, outputs=j.outputs) for j in config.scenes_to_make(output)]
    with tracking.run(config, config_path, step) as run:
        process(step, run_job, items, config, output, tracking.provenance(config_path), run.log_metrics)


if __name__ == "__main__":
    from swath.tracking import cli

    raise SystemExit(cli(main))
