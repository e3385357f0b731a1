"""Which cells share an engine where several GPUs work on a sweep."""

from __future__ import annotations

import math
from collections.abc import Sequence

from packsweep.run.task import Task


def split(tasks: Sequence[Task], at_once: int) -> list[list[Task]]:
    """Split attempts into batches of one engine each, about as many as can run at once.

    Batches of equal settings differ by one attempt at most.
    """
    most = math.ceil(len(tasks) / max(at_once, 1))
    by_engine: dict[object, list[Task]] = {}
    for task in tasks:
        by_engine.setdefault(task.cell.engine_key, []).append(task)
    found = []
    for own in by_engine.values():
        num_batches = math.ceil(len(own) / most)
        found += [own[first::num_batches] for first in range(num_batches)]
    return found
