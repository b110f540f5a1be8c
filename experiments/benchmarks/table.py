"""A table of 1,000,000 tiles: reading, groups, folds, splitting, the first epoch's draws.

    python experiments/benchmarks/table.py --tiles 1000000 --rounds 5

2,500 scenes of 20 x 20 tiles in 50 areas, half of them a second date of the same ground, with target shares. Every step
runs in a process of its own, which reads the table first; its seconds are without the imports and, except for
"open", without that. Thumbnails are left out: comparing all pairs of them is quadratic and has its own settings.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from rounds import CACHE, cost, timed, value, write

GRID = 20


def make(count: int) -> Path:
    """tile_stats.parquet of `count` tiles, once."""
    import geopandas as gpd
    import pandas as pd
    import shapely

    from swath.data.tables import TILE_STATS, write_table

    folder = CACHE / f"table_{count}"
    if (folder / TILE_STATS).is_file():
        return folder
    number = np.arange(count)
    scene, place = number // GRID**2, number % GRID**2
    row, col = place // GRID * 480, place % GRID * 480
    ground = scene // 2
    x, y = 400_000 + ground % 50 * 200_000.0 + col * 10, 3_000_000 + ground // 50 * 200_000.0 - row * 10
    names = [f"s1a_a{g % 50}_{s % 2}_{s}" for s, g in zip(scene.tolist(), ground.tolist(), strict=True)]
    rng = np.random.default_rng(0)
    table = pd.DataFrame({
        "key": [f"{n}/tile_{c}_{r}" for n, c, r in zip(names, col.tolist(), row.tolist(), strict=True)],
        "scene": names, "area": [f"a{g % 50}" for g in ground.tolist()],
        "image": [f"images/{n}_{i}.tif" for n, i in zip(names, place.tolist(), strict=True)],
        "mask": [f"masks/{n}_{i}.tif" for n, i in zip(names, place.tolist(), strict=True)],
        "row": row, "col": col, "height": 512, "width": 512, "core_row": row + 16, "core_col": col + 16,
        "core_height": 480, "core_width": 480, "scene_height": 9632, "scene_width": 9632, "crs": "EPSG:32638",
        "geometry_crs": "EPSG:32638", "scene_transform": [[10.0, 0.0, 0.0, 0.0, -10.0, 0.0]] * count,
        "skip": False, "reason": "", "valid_ratio": 1.0, "target_ratio": rng.beta(0.3, 3, count), "fold": ground % 5,
        "group": [f"g{g}" for g in ground.tolist()], "content": [f"{i:032x}" for i in number.tolist()],
    })  # fmt: skip
    boxes = shapely.box(x, y - 5120, x + 5120, y)
    write_table(folder / TILE_STATS, gpd.GeoDataFrame(table, geometry=boxes, crs="EPSG:32638"))
    return folder


def read(folder: Path) -> Any:
    from swath.data.samples.tile_tables import read_tiles

    return read_tiles(folder)


def groups(tiles: Any) -> None:
    """Connected tiles: of one scene, on the same ground."""
    from swath.data.leakage.groups import Grouping, group_tiles

    group_tiles(tiles.drop(columns="group"), Grouping())


def folds(tiles: Any) -> None:
    from swath.data.splits.folds import GroupFolds, folds_by_group

    folds_by_group(tiles, GroupFolds(folds=5))


def split(tiles: Any) -> None:
    """Sides by area, and the proof that no ground is on two."""
    from swath.data.splits.split import ByArea, divide

    divide(tiles, ByArea(validation_areas=("a3", "a7")))


def draws(tiles: Any) -> None:
    """The first epoch of 100,000 samples by presence of the target."""
    from swath.data.samples.samplers import TargetPresence

    TargetPresence().indices(tiles, 100_000, np.random.default_rng(0))


STEPS = {"groups": groups, "folds": folds, "split": split, "draws": draws}


def child(name: str, folder: Path) -> None:
    """One step in a process of its own."""
    import swath.data.leakage.groups
    import swath.data.samples.tile_tables
    import swath.data.splits.split  # noqa: F401

    if name == "open":
        timed(lambda: read(folder))
    else:
        tiles = read(folder)
        timed(lambda: STEPS[name](tiles))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--tiles", type=int, default=10**6)
    options.add_argument("--child", choices=["make", "open", *STEPS], help=argparse.SUPPRESS)
    given = options.parse_args()
    folder = CACHE / f"table_{given.tiles}"
    if given.child:
        make(given.tiles) if given.child == "make" else child(given.child, folder)
        return
    commands = {
        name: [sys.executable, __file__, f"--tiles={given.tiles}", "--child", name] for name in ["open", *STEPS]
    }
    cost([*commands["open"][:-1], "make"])
    rows = []
    for name, command in commands.items():
        found = [cost(command) for _ in range(given.rounds)]
        target = "<= 2" if name == "open" else ""
        rows.append(value(f"{given.tiles:,} tiles: {name}", [one.seconds for one in found], target, "s"))
        rows[-1]["memory"] = [max(one.megabytes for one in found)]
    write("table", rows, tiles=given.tiles, rounds=given.rounds)


if __name__ == "__main__":
    main()
