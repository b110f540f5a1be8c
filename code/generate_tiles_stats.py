"""Statistics, fingerprints, groups and folds of a folder of tiles: tile_stats.parquet and band_stats.json."""

from swath.config.help import answer

if __name__ == "__main__":
    answer(__file__)  # --help comes before the slow imports

from swath.data.tiles.statistics import StatsConfig
from swath.entry_point import preparation

main = preparation(StatsConfig)

if __name__ == "__main__":
    raise SystemExit(main.start())
