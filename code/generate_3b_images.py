"""VH and VV rasters to 3-band scenes (VH, VV, (VH + VV) / 2) and their scenes.parquet."""

from swath.config.help import answer

if __name__ == "__main__":
    answer(__file__)  # --help comes before the slow imports

from swath.challenges.unosat.scenes import Generate3bConfig
from swath.entry_point import preparation

main = preparation(Generate3bConfig)

if __name__ == "__main__":
    raise SystemExit(main.start())
