"""Generate a challenge's raw data: scenes in its layout, their labels, and the truth of those to be mapped."""

from swath.config.help import answer

if __name__ == "__main__":
    answer(__file__)  # --help comes before the slow imports

from swath.challenges.protocols import SceneMaker
from swath.entry_point import preparation

main = preparation(SceneMaker)  # type: ignore[type-abstract]

if __name__ == "__main__":
    raise SystemExit(main.start())
