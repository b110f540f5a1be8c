"""Scenes without a place to groups that show one place, training and test together."""

from swath.config.help import answer

if __name__ == "__main__":
    answer(__file__)  # --help comes before the slow imports

from swath.data.leakage.scene_groups import GroupScenesConfig
from swath.entry_point import preparation

main = preparation(GroupScenesConfig)

if __name__ == "__main__":
    raise SystemExit(main.start())
