"""Groups of scenes without a place, 7,061 vectors of 32 x 32: ours, and the common way with scikit-learn.

    python experiments/benchmarks/grouping.py --scenes 7061 --rounds 3

Both get the same vectors: reliefs of 3,300 places, most with several dates. The other way is that of a published system:
scikit-learn's cosine_similarity of all pairs, a list of neighbours for each scene, and scenes that join the first list
which holds them and has a member in a group. Each runs in a process of its own; making the vectors does not count.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from rounds import CACHE, cost, row, timed, write

SIDE, THRESHOLD = 32, 0.97


def make(count: int) -> Path:
    """Vectors of dates of places, standardised, once."""
    path = CACHE / f"grouping_{count}.npy"
    if not path.is_file():
        from scipy.ndimage import gaussian_filter

        rng = np.random.default_rng(0)
        places = max(1, round(count * 3300 / 7061))
        own = np.concatenate([np.arange(places), rng.integers(0, places, count - places)])
        hills = np.stack([gaussian_filter(rng.normal(0, 1, (SIDE, SIDE)), 2.5) for _ in range(places)])
        hills = hills.reshape(places, -1)
        hills = (hills - hills.mean(axis=1, keepdims=True)) / hills.std(axis=1, keepdims=True)
        dates = hills[own] + rng.normal(0, 0.05, (count, SIDE * SIDE))
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, dates.astype(np.float32))
    return path


def ours(vectors: Any) -> int:
    """Number of groups."""
    from swath.data.leakage.groups import components
    from swath.data.leakage.likeness import pairs_alike

    return len(set(components(len(vectors), pairs_alike(vectors, THRESHOLD)).tolist()))


def lists(vectors: Any) -> int:
    """Number of groups."""
    from sklearn.metrics.pairwise import cosine_similarity

    similarity = cosine_similarity(vectors)
    neighbours = {tuple(np.flatnonzero(line >= THRESHOLD).tolist()): None for line in similarity}
    of_scene: dict[int, int] = {}
    groups = 0
    for members in neighbours:
        known = [of_scene[member] for member in members if member in of_scene]
        group = known[0] if known else groups
        groups += not known
        for member in members:
            of_scene.setdefault(member, group)
    return groups


WAYS = {"ours": ours, "lists": lists}


def child(name: str, path: Path) -> None:
    """One way, in a process of its own."""
    import sklearn.metrics.pairwise  # noqa: F401

    import swath.data.leakage.likeness  # noqa: F401

    vectors = np.load(path)
    found = []
    timed(lambda: found.append(WAYS[name](vectors)))
    print(f"{name}: {found[0]} groups", file=sys.stderr)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--scenes", type=int, default=7061)
    options.add_argument("--child", choices=list(WAYS), help=argparse.SUPPRESS)
    given = options.parse_args()
    path = make(given.scenes)
    if given.child:
        child(given.child, path)
        return
    commands = {name: [sys.executable, __file__, f"--scenes={given.scenes}", "--child", name] for name in WAYS}
    found: dict[str, list[Any]] = {name: [] for name in WAYS}
    for number in range(given.rounds + 1):
        for name, command in commands.items():
            measured = cost(command)
            if number:  # the first round warms up
                found[name].append(measured)
    seconds = [[one.seconds for one in found[name]] for name in WAYS]
    memory = [max(one.megabytes for one in found[name]) for name in WAYS]
    rows = [row(f"{given.scenes:,} scenes: groups", *seconds, "<= 1", "s", memory)]
    write("grouping", rows, scenes=given.scenes, rounds=given.rounds)


if __name__ == "__main__":
    main()
