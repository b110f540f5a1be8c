"""Scenes to folds: groups dealt out evenly over strata, as columns split_0, split_1, ... of scenes.parquet."""

from swath.config.help import answer

if __name__ == "__main__":
    answer(__file__)  # --help comes before the slow imports

from swath.data.splits.assign import AssignFoldsConfig
from swath.entry_point import preparation

main = preparation(AssignFoldsConfig)

if __name__ == "__main__":
    raise SystemExit(main.start())
