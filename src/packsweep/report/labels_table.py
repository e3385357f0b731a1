"""The tables of ``show --positions`` and ``--confusion``."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table

from packsweep.analysis import labels
from packsweep.analysis.axes import varying
from packsweep.report.format import accuracy, count, percent, strategy
from packsweep.results.schema import Row


def _add_cell_columns(
    table: Table, cells: Sequence[Row], *, but: Sequence[str] = ()
) -> list[list[str]]:
    """Add the columns that tell ``cells`` apart; return what stands in them for each cell.

    ``but`` names settings that have a column already.
    """
    apart = varying(cells, but=but)
    table.add_column("strategy", no_wrap=True)
    for heading in apart:
        table.add_column(heading.replace("_", " "), overflow="fold")
    for heading in ("n", "dup"):
        table.add_column(heading, justify="right", overflow="fold")
    return [
        [
            strategy(cell["strategy"], cell["pack_size"]),
            *(values[index] for values in apart.values()),
            str(cell["n"]),
            str(cell["duplication"]),
        ]
        for index, cell in enumerate(cells)
    ]


def positions(rows: Sequence[Row], cells: Sequence[Row]) -> Table:
    """Return a table of ``labels.by_position`` over the ``cells`` of a summary.

    Positions are counted from 1.
    """
    table = _table()
    named = _add_cell_columns(table, cells)
    for heading in ("position\nin prompt", "texts", "found", "right\n(95% CI)"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, own in zip(named, _by_cell(rows, cells), strict=True):
        for index, row in enumerate(own):
            table.add_row(*_once(name, index), *_position(row))
    return table


def _position(row: Row) -> list[str]:
    first, last = row["first"] + 1, row["last"] + 1
    return [
        str(first) if first == last else f"{first}-{last}",
        count(row["num_texts"]),
        percent(row["coverage"]),
        accuracy(row),
    ]


def confusion(rows: Sequence[Row], cells: Sequence[Row]) -> Table:
    """Return a table of ``labels.confusion``: a line per cell and expected label."""
    table = _table()
    named = _add_cell_columns(table, cells)
    table.add_column("expected", no_wrap=True)
    names = _labels(rows)
    for found in (*names, labels.NONE):
        table.add_column(f"found\n{found}", justify="right", no_wrap=True)
    for name, own in zip(named, _by_cell(rows, cells), strict=True):
        counts = {(row["expected"], row["found"]): row["num_texts"] for row in own}
        for index, expected in enumerate(names if own else ()):
            told = (count(counts.get((expected, found), 0)) for found in (*names, labels.NONE))
            table.add_row(*_once(name, index), expected, *told)
    return table


def _labels(rows: Sequence[Row]) -> list[str]:
    """Return every label of a table's rows, in the order in which they occur."""
    names = dict.fromkeys(row[column] for column in ("expected", "found") for row in rows)
    return [name for name in names if name and name != labels.NONE]


def _by_cell(rows: Sequence[Row], cells: Sequence[Row]) -> list[list[Row]]:
    """Return the rows of each of ``cells``."""
    return [[row for row in rows if row["cell_id"] == cell["cell_id"]] for cell in cells]


def _once(name: Sequence[str], index: int) -> Sequence[str]:
    """Return what tells a cell apart on its first line, and nothing on the others."""
    return name if index == 0 else [""] * len(name)


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
