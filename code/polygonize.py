"""Class rasters to polygons with the class as `id`."""

from swath.config.help import answer

if __name__ == "__main__":
    answer(__file__)  # --help comes before the slow imports

from swath.entry_point import preparation
from swath.prediction.polygonize import PolygonizeConfig

main = preparation(PolygonizeConfig)

if __name__ == "__main__":
    raise SystemExit(main.start())
