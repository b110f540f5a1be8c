"""Scenes, and their masks where there are some, to tiles and their tiles.parquet."""

from swath.config.help import answer

if __name__ == "__main__":
    answer(__file__)  # --help comes before the slow imports

from swath.data.tiles.cutting import TilesConfig
from swath.entry_point import preparation

main = preparation(TilesConfig)

if __name__ == "__main__":
    raise SystemExit(main.start())
