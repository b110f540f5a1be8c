"""Predictions of several dates to one map per area, on one grid."""

from swath.config.help import answer

if __name__ == "__main__":
    answer(__file__)  # --help comes before the slow imports

from swath import config as configs
from swath import tracking
from swath.prediction.aggregate import AggregateConfig, aggregate_area, area_jobs
from swath.steps.ledger import Item
from swath.steps.run import process


def main() -> None:
    config, config_path = configs.from_command_line(AggregateConfig)
    output = configs.absolute(config.output_path)
    jobs = area_jobs(configs.absolute(config.input_path), output, config.rule, config.threshold)
    items = [Item(key=j.area, job=j, inputs=j.dates, outputs=(j.classes, j.probability)) for j in jobs]
    with tracking.run(config, config_path, "all_agg_by_city") as run:
        process(
            "all_agg_by_city",
            aggregate_area,
            items,
            config,
            output,
            tracking.provenance(config_path),
            run.log_metrics,
        )


if __name__ == "__main__":
    raise SystemExit(tracking.cli(main))
