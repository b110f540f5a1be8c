"""Each cell of the matrix of faults and steps, at three positions; `make faults` looks at forty."""

from __future__ import annotations

import pytest

from tests.faults.matrix import CELLS, ROWS, Row, killed
from tests.faults.world import World

pytestmark = pytest.mark.faults
POSITIONS = 3
OTHERS = ("eda", "polygonize", "postprocess", "aggregate")
"""Steps beside those of the matrix that may be killed."""


@pytest.fixture(scope="module")
def rows(world: World) -> dict[str, Row]:
    """Rows with what undisturbed starts leave, each found when it is asked for."""
    return {name: Row(world, name) for name in (*ROWS, *OTHERS)}


@pytest.mark.parametrize("fault", CELLS)
@pytest.mark.parametrize("name", ROWS)
def test_c128_after_a_fault_the_same_command_ends_as_if_there_had_been_none(
    rows: dict[str, Row], name: str, fault: str
) -> None:
    cell = CELLS[fault](rows[name], POSITIONS)
    if cell.skipped:
        pytest.skip(cell.skipped)
    assert cell.cases
    assert not cell.wrong


@pytest.mark.parametrize("name", OTHERS)
def test_c128_what_a_killed_step_leaves_is_gone_after_the_next_start(rows: dict[str, Row], name: str) -> None:
    cell = killed(rows[name], POSITIONS)
    assert cell.cases == POSITIONS
    assert not cell.wrong
