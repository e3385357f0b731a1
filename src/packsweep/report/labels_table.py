"""The tables of ``show --positions`` and ``--confusion``."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

from packsweep.analysis import labels
from packsweep.report.cell import accuracy
from packsweep.report.cells_table import cell_columns
from packsweep.report.format import count, percent
from packsweep.report.table import Column, Table, of_rows
from packsweep.results.schema import Row


def positions(rows: Sequence[Row], cells: Sequence[Row]) -> Table:
    """Return a table of ``labels.by_position`` over the ``cells`` of a summary.

    Positions are counted from 1.
    """
    headings = ("position\nin prompt", "texts", "labels\nfound", "accuracy\n(95% CI)")
    body = [
        [
            (_span(row), count(row["num_texts"]), percent(row["coverage"]), accuracy(row))
            for row in own
        ]
        for own in _by_cell(rows, cells)
    ]
    return _beside(cells, headings, body, text=0)


def _span(row: Row) -> str:
    first, last = row["first"] + 1, row["last"] + 1
    return str(first) if first == last else f"{first}-{last}"


def confusion(rows: Sequence[Row], cells: Sequence[Row]) -> Table:
    """Return a table of ``labels.confusion``: a line per cell and expected label."""
    names = _labels(rows)
    predicted = (*names, labels.NONE)
    body = []
    for own in _by_cell(rows, cells):
        counts = {(row["expected"], row["found"]): row["num_texts"] for row in own}
        body.append(
            [
                (expected, *(count(counts.get((expected, label), 0)) for label in predicted))
                for expected in (names if own else ())
            ]
        )
    return _beside(cells, ("expected", *(f"predicted\n{label}" for label in predicted)), body)


def _beside(
    cells: Sequence[Row],
    headings: Sequence[str],
    body: Sequence[Sequence[tuple[str, ...]]],
    *,
    text: int = 1,
) -> Table:
    """Return the lines of each cell beside what tells it apart, a section for each cell."""
    lengths = [len(lines) for lines in body]
    repeated = [
        replace(column, cells=_repeated(column, lengths), once=True)
        for column in cell_columns(cells)
    ]
    own = of_rows(headings, list(itertools.chain(*body)), text=text)
    ends = itertools.accumulate(length for length in lengths if length)
    return Table(columns=(*repeated, *own.columns), sections=tuple(end - 1 for end in ends)[:-1])


def _repeated(column: Column, lengths: Sequence[int]) -> tuple[str, ...]:
    pairs = zip(column.cells, lengths, strict=True)
    return tuple(itertools.chain(*([str(text)] * length for text, length in pairs)))


def _labels(rows: Sequence[Row]) -> list[str]:
    """Return every label of a table's rows, in the order in which they occur."""
    names = dict.fromkeys(row[column] for column in ("expected", "found") for row in rows)
    return [name for name in names if name and name != labels.NONE]


def _by_cell(rows: Sequence[Row], cells: Sequence[Row]) -> list[list[Row]]:
    return [[row for row in rows if row["cell_id"] == cell["cell_id"]] for cell in cells]
