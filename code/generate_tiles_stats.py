"""Statistics, fingerprints, groups and folds of a folder of tiles: tile_stats.parquet and band_stats.json."""

from swath.config.help import answer

if __name__ == "__main__":
    answer(__file__)  # --help comes before the slow imports

from swath import config as configs
from swath.data.tiles.statistics import StatsConfig, scene_jobs, scene_statistics, summarise


def main() -> None:
    config, config_path = configs.from_command_line(StatsConfig)
    from swath import tracking
    from swath.data.tables import TILE_COLUMNS, TILE_STATS, TILES, read_table, write_table
    from swath.files import write_json
    from swath.steps.ledger import Item
    from swath.steps.run import process

    step, source = "generate_tiles_stats", configs.absolute(config.input_path)
    output = configs.absolute(config.output_path or config.input_path)
    tiles = read_table(source / TILES, TILE_COLUMNS, "generate_tiles")
    jobs = scene_jobs(tiles, source, config.min_valid_ratio, config.fingerprints)
    items = [Item(key=j.key, job=j, inputs=[*j.images, *(m for m in j.masks if m)]) for j in jobs]
    with tracking.run(config, config_path, step) as run:
        results = process(
            step,
            scene_statistics,
            items,
            config,
            output,
            tracking.provenance(config_path),
            run.log_metrics,
            replace=True,
        )
        table, bands, counts = summarise(tiles, results, source, output, config)
        write_table(output / TILE_STATS, table)
        write_json(output / "band_stats.json", bands)
        run.log_metrics({f"preparation/{name}": count for name, count in counts.items()})
        run.log_file(output / "band_stats.json")
        run.log_text(table.loc[table["skip"], ["key", "reason"]].to_csv(index=False), "skipped.csv")
    print(", ".join(f"{name} {count:g}" for name, count in counts.items()))


if __name__ == "__main__":
    from swath.tracking import cli

    raise SystemExit(cli(main))
