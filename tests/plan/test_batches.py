"""How cells that share engines are dealt out to the GPUs."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from tests.fakes import cells

from packsweep.plan import batches
from packsweep.sweep.cells import Cell


def _cells(num: int, **engine: object) -> Sequence[Cell]:
    return cells(grid={"n": list(range(1, num + 1))}, engine=engine)


def _split(made: Sequence[Cell], at_once: int) -> list[list[Cell]]:
    return batches.split(made, lambda cell: cell.engine_key, at_once)


@pytest.mark.parametrize(
    ("num", "at_once", "sizes"), [(5, 2, [3, 2]), (3, 8, [1, 1, 1]), (4, 1, [4]), (2, 0, [2])]
)
def test_split(num: int, at_once: int, sizes: Sequence[int]) -> None:
    """Cells of one engine's settings are spread over what runs at once."""
    made = _cells(num)
    found = _split(made, at_once)
    assert [len(batch) for batch in found] == sizes
    assert sorted(cell.n for batch in found for cell in batch) == [cell.n for cell in made]


def test_split_by_engine() -> None:
    """No batch holds cells of two engines, also where more engines than GPUs are needed."""
    pairs = zip(_cells(2, max_num_seqs=1), _cells(2, max_num_seqs=2), strict=True)
    found = _split([cell for pair in pairs for cell in pair], 1)
    assert [[cell.settings["max_num_seqs"] for cell in batch] for batch in found] == [
        [1, 1],
        [2, 2],
    ]


def test_split_nothing() -> None:
    """Without cells there is no batch."""
    assert _split([], 4) == []
