"""Spectral indices of a tile: one program in the model, against one module per index, and against spyndex on NumPy.

    python experiments/benchmarks/indices.py --size 350 --rounds 5

All indices of spyndex that need no other bands than SWIR, NIR, R, G, B, on float32 tiles. Separate modules are of the same kind
with one index each; they are joined once, or each appends its channel to what the one before it gave, as published pipelines
do. spyndex gets the bands as arrays of the same float32 and all names in one call, as its users write it; it looks for
neither missing nor infinite values. All run in one process that may use every core, and keeps freed memory, as inference does:
NumPy, and with it spyndex, uses one of them, modules use as many as torch. A second set of rows has one thread for everybody.
Values are compared first.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from rounds import in_turn, row, write

BANDS = ("S1", "N", "R", "G", "B")


def defaults() -> dict[str, float]:
    """spyndex's constants."""
    spec = find_spec("spyndex")
    if spec is None or spec.origin is None:
        raise SystemExit("spyndex is not installed: pip install 'swath[indices]'")
    listed = json.loads((Path(spec.origin).parent / "data" / "constants.json").read_text())
    return {name: float(entry["default"]) for name, entry in listed.items() if entry["default"] is not None}


def names_for(bands: tuple[str, ...]) -> list[str]:
    """Indices of spyndex that these bands are enough for."""
    from swath.data.indices.catalogue import spyndex_indices

    return [name for name, index in spyndex_indices().items() if set(index.symbols()) <= set(bands) and name[0] != "k"]


def compare(names: list[str], found: Any, theirs: Any) -> None:
    """Values that both give are equal, but for what float32 loses beside poles."""
    for name, a, b in zip(names, found, theirs, strict=True):
        both = np.isfinite(a) & np.isfinite(b)
        if not both.any() or np.median(np.abs(a - b)[both] / (np.abs(b[both]) + 1e-6)) > 1e-3:
            raise SystemExit(f"our {name} is not spyndex's")


def seconds(work: Callable[[], Any], times: int) -> float:
    """Of one call, over some in a row."""
    started = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - started) / times


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--size", type=int, default=350, help="pixels along each side of a tile")
    options.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of torch; all cores")
    options.add_argument("--times", type=int, default=5, help="tiles per measurement")
    given = options.parse_args()
    import spyndex  # type: ignore[import-not-found]
    import torch

    from swath.nn.preprocess.optical import Indices
    from swath.steps.memory import keep_freed_memory

    keep_freed_memory()
    np.seterr(all="ignore")
    names = names_for(BANDS)
    tile = torch.rand(1, len(BANDS), given.size, given.size, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.05
    together = Indices(BANDS, tuple(names), bands=())
    alone = [Indices(BANDS, (name,), bands=()) for name in names]
    arrays = {band: tile[0, number].numpy().copy() for number, band in enumerate(BANDS)}
    parameters = defaults() | arrays

    def joined() -> Any:
        return torch.cat([module(tile) for module in alone], dim=1)

    def appended() -> Any:
        channels = tile
        for module in alone:
            channels = torch.cat([channels, module(channels[:, : len(BANDS)])], dim=1)
        return channels

    def theirs() -> Any:
        return spyndex.computeIndex(names, parameters)

    compare(names, together(tile)[0].numpy(), theirs())
    works = {"ours": lambda: together(tile), "joined": joined, "appended": appended, "spyndex": theirs}

    def measured(name: str, threads: int) -> float:
        torch.set_num_threads(threads)
        return seconds(works[name], given.times)

    counts = sorted({1, given.threads}, reverse=True)
    found = in_turn(
        {f"{name}, {count}": partial(measured, name, count) for count in counts for name in works}, given.rounds
    )
    rows = []
    for count in counts:
        where, target = ("", "<= 0.333") if count == counts[0] else (", one thread", "")
        ours = found[f"ours, {count}"]
        for name, peer in (
            ("a module each, joined once", "joined"),
            ("a module each, appending", "appended"),
            ("spyndex on NumPy", "spyndex"),
        ):
            rows.append(row(f"indices of a tile / {name}{where}", ours, found[f"{peer}, {count}"], target, "s"))
    write(
        "indices",
        rows,
        indices=len(names),
        size=given.size,
        times=given.times,
        threads=given.threads,
        rounds=given.rounds,
    )


if __name__ == "__main__":
    main()
