"""Generate the demo's raw data: VH and VV scenes of six areas in the UNOSAT layout, and their labels."""

from swath.help import answer

if __name__ == "__main__":
    answer(__file__)  # --help comes before the slow imports

from swath import config as configs
from swath.challenges.demo_scenes import DemoScenesConfig, demo_areas, write_area


def main() -> None:
    config, config_path = configs.from_command_line(DemoScenesConfig)
    from swath import tracking
    from swath.engine.mapper import Item, process

    step, output = "generate_demo_scenes", configs.absolute(config.output_path)
    items = [Item(key=a.name, job=a, inputs=(), outputs=a.outputs) for a in demo_areas(config, output)]
    with tracking.run(config, config_path, step) as run:
        process(step, write_area, items, config, output, tracking.provenance(config_path), run.log_metrics)


if __name__ == "__main__":
    from swath.tracking import cli

    raise SystemExit(cli(main))
