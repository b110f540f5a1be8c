"""VH and VV rasters to 3-band scenes (VH, VV, (VH + VV) / 2) and their scenes.parquet."""

from swath.config.help import answer

if __name__ == "__main__":
    answer(__file__)  # --help comes before the slow imports

from swath import config as configs
from swath.challenges.unosat.scenes import Generate3bConfig, find_pairs, write_3b


def main() -> None:
    config, config_path = configs.from_command_line(Generate3bConfig)
    from swath import tracking
    from swath.data.tables import SCENES, scene_row, write_table
    from swath.steps.ledger import Item
    from swath.steps.run import process

    step, output = "generate_3b_images", configs.absolute(config.output_path)
    pairs = find_pairs(configs.absolute(config.input_path), output, "3b", config.missing_values)
    items = [Item(key=p.key, job=p, inputs=(p.vh, p.vv), outputs=(p.output,)) for p in pairs]
    with tracking.run(config, config_path, step) as run:
        process(step, write_3b, items, config, output, tracking.provenance(config_path), run.log_metrics)
        write_table(output / SCENES, [scene_row(p.output, output, p.area) for p in pairs])


if __name__ == "__main__":
    from swath.tracking import cli

    raise SystemExit(cli(main))
