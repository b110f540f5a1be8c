"""A thousand damaged inputs: each is used rightly or refused by an error that names it, in time and in memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.fuzz.mutations import BY_SUFFIX, BYTES, changed_value
from tests.fuzz.run import END, GOOD, START, Found, table, written

COUNT = int(os.environ.get("FUZZ_COUNT", "1000"))
SEED = 0


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[Found]:
    """What became of each input; the fuzzer forks, so it is a process without the threads of the tests."""
    findings = tmp_path_factory.mktemp("fuzz") / "findings.jsonl"
    command = [
        sys.executable,
        "-m",
        "tests.fuzz.run",
        "--count",
        str(COUNT),
        "--seed",
        str(SEED),
        "--findings",
        str(findings),
    ]
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'code'}:{ROOT}"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert findings.is_file(), done.stderr[-4000:]
    return [Found(**json.loads(line)) for line in findings.read_text().splitlines()]


@pytest.mark.fuzz
def test_c129_every_bad_input_is_used_rightly_or_refused_by_name(found: list[Found]) -> None:
    bad = [
        f"{one.number} {one.kind}: {one.what}: {one.outcome}\n{one.said[-600:]}"
        for one in found
        if one.outcome not in GOOD
    ]
    assert not bad, f"{len(bad)} of {len(found)}; again: python -m tests.fuzz.run --only <numbers>\n" + "\n".join(
        bad[:20]
    )


@pytest.mark.fuzz
def test_c129_inputs_are_of_all_kinds_many_go_through_scripts_and_many_are_refused(found: list[Found]) -> None:
    assert len(found) == COUNT
    assert {
        "GeoTIFF", "shapefile", "GeoPackage", "GeoJSON", "FlatGeobuf", "NetCDF", "config file", "-P texts", "ledger",
        "settings of a step", "model record", "weights and states (archives)", "table", "decision", "statistics of bands",
    } == {one.kind for one in found}  # fmt: skip
    assert sum(one.script is not None for one in found) >= 0.27 * COUNT
    assert sum(one.outcome == "refused" for one in found) >= 0.3 * COUNT
    assert sum(one.outcome == "right" for one in found) >= 0.1 * COUNT


# ------------------------------------------------------------------------------------------------------- the fuzzer's own


def test_c129_the_report_counts_every_case_once() -> None:
    one = Found(1, "table", "x", "refused", "", None, 2.0)
    two = Found(2, "ledger", "x", "hang", "", "rasterize", 41.0)
    text = table([one, two, one], "make fuzz")
    assert "| table | 2 | 0 | 0 | 2 |" in text
    assert "| ledger | 1 | 1 | 0 | 0 | 0 | 0 | 1 |" in text
    assert "| all | 3 | 1 | 0 | 2 | 0 | 0 | 1 |" in text
    assert "the slowest took 41 s" in text
    once = written("# Reliability\n\n## Faults\n", text)
    assert written(once, "new") == f"# Reliability\n\n## Faults\n\n{START}\n\nnew\n\n{END}\n"


def test_c129_damage_follows_from_the_seed_and_changes_the_file(tmp_path: Path) -> None:
    honest = json.dumps({"settings": {"a": [1, 2, {"b": "c"}]}, "sources": {}}).encode() * 3
    for way in BYTES:
        made = []
        for _ in range(2):
            path = tmp_path / "x.bin"
            path.write_bytes(honest)
            way(path, np.random.default_rng(3))
            made.append(path.read_bytes())
        assert made[0] == made[1] != honest, way.__name__


def test_c129_changed_values_are_all_over_a_value() -> None:
    rng = np.random.default_rng(0)
    said = set()
    for _ in range(300):
        value: Any = {"a": [1, {"b": 2}], "c": None}
        _, what = changed_value(value, rng)
        said.add(what.partition(" ")[0])
    assert {"all", ".a", ".a.0", ".a.1", ".a.1.b", ".c"} <= said
    assert set(BY_SUFFIX) >= {
        ".tif",
        ".shp",
        ".gpkg",
        ".geojson",
        ".fgb",
        ".json",
        ".jsonl",
        ".parquet",
        ".py",
        ".safetensors",
    }
