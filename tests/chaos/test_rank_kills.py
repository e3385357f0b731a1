"""A worker, a rank and the driver of an engine on several GPUs are killed; the cell is measured."""

from __future__ import annotations

import sys

import pytest
from tests.chaos import rank_kills

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(600),
    pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's"),
]


def test_kills_of_the_simulated_engine() -> None:
    """Nothing is left of any, and each cell has one result."""
    found = list(rank_kills.kills("simulated", 2, repeats=3))
    assert [str(each) for each in found if each.problems] == []
    assert [each.victim for each in found] == list(rank_kills.VICTIMS)
    assert {each.num_processes for each in found} == {3}
    assert found[1].reason == "EngineDeadError: the simulated engine core died"
