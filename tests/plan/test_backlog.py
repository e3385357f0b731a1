"""The order of cells: as given, but no long one last; and which share an engine."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes import cells

from packsweep.plan.backlog import Backlog, batches, largest_first
from packsweep.sweep.cells import Cell
from packsweep.sweep.expansion import schedule


def _order(seconds: Sequence[float], num_at_once: int) -> list[float]:
    backlog: Backlog[float] = Backlog(lambda cell: cell)
    for cell in seconds:
        backlog.append(cell)
    return [backlog.take(num_at_once) for _ in seconds]


def _wall_s(order: list[float], num_at_once: int) -> float:
    """Return when the last one ends, each given to the GPU that is free first."""
    free = [0.0] * num_at_once
    for seconds in order:
        heapq.heappush(free, heapq.heappop(free) + seconds)
    return max(free)


def test_one_at_a_time_keeps_its_order() -> None:
    assert _order([1, 9, 2, 8], 1) == [1, 9, 2, 8]


def test_long_one_is_not_last() -> None:
    # 1 + 1 + 1 + 1 + 4 left for two GPUs: 4 s are due once no more than 8 s are left.
    assert _order([1, 1, 1, 1, 4], 2) == [4, 1, 1, 1, 1]
    assert _order([1] * 6 + [4], 2) == [1, 1, 4, 1, 1, 1, 1]


def test_unknown_lengths_keep_their_order() -> None:
    backlog: Backlog[str] = Backlog(lambda _: None)
    for cell in "abc":
        backlog.append(cell)
    assert [backlog.take(4) for _ in range(3)] == ["a", "b", "c"]


def test_what_comes_again_waits_again() -> None:
    backlog: Backlog[int] = Backlog(float)
    for cell in (3, 5):
        backlog.append(cell)
    assert backlog.take(1) == 3
    backlog.append(3)
    assert [*backlog] == [5, 3]
    backlog.clear()
    assert len(backlog) == 0


LENGTHS = st.lists(st.integers(1, 60).map(float), min_size=1, max_size=40)


@given(LENGTHS, st.integers(1, 8))
def test_each_is_taken_once(seconds: Sequence[float], num_at_once: int) -> None:
    assert sorted(_order(seconds, num_at_once)) == sorted(seconds)


@pytest.mark.parametrize("num_gpus", [2, 4, 8])
def test_rounds_with_long_cells_fill_the_gpus(num_gpus: int) -> None:
    """Three rounds of twelve cells, of which one takes six times as long as most.

    In the order given eight GPUs take 1.32 times as long as they must.
    """
    one_round = [21.3, 21.4, 24.0, 23.1, 69.9, 35.4, 21.5, 21.6, 25.2, 26.0, 138.0, 41.0]
    seconds = [each for i in range(3) for each in (*one_round[i * 4 :], *one_round[: i * 4])]
    least = max(sum(seconds) / num_gpus, *seconds)
    assert _wall_s(_order(seconds, num_gpus), num_gpus) < 1.05 * least


def _cells(num: int, **engine: object) -> Sequence[Cell]:
    return cells(grid={"n": list(range(1, num + 1))}, engine=engine)


def _split(made: Sequence[Cell], at_once: int) -> list[list[Cell]]:
    return batches(made, lambda cell: cell, lambda _: at_once)


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


def test_split_by_size() -> None:
    """Of engines across both GPUs one runs at a time, of the others two."""
    made = [*_cells(4, tensor_parallel_size=2), *_cells(4)]
    found = batches(made, lambda cell: cell, lambda size: 2 // size)
    assert [[cell.num_gpus for cell in batch] for batch in found] == [[2] * 4, [1] * 2, [1] * 2]


def test_largest_first() -> None:
    """Engines of one size follow each other in each round, in the order of chance."""
    made = cells(
        grid={"n": [1, 2, 3]},
        engine={"tensor_parallel_size": [1, 2]},
        measure={"replicates": 2},
    )
    found = largest_first(schedule(made, 7), lambda cell: cell)
    assert [(cell.replicate, cell.num_gpus) for cell in found] == [
        (replicate, size) for replicate in (0, 1) for size in (2, 1) for _ in range(3)
    ]
    orders = [
        [cell for cell in order if (cell.replicate, cell.num_gpus) == (1, 2)]
        for order in (found, schedule(made, 7))
    ]
    assert orders[0] == orders[1]


def test_split_nothing() -> None:
    """Without cells there is no batch."""
    assert _split([], 4) == []
