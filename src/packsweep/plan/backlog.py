"""Which of the cells that wait is started next, and which share an engine.

Cells wait in an order of chance, so that whatever drifts during a sweep falls on all of them
alike. But a long cell that begins last keeps one GPU busy while the others have nothing left to
do. So the longest one is taken out of turn once all that waits, shared by the GPUs, would be over
before it. This is the rule of longest processing time first, for the end of a sweep alone.

Engines of one size follow each other, the largest first. Small engines start as soon as a large one
ends; a large engine that follows small ones waits for the last of them, and so do the GPUs that the
others have left.

Source: R. L. Graham, Bounds on multiprocessing timing anomalies, SIAM J. Appl. Math. 17 (1969).
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from packsweep.sweep.cells import Cell

T = TypeVar("T")


class Backlog(Generic[T]):
    """Cells that wait, first in, first out, the longest not last."""

    def __init__(self, expected_s: Callable[[T], float | None]) -> None:
        """Start empty.

        Args:
            expected_s: how long a cell should hold its GPU; None where nobody knows. Only the
                ratio of the cells to each other counts.
        """
        self._expected_s = expected_s
        self._cells: deque[T] = deque()
        self._left_s = 0.0
        self._longest_s = 0.0

    def __len__(self) -> int:
        return len(self._cells)

    def __iter__(self) -> Iterator[T]:
        return iter(self._cells)

    def append(self, cell: T) -> None:
        self._cells.append(cell)
        expected_s = self._seconds(cell)
        self._left_s += expected_s
        self._longest_s = max(self._longest_s, expected_s)

    def take(self, num_at_once: int) -> T:
        """Take out the next cell, of which ``num_at_once`` are measured at the same time."""
        index = 0
        # Looking through ten thousand cells each time would take longer than starting them.
        if self._left_s <= self._longest_s * num_at_once:
            index = self._longest(num_at_once)
        cell = self._cells[index]
        del self._cells[index]
        self._left_s -= self._seconds(cell)
        return cell

    def clear(self) -> None:
        self._cells.clear()
        self._left_s = self._longest_s = 0.0

    def _longest(self, num_at_once: int) -> int:
        """Return where the longest cell is if it is due, else where the first one is."""
        seconds = [self._seconds(cell) for cell in self._cells]
        self._left_s, self._longest_s = sum(seconds), max(seconds)
        due = self._left_s <= self._longest_s * num_at_once
        return seconds.index(self._longest_s) if due else 0

    def _seconds(self, cell: T) -> float:
        return self._expected_s(cell) or 0.0


def largest_first(cells: Iterable[T], cell_of: Callable[[T], Cell]) -> list[T]:
    """Order the cells of each round by the GPUs of their engines, else as given."""

    def key(each: T) -> tuple[int, int]:
        cell = cell_of(each)
        return cell.replicate, -cell.num_gpus

    return sorted(cells, key=key)


def batches(
    cells: Iterable[T], cell_of: Callable[[T], Cell], at_once: Callable[[int], int]
) -> list[list[T]]:
    """Split cells into batches of one engine each, about as many as can run at once.

    Batches of equal settings differ by one cell at most.

    Args:
        cells: in their order.
        cell_of: what each stands for.
        at_once: how many engines of so many GPUs run at the same time.
    """
    by_engine: dict[object, list[T]] = {}
    num_of_size: Counter[int] = Counter()
    for each in cells:
        cell = cell_of(each)
        by_engine.setdefault(cell.engine_key, []).append(each)
        num_of_size[cell.num_gpus] += 1
    found = []
    for own in by_engine.values():
        size = cell_of(own[0]).num_gpus
        most = math.ceil(num_of_size[size] / max(at_once(size), 1))
        num_batches = math.ceil(len(own) / most)
        found += [own[first::num_batches] for first in range(num_batches)]
    return found
