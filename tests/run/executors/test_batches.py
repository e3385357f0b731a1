"""How attempts that share engines are dealt out to the GPUs."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from tests.fakes import cells, task

from packsweep.run.executors import batches
from packsweep.run.task import Task


def _tasks(num: int, **engine: object) -> list[Task]:
    made = cells(grid={"n": list(range(1, num + 1))}, engine=engine)
    return [task(each, "results", attempt_id=f"{engine}{each.n}") for each in made]


@pytest.mark.parametrize(
    ("num", "at_once", "sizes"), [(5, 2, [3, 2]), (3, 8, [1, 1, 1]), (4, 1, [4]), (2, 0, [2])]
)
def test_split(num: int, at_once: int, sizes: Sequence[int]) -> None:
    """Attempts of one engine's settings are spread over what runs at once."""
    tasks = _tasks(num)
    found = batches.split(tasks, at_once)
    assert [len(batch) for batch in found] == sizes
    assert sorted(t.cell.n for batch in found for t in batch) == [t.cell.n for t in tasks]


def test_split_by_engine() -> None:
    """No batch holds cells of two engines, also where more engines than GPUs are needed."""
    tasks = [
        t
        for rows in zip(_tasks(2, max_num_seqs=1), _tasks(2, max_num_seqs=2), strict=True)
        for t in rows
    ]
    found = batches.split(tasks, 1)
    assert [[t.cell.settings["max_num_seqs"] for t in batch] for batch in found] == [[1, 1], [2, 2]]


def test_split_nothing() -> None:
    """Without attempts there is no batch."""
    assert batches.split([], 4) == []
