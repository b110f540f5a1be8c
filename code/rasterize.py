"""Label polygons to masks on each scene's grid."""

from swath.config.help import answer

if __name__ == "__main__":
    answer(__file__)  # --help comes before the slow imports

from swath import config as configs
from swath.challenges.unosat.labels import RasterizeConfig, find_labels, label_job, write_mask
from swath.challenges.unosat.scenes import find_pairs


def main() -> None:
    config, config_path = configs.from_command_line(RasterizeConfig)
    from swath import tracking
    from swath.steps.ledger import Item
    from swath.steps.run import process

    step, output = "rasterize", configs.absolute(config.output_path)
    pairs = find_pairs(configs.absolute(config.input_path), output, "vh", config.missing_values)
    labels = find_labels(pairs, configs.absolute(config.labels_path or config.input_path), bool(config.labels_path))
    jobs = [label_job(path, pair, config) for path, pair in labels]
    items = [
        Item(key=j.pair.key, job=j, inputs=(j.labels, j.pair.vh, j.pair.vv), outputs=(j.pair.output,)) for j in jobs
    ]
    with tracking.run(config, config_path, step) as run:
        process(step, write_mask, items, config, output, tracking.provenance(config_path), run.log_metrics)


if __name__ == "__main__":
    from swath.tracking import cli

    raise SystemExit(cli(main))
