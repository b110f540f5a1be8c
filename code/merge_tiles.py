"""Rasters predicted per tile back to their scenes, without padding."""

from swath.config.help import answer

if __name__ == "__main__":
    answer(__file__)  # --help comes before the slow imports

from swath.entry_point import preparation
from swath.prediction.merge_tiles import MergeTilesConfig

main = preparation(MergeTilesConfig)

if __name__ == "__main__":
    raise SystemExit(main.start())
