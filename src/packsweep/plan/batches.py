"""Which cells share an engine where several GPUs work on a sweep."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def split(cells: Sequence[T], engine_of: Callable[[T], object], at_once: int) -> list[list[T]]:
    """Split cells into batches of one engine each, about as many as can run at once.

    Batches of equal settings differ by one cell at most.
    """
    most = math.ceil(len(cells) / max(at_once, 1))
    by_engine: dict[object, list[T]] = {}
    for cell in cells:
        by_engine.setdefault(engine_of(cell), []).append(cell)
    found = []
    for own in by_engine.values():
        num_batches = math.ceil(len(own) / most)
        found += [own[first::num_batches] for first in range(num_batches)]
    return found
