"""Predictions of several dates to one map per area, on one grid."""

from swath.config.help import answer

if __name__ == "__main__":
    answer(__file__)  # --help comes before the slow imports

from swath.entry_point import preparation
from swath.prediction.aggregate import AggregateConfig

main = preparation(AggregateConfig)

if __name__ == "__main__":
    raise SystemExit(main.start())
