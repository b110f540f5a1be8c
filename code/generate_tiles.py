"""Scenes, and their masks where there are some, to tiles and their tiles.parquet."""

from swath.config.help import answer

if __name__ == "__main__":
    answer(__file__)  # --help comes before the slow imports

from swath import config as configs
from swath.data.tiles.cutting import TilesConfig, cut_jobs, cut_scene, tile_files


def main() -> None:
    config, config_path = configs.from_command_line(TilesConfig)
    from swath import tracking
    from swath.data.naming import pair_masks
    from swath.data.tables import TILES, read_scenes, scene_details, write_table
    from swath.steps.ledger import Item
    from swath.steps.run import process

    step, output = "generate_tiles", configs.absolute(config.output_path)
    scenes = read_scenes(configs.absolute(config.input_path))
    masks = pair_masks(scenes, configs.absolute(config.masks_path)) if config.masks_path else {}
    jobs = cut_jobs(scenes, masks, output, config.tiling, config.missing_values, config.write)
    items = [Item(key=j.key, job=j, inputs=[p for p in (j.image, j.mask) if p], outputs=tile_files(j)) for j in jobs]
    with tracking.run(config, config_path, step) as run:
        results = process(step, cut_scene, items, config, output, tracking.provenance(config_path), run.log_metrics)
        about = scene_details(scenes)
        rows = [about[row["scene"]] | row for rows in results.values() for row in rows]
        write_table(output / TILES, rows)
        run.log_metrics({"preparation/tiles": len(rows)})


if __name__ == "__main__":
    from swath.tracking import cli

    raise SystemExit(cli(main))
