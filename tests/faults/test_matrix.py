"""Each cell of the matrix of faults and steps, at three positions; `make faults` looks at forty."""

from __future__ import annotations

import os

import pytest

from tests.faults.matrix import CELLS, ROWS, Cell, filled
from tests.faults.world import World

pytestmark = pytest.mark.faults
POSITIONS = 3
OTHERS = ("eda", "polygonize", "postprocess", "aggregate")
"""Steps beside those of the matrix that may be killed."""
KILLED = "SIGKILL before a write"


@pytest.fixture(scope="module")
def found(world: World) -> dict[tuple[str, str], Cell]:
    """All cells, as many at the same time as there are processors: much of their time is waiting for stores."""
    abreast = len(os.sched_getaffinity(0))
    return filled(world, ROWS, list(CELLS), POSITIONS, abreast) | filled(world, OTHERS, [KILLED], POSITIONS, abreast)


@pytest.mark.parametrize("fault", CELLS)
@pytest.mark.parametrize("name", ROWS)
def test_c128_after_a_fault_the_same_command_ends_as_if_there_had_been_none(
    found: dict[tuple[str, str], Cell], name: str, fault: str
) -> None:
    cell = found[fault, name]
    if cell.skipped:
        pytest.skip(cell.skipped)
    assert cell.cases
    assert not cell.wrong


@pytest.mark.parametrize("name", OTHERS)
def test_c128_what_a_killed_step_leaves_is_gone_after_the_next_start(
    found: dict[tuple[str, str], Cell], name: str
) -> None:
    cell = found[KILLED, name]
    assert cell.cases == POSITIONS
    assert not cell.wrong
