"""Label polygons to masks on each scene's grid."""

from swath.config.help import answer

if __name__ == "__main__":
    answer(__file__)  # --help comes before the slow imports

from swath.challenges.unosat.labels import RasterizeConfig
from swath.entry_point import preparation

main = preparation(RasterizeConfig)

if __name__ == "__main__":
    raise SystemExit(main.start())
