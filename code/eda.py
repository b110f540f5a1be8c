"""A look at a data set of tiles: tables, figures, and a report of what stands out."""

from swath.config.help import answer

if __name__ == "__main__":
    answer(__file__)  # --help comes before the slow imports

from swath import config as configs
from swath.eda.overview import EdaConfig


def main() -> None:
    config, config_path = configs.from_command_line(EdaConfig)
    from swath import tracking
    from swath.eda.report import explore

    output = configs.absolute(config.output_path)
    scenes = configs.absolute(config.scenes_path) if config.scenes_path else None
    with tracking.run(config, config_path, f"eda {configs.relative(config.input_path)}", kind="eda") as run:
        found, files = explore(config, configs.absolute(config.input_path), scenes, output)
        for path in files:
            run.log_file(path, "figures" if path.suffix == ".png" else None)
        run.log_metrics({f"eda/{name}": value for name, value in found.numbers.items()})
    for remark in found.remarks:
        print(f"- {remark}")
    print(f"report: {configs.relative(files[-1])}")


if __name__ == "__main__":
    from swath.tracking import cli

    raise SystemExit(cli(main))
