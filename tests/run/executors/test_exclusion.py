"""Nodes that get no more cells: after how many failures, and what makes up for them."""

from __future__ import annotations

import pytest

from packsweep.run.executors.exclusion import NodeExclusion
from packsweep.run.task import Status

BOTH = {"good", "bad"}


def _status(cell_id: str, outcome: str = "crashed") -> Status:
    return Status(cell_id=cell_id, attempt_id="a", attempt=0, outcome=outcome)


def test_different_cells_in_a_row() -> None:
    """The node is left out when the last of so many different cells has failed there."""
    exclusion = NodeExclusion(3)
    assert [exclusion.record("bad", _status(cell), BOTH) for cell in "abc"] == [False, False, True]
    assert exclusion.excluded == {"bad"}


def test_one_cell_again_and_again() -> None:
    """A cell that fails everywhere says nothing about the node."""
    exclusion = NodeExclusion(2)
    assert not any(exclusion.record("bad", _status("a"), BOTH) for _ in range(5))


@pytest.mark.parametrize("outcome", ["ok", "oom", "invalid"])
def test_node_that_works(outcome: str) -> None:
    """A result, or a failure that is the cell's own, shows that the node works."""
    exclusion = NodeExclusion(2)
    ends = [_status("a"), _status("b", outcome), _status("c")]
    assert not any(exclusion.record("bad", status, BOTH) for status in ends)


def test_last_node_kept() -> None:
    """The last node is kept: what fails there as well is the sweep's."""
    exclusion = NodeExclusion(1)
    assert exclusion.record("bad", _status("a"), BOTH)
    assert not exclusion.record("good", _status("b"), BOTH)
    assert exclusion.excluded == {"bad"}
