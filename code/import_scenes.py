"""A challenge's own files to scenes: rasters of bands and labels, and scenes.parquet."""

from swath.config.help import answer

if __name__ == "__main__":
    answer(__file__)  # --help comes before the slow imports

from swath import config as configs
from swath.challenges.protocols import SceneImport, run_job


def main() -> None:
    config, config_path = configs.from_command_line(SceneImport)  # type: ignore[type-abstract]
    from swath import tracking
    from swath.data.tables import SCENES, write_table
    from swath.steps.ledger import Item
    from swath.steps.run import process

    step, output = "import_scenes", configs.absolute(config.output_path)
    items = [Item(key=j.key, job=j, inputs=j.inputs, outputs=j.outputs) for j in config.scenes_to_import(output)]
    with tracking.run(config, config_path, step) as run:
        rows = process(step, run_job, items, config, output, tracking.provenance(config_path), run.log_metrics)
        write_table(output / SCENES, list(rows.values()))


if __name__ == "__main__":
    from swath.tracking import cli

    raise SystemExit(cli(main))
