"""Attempts that a cluster lost: the row, and the race with an attempt that still commits."""

from __future__ import annotations

import pytest
from tests.fakes import cell, task, written

from packsweep.errors import ResultsError
from packsweep.results.store import Store
from packsweep.run.rows import describe_loss, lost


def test_lost_row(store: Store) -> None:
    """A lost attempt is a failed row, and the status says that it was lost."""
    status = lost(task(cell(), store.root), "crashed", "its node died", 3.0)
    assert (status.outcome, status.reason, status.lost) == ("crashed", "its node died", True)
    rows = store.read_passes().to_pylist()
    assert [(row["outcome"], row["reason"]) for row in rows] == [("crashed", "its node died")]


def test_lost_then_committed(store: Store) -> None:
    """An attempt that commits after it was given up for lost is not harmed by its own row."""
    lost(task(cell(), store.root), "crashed", "its node died", 3.0)
    written(store, cell())
    lost(task(cell(), store.root), "crashed", "its node died", 3.0)
    assert store.is_done(cell().cell_id)
    assert [row["outcome"] for row in store.read_passes().to_pylist()] == ["ok"]


def test_lost_after_commit(store: Store) -> None:
    """A committed result stays one, however its attempt ended."""
    written(store, cell())
    status = lost(task(cell(), store.root), "timeout", "its node said nothing", 3.0)
    assert (status.outcome, status.reason) == ("ok", None)
    assert store.attempts(cell().cell_id) == ["a0"]


class NodeDiedError(Exception):
    """Named as Ray's."""


@pytest.mark.parametrize(
    ("error", "phase", "line"),
    [
        (NodeDiedError("long story"), "pass 0", "Ray lost the attempt on n1 in phase pass 0: its "),
        (NodeDiedError("x"), None, "Ray lost the attempt on n1 before it began: its node died"),
        (ValueError("a\nb"), "spawn", "Ray lost the attempt on n1 in phase spawn: ValueError: a b"),
        (ResultsError("/r: not there"), "spawn", "n1 does not see the results as the driver does"),
    ],
)
def test_describe_loss(error: Exception, phase: str | None, line: str) -> None:
    """One line says where, when and why."""
    assert describe_loss(error, "n1", phase).startswith(line)
