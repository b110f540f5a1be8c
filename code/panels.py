"""Scenes as pictures: composites, indices, elevation, quality, labels and predictions beside each other."""

from swath.config.help import answer

if __name__ == "__main__":
    answer(__file__)  # --help comes before the slow imports

from swath.entry_point import preparation
from swath.prediction.panels import PanelsConfig

main = preparation(PanelsConfig)

if __name__ == "__main__":
    raise SystemExit(main.start())
