"""RESULTS.md and the figure, from the JSON of each row."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Result = dict[str, Any]

WHY = {
    "statistics of tiles": "a tile is opened, read, searched for gaps, summed in float64 and partly sorted, by two threads on two "
    "cores, against one that only reads; the ratio follows what the machine's page cache gives that one",
    "samples off / rasterio": "each sample is also searched for gaps, and gets a tensor, a key and a place",
    "off: 2 workers / 0": "rasterio reads a warm window in 50 microseconds, and two threads that take turns at the interpreter "
    "that often wait for each other; with compressed or cold files, or a step to wait for, they help",
    "tiles: open": "half of it is making a million polygons; every column is read, and 1.4 GB of memory is touched first",
    "indices of a tile / spyndex": "both are passes of NumPy over arrays; ours takes fewer, and half of the processor time; two "
    "threads did not bring the rest while other programs had both cores",
    "2 processes / 1": "gloo sends 57 MB of gradients a step through the same two cores, and batches of this size leave "
    "each process few pixels",
    "`mlflow run` of a step": "three of the four seconds are the second process's import of MLflow and of its store, in which the "
    "run's parameters and status are written even when there is nothing to do",
    "inference: memory": "strips are as wide as the scene, about 60 bytes a pixel of 512 rows; over height memory is flat (see "
    "inference)",
    "polygons: memory": "the polygons themselves, whose number grows with the pixels",
    ": memory": "strips are as wide as the scene; over height memory is flat (tests/steps/test_memory.py)",
    "slope": "fixed costs weigh on small scenes, so time grows by less than the pixels",
}
"""Why a target is missed, by the start or a part of the row's name."""


BUSY = 0.1
"""Share of the processor's time that others may have had."""


def load(folder: Path, names: Sequence[str]) -> dict[str, Result]:
    """The results there are, in the order of `names`."""
    paths = {name: folder / f"{name}.json" for name in names}
    return {name: json.loads(path.read_text()) for name, path in paths.items() if path.is_file()}


def met(row: Mapping[str, Any]) -> bool | None:
    """Whether a row's ratio, or its number where there is no peer, reaches its target; None without one."""
    found = re.match(r"(<=|>=) ([\d.]+)|([\d.]+) \+- ([\d.]+)", row["target"])
    if not found:
        return None
    number = row.get("ratio", row["ours"])
    if found[1]:
        return bool(number <= float(found[2]) if found[1] == "<=" else number >= float(found[2]))
    return abs(number - float(found[3])) <= float(found[4])


def line(row: Mapping[str, Any]) -> str:
    """A row of the table."""
    unit = row["unit"]
    spread = f" ({row['low']:.3g} to {row['high']:.3g})"
    ratio = f"**{row['ratio']:.3g}**{spread}" if "ratio" in row else ""
    ours = f"{row['ours']:.3g} {unit}" + ("" if "ratio" in row or row["low"] == row["high"] else spread)
    peer = f"{row['peer']:.3g} {unit}" if "peer" in row else ""
    memory = ", ".join(f"{m:.0f}" for m in row.get("memory", []))
    verdict = {True: "met", False: "missed", None: ""}[met(row)]
    return f"| {row['name']} | {ours} | {peer} | {ratio} | {memory} | {row['target']} | {verdict} |"


def reasons(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each row that misses its target and whose reason is known."""
    missed = [row["name"] for row in rows if met(row) is False]
    known = {name: next((why for part, why in WHY.items() if part in name), "not looked into") for name in missed}
    return [f"- {name}: {why}." for name, why in known.items()]


def section(name: str, result: Result) -> str:
    """What one step found, and where."""
    about = ", ".join(f"{k} {v}" for k, v in result.get("about", {}).items() if k not in ("curves", "sides"))
    where = (
        f"commit {result['commit']}, {result['date']}, {result['seconds']} s in all, other programs had "
        f"{result['others']:.0%} of the processor" + ("; **smaller sizes (--quick)**" if result["quick"] else "")
    )
    head = "| row | ours | peer | ratio (lowest to highest) | memory, MB | target | |\n" + "|---" * 7 + "|"
    lines = [f"## {name}", "", head, *map(line, result["rows"]), "", *reasons(result["rows"])]
    if result["others"] > BUSY:
        lines.append(
            "- Other programs had much of the processor: measure again on a quiet machine before quoting a number."
        )
    if "error" in result:
        lines += [f"Not measured in full: `{result['error'].replace('`', '')}`"]
    return "\n".join([*lines, "", f"{where}; {about}" if about else where, ""])


def write_report(folder: Path, names: Sequence[str]) -> None:
    """RESULTS.md beside the folder of results."""
    results = load(folder, names)
    if not results:
        return
    rows = [row for result in results.values() for row in result["rows"]]
    verdicts = [met(row) for row in rows]
    newest = max(results.values(), key=lambda result: result["date"])
    machine, versions = (", ".join(f"{k} {v}" for k, v in newest[part].items()) for part in ("machine", "versions"))
    text = f"""# Benchmarks

Written by `make bench`; do not edit. Ours and the peer in turn on the same data and model, one round to warm up, then the
median of the rounds' ratios with the lowest and the highest. Ours stands above the line: a ratio of times below 1, or of
rates above 1, is in our favour. Memory is the highest resident size of the process, ours (above what imports take) and the
peer's. Page cache warm. What other programs had of the processor's time meanwhile stands below each table.

Of {sum(v is not None for v in verdicts)} targets {sum(v is True for v in verdicts)} are met and
{sum(v is False for v in verdicts)} missed. Not measured yet: {", ".join(n for n in names if n not in results) or "none"}.

{machine}

{versions}

"""
    (folder.parent / "RESULTS.md").write_text(text + "\n".join(section(*item) for item in results.items()))


def write_figure(folder: Path, path: Path) -> None:
    """Ratios against their targets, and growth of time and memory; nothing without results of both."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    results = {p.stem: json.loads(p.read_text()) for p in sorted(folder.glob("*.json"))}
    rows = [row for result in results.values() for row in result["rows"] if "ratio" in row and met(row) is not None]
    growth = results.get("growth", {}).get("about", {})
    if not rows or "curves" not in growth:
        return
    figure, (left, middle, right) = plt.subplots(
        1, 3, figsize=(13, 4.6), width_ratios=(1.5, 1, 1), layout="constrained"
    )
    _ratios(left, rows)
    pixels = [side**2 / 1e6 for side in growth["sides"]]
    for kind, axes, label in (("seconds", middle, "seconds"), ("memory", right, "peak memory, MB")):
        for name, curve in growth["curves"].items():
            axes.plot(pixels, curve[kind], "o-", markersize=3, label=name)
        axes.set(
            xscale="log", xlabel="megapixels", title=label, xticks=pixels, xticklabels=[f"{p:.0f}" for p in pixels]
        )
        axes.minorticks_off()
    middle.set_yscale("log")
    middle.plot(pixels, [pixels[0] ** -1 * p * 0.02 for p in pixels], "k:", label="linear")
    right.set_ylim(bottom=0)
    middle.legend(fontsize=7, frameon=False)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=90, metadata={"Software": None})
    plt.close(figure)


def _ratios(axes: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    """Bars of how many times as fast as the peer, and the targets as ticks."""
    names = [row["name"] for row in rows]
    upward = [row["target"].startswith(">=") for row in rows]
    goals = [float(row["target"].split()[1]) for row in rows]
    faster = [row["ratio"] if up else 1 / row["ratio"] for row, up in zip(rows, upward, strict=True)]
    wanted = [goal if up else 1 / goal for goal, up in zip(goals, upward, strict=True)]
    colours = ["#3b7dd8" if a >= b else "#c9a227" for a, b in zip(faster, wanted, strict=True)]
    axes.barh(names, faster, color=colours, height=0.6)
    axes.plot(wanted, range(len(names)), "k|", markersize=9)
    axes.axvline(1, color="0.6", linewidth=0.8)
    axes.set(xscale="log", title="times as fast as the peer (bar), target (tick)")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.invert_yaxis()
    axes.tick_params(axis="y", labelsize=6.5)
