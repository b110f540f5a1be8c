"""A challenge's own files to scenes: rasters of bands and labels, and scenes.parquet."""

from swath.config.help import answer

if __name__ == "__main__":
    answer(__file__)  # --help comes before the slow imports

from swath.challenges.protocols import SceneImport
from swath.entry_point import preparation

main = preparation(SceneImport)  # type: ignore[type-abstract]

if __name__ == "__main__":
    raise SystemExit(main.start())
