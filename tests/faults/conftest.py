"""What tests of faults share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.matrix import small_world
from tests.faults.world import World


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The small world, made once."""
    try:
        with small_world(tmp_path_factory.mktemp("world")) as made:
            yield made
    except FileNotFoundError as error:
        pytest.skip(str(error))
