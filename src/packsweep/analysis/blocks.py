"""What two sides' passes are compared over: the GPUs that measured both, and a GPU's part of speed.

A GPU's own speed cancels where it measured both sides. An engine over several GPUs and engines of
one of them each have those GPUs in common, so a block is all GPUs that engines tie together.

A driver gives a cell to whichever GPU is free. Where that left too few processes on GPUs in common,
all processes are compared: over several GPUs a side, the GPUs' own speeds are in their spread.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from packsweep.results.schema import Row

Block = tuple[Sequence[Row], Sequence[Row]]

# What a linear model of GPU and side must keep, for an interval that is of any use.
_LEAST_FREEDOM = 2
# Processes a side, on so many GPUs, whose spread stands for that between GPUs.
_ENOUGH_PROCESSES = 3
_ENOUGH_GPUS = 2


def compared(
    above: Sequence[Row], below: Sequence[Row], in_common: Sequence[Block]
) -> Sequence[Block]:
    """Return the passes that a ratio is taken over: of the GPUs ``in_common``, or of all."""
    if _freedom(in_common) < _LEAST_FREEDOM and _are_spread(above) and _are_spread(below):
        return [(above, below)]
    return in_common or [(above, below)]


def _freedom(found: Sequence[Block]) -> int:
    """Return the degrees of freedom between processes in blocks."""
    counts = [[len(_processes(side)) for side in block] for block in found]
    if len(counts) == 1 and min(counts[0]) == 1:
        return 0  # of one process only the repeats are known
    return sum(map(sum, counts)) - len(counts) - 1


def _are_spread(rows: Sequence[Row]) -> bool:
    return len(_processes(rows)) >= _ENOUGH_PROCESSES and len(_by_gpus(rows)) >= _ENOUGH_GPUS


def _processes(rows: Sequence[Row]) -> set[str]:
    return {row["attempt_id"] for row in rows}


def shared(above: Sequence[Row], below: Sequence[Row]) -> list[Block]:
    """Return the passes of two sides in each block of GPUs that measured both.

    All processors count as one block, and so do the GPUs of servers given by --url.
    """
    sides = [_by_gpus(rows) for rows in (above, below)]
    found = [
        [[row for gpus, rows in side.items() if gpus <= block for row in rows] for side in sides]
        for block in _tied([*sides[0], *sides[1]])
    ]
    return [(first, second) for first, second in found if first and second]


def num_gpus(row: Row) -> int:
    """Return the GPUs of a row's engine; a processor counts as one, as does what is not known."""
    return int(row.get("num_gpus") or 1)


def differ(above: Sequence[Row], below: Sequence[Row]) -> bool:
    """Return whether engines of two sides have different numbers of GPUs."""
    return {num_gpus(row) for row in above} != {num_gpus(row) for row in below}


def per_gpu(rows: Sequence[Row], metric: str) -> list[dict[str, Any]]:
    """Return passes with a rate over the number of GPUs that reached it."""
    return [
        {**row, metric: None if row[metric] is None else row[metric] / num_gpus(row)}
        for row in rows
    ]


def _by_gpus(rows: Sequence[Row]) -> dict[frozenset[str], list[Row]]:
    found: dict[frozenset[str], list[Row]] = {}
    for row in rows:
        found.setdefault(frozenset((row["device_uuid"] or "").split(",")), []).append(row)
    return found


def _tied(sets: Iterable[frozenset[str]]) -> list[frozenset[str]]:
    """Return sets that overlap, directly or by way of others, as one, in the order of GPUs."""
    blocks: list[frozenset[str]] = []
    for each in sets:
        tied = [block for block in blocks if block & each]
        blocks = [block for block in blocks if not block & each]
        blocks.append(each.union(*tied))
    return sorted(blocks, key=min)
