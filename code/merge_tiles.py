"""Rasters predicted per tile back to their scenes, without padding."""

from swath.config.help import answer

if __name__ == "__main__":
    answer(__file__)  # --help comes before the slow imports

from swath import config as configs
from swath import tracking
from swath.prediction.merge_tiles import MergeTilesConfig, merge_jobs, merge_scene
from swath.steps.ledger import Item
from swath.steps.run import process


def main() -> None:
    config, config_path = configs.from_command_line(MergeTilesConfig)
    output = configs.absolute(config.output_path)
    jobs = merge_jobs(config, configs.absolute(config.input_path), configs.absolute(config.tiles_path), output)
    items = [Item(key=j.key, job=j, inputs=j.tiles, outputs=(j.output,)) for j in jobs]
    with tracking.run(config, config_path, "merge_tiles") as run:
        process(
            "merge_tiles",
            merge_scene,
            items,
            config,
            output,
            tracking.provenance(config_path),
            run.log_metrics,
        )


if __name__ == "__main__":
    raise SystemExit(tracking.cli(main))
