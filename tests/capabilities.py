"""The list of capabilities with their tests, for CONTRIBUTING.md: `python -m tests.capabilities` writes it anew.

A test shows the capabilities that its name carries: ``test_c11_c12_...``. A capability that no test carries is listed as
not tested, whether it is built or not.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "CONTRIBUTING.md"
START, END = "<!-- capabilities: python -m tests.capabilities -->", "<!-- end of capabilities -->"

TITLES = {
    1: "an entry point per step in MLproject", 2: "one path rule", 3: "config files, checked", 4: "bundle that reproduces a run",
    5: "trial with few samples", 6: "CPU, single process", 7: "seeds honoured", 8: "one locked environment",
    9: "VH and VV to three bands", 10: "polygons to masks", 11: "tiles of constant size", 12: "tiles of constant stride",
    13: "ledger of a step", 14: "statistics by tile", 15: "skip rule", 16: "folds by area", 17: "random split with guarantees",
    18: "near-duplicates", 19: "group and stratified folds", 20: "flags of tiles", 21: "doubtful labels left out",
    22: "statistics by band", 23: "report on a data set", 24: "metadata in scene names", 25: "shift between train and test",
    26: "ice charts to classes", 27: "NetCDF scenes", 28: "coarse grids on the fine one", 29: "variables on GCP grids",
    30: "patches at several resolutions", 31: "labels as rasters", 32: "arrays of cloud scenes", 33: "tables of pixels",
    34: "sub-tiles", 35: "plots of samples", 36: "tile data set", 37: "data sets from tables, folders, lists",
    38: "random crops of scenes", 39: "whole-scene validation", 40: "lazy, RAM and mapped loading", 41: "inference without targets",
    42: "evaluation on training tiles", 43: "SAR channels", 44: "spectral indices", 45: "missing pixels", 46: "normalisers",
    47: "bands by name", 48: "padding with an exact inverse", 49: "geometric augmentation", 50: "coarse dropout",
    51: "crops without a dominating class", 52: "target-presence sampler", 53: "quality sampler", 54: "shift-correcting sampler",
    55: "inverse-size sampler", 56: "samplers over ranks", 57: "networks", 58: "U-Net of any depth", 59: "attention U-Net",
    60: "heads by task", 61: "pretrained stems for any bands", 62: "warm start and freezing", 63: "self-supervised start",
    64: "losses", 65: "weighted sums of losses", 66: "regression of ordinal targets", 67: "optimisers", 68: "learning-rate schedules",
    69: "mixed precision, accumulation, ranks", 70: "loss that is not finite", 71: "early stopping", 72: "averaged weights",
    73: "consistency on unlabelled tiles", 74: "scores of confusion matrices", 75: "foreground scores", 76: "AutoICE score",
    77: "tiles without target", 78: "ignore label", 79: "scores do not depend on batches", 80: "validation schedule",
    81: "scores of a folder of predictions", 82: "scores by condition", 83: "selection and report on different data",
    84: "what a run records", 85: "tracking never stops training", 86: "status of a run", 87: "panels", 88: "checkpoints and resuming",
    89: "weights by run id", 90: "retention", 91: "sliding windows over scenes", 92: "test-time augmentation",
    93: "one convention of probability", 94: "threshold search", 95: "ensembles", 96: "dates of an area on one grid",
    97: "tiles merged to scenes", 98: "polygons", 99: "post-processing filters", 100: "submissions", 101: "previews", 102: "ONNX",
    103: "search of settings", 104: "learning curves", 105: "tree baseline", 106: "clusters", 107: "this list",
    108: "scenes of one's own", 109: "labels of one's own", 110: "a project from data", 111: "page of a run", 112: "dashboard",
    113: "long steps report progress", 114: "maps carry their origin", 115: "one identity of results",
    116: "what a file says is honoured", 117: "registered model", 118: "serving", 119: "many scenes on a cluster",
    120: "CPU engines", 121: "recipe search on out-of-fold maps", 122: "comparison of runs", 123: "intervals that cover",
    124: "calibration", 125: "applicability of a model to a scene", 126: "faults in labels", 127: "score inside against outside",
    128: "faults at every write", 129: "bad inputs in thousands", 130: "hostile data", 131: "Python interface and site",
    132: "a sixth challenge",
}  # fmt: skip


def tests_by_capability() -> dict[int, dict[str, int]]:
    """Capability to test file to number of its test functions there."""
    found: dict[int, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                for number in re.findall(r"(?<=_)c(\d+)(?=_)", node.name):
                    found[int(number)][path.relative_to(ROOT / "tests").as_posix()] += 1
    return found


def table() -> str:
    """The list as a Markdown table: every capability, also those without a test."""
    found = tests_by_capability()
    rows = []
    for number, title in TITLES.items():
        files = ", ".join(f"{file} ({count})" for file, count in sorted(found[number].items()))
        rows.append(f"| C{number:02d} | {title} | {files or 'not tested'} |")
    return "\n".join(["| | capability | tests |", "|---|---|---|", *rows])


def with_table(text: str) -> str:
    """The document with its list renewed."""
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n\n{table()}\n\n{END}{after}"


if __name__ == "__main__":
    DOCUMENT.write_text(with_table(DOCUMENT.read_text()))
