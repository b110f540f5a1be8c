"""Every line of docs/security.md names a test, and the test is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "security.md"
NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


def rows() -> list[str]:
    """The lines of its tables, without their heads."""
    lines = [line for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    return [line for line in lines if not line.startswith(("|---", "| what |"))]


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.split("|")[1].strip()[:30] or "also")
def test_c130_every_line_has_a_test(row: str) -> None:
    assert NAMED.search(row.split("|")[-2]), row


def test_c130_the_tests_that_are_named_are_there() -> None:
    named = NAMED.findall(DOCUMENT.read_text(encoding="utf-8"))
    assert len(named) > 15
    for file, name in named:
        assert (ROOT / file).is_file(), file
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        assert not name or name in {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}, (file, name)


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_c130_it_is_linked(page: str) -> None:
    assert "docs/security.md" in (ROOT / page).read_text(encoding="utf-8")
