"""One table of text, for the terminal, the page, Markdown and lines.

Pure functions over strings. Where a terminal is too narrow, low-priority columns drop first; the
settings that tell cells apart are stacked into one column, a line each, before an essential one
goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from rich import box
from rich.cells import cell_len
from rich.table import Table as RichTable
from rich.text import Text

from packsweep.errors import printable

WIDE, NARROW = 2, 1  # letters between columns
ESSENTIAL = 2
DOTS = "..."
UNSET = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a table.

    Attributes:
        cells: a text for each row; lines are kept.
        rank: the largest goes first where room is short; 0 always stays, and up to ``ESSENTIAL``
            settings are stacked before it goes.
        axis: a setting, which may be stacked.
        name: what it is called where it is left out; its heading if not given.
        once: the terminal prints it in the first row of a section alone.
        width: letters of its longest line.
    """

    heading: str
    cells: tuple[str | Text, ...]
    rank: int = 0
    left: bool = False
    axis: bool = False
    name: str = ""
    once: bool = False

    width: int = field(init=False)

    def __post_init__(self) -> None:
        """Make its texts printable, and measure it once: there may be thousands of cells."""
        cells = (text if isinstance(text, Text) else printable(text) for text in self.cells)
        object.__setattr__(self, "cells", tuple(cells))
        texts = (self.heading, *map(str, self.cells))
        longest = max(cell_len(line) for text in texts for line in text.split("\n"))
        object.__setattr__(self, "width", max(longest, 1))
        object.__setattr__(self, "name", self.name or _line(self.heading))


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Columns of one length.

    Attributes:
        caption: what it shows, for those who do not see where it stands.
        note: what was left out, or None.
        sections: the rows that end a section.
    """

    columns: tuple[Column, ...]
    caption: str = ""
    note: str | None = None
    sections: tuple[int, ...] = ()

    @property
    def headings(self) -> tuple[str, ...]:
        return tuple(_line(column.heading) for column in self.columns)

    @property
    def rows(self) -> list[tuple[str, ...]]:
        return list(zip(*(map(str, column.cells) for column in self.columns), strict=True))


def of_rows(
    headings: Sequence[str], rows: Sequence[Sequence[str]], *, caption: str = "", text: int = 1
) -> Table:
    """Return a table of ``rows``, its first ``text`` columns set to the left."""
    cells = list(zip(*rows, strict=True)) or [()] * len(headings)
    columns = (
        Column(heading=heading, cells=own, left=index < text)
        for index, (heading, own) in enumerate(zip(headings, cells, strict=True))
    )
    return Table(columns=tuple(columns), caption=caption)


def total(columns: Sequence[Column], gap: int = WIDE) -> int:
    """Return the width of a table of ``columns``, its margins of one letter included."""
    return sum(column.width + gap for column in columns) - gap + 2


def fit(columns: Sequence[Column], width: int) -> tuple[list[Column], int, list[str]]:
    """Return the columns that fit, the letters between them, and the names of those left out."""
    if total(columns) <= width:
        return list(columns), WIDE, []
    essential = [column for column in columns if column.rank <= ESSENTIAL]
    kept = list(columns if total(essential, NARROW) <= width else stacked(columns))
    dropped: set[int] = set()
    while total(kept, NARROW) > width and any(column.rank for column in kept):
        last = max(reversed(kept), key=lambda column: column.rank)
        dropped.add(id(last))
        kept = [column for column in kept if column is not last]
    return kept, NARROW, [column.name for column in columns if id(column) in dropped]


def stacked(columns: Sequence[Column]) -> list[Column]:
    """Return the columns with all settings in one, ``name=value`` on a line each that is set."""
    axes = [column for column in columns if column.axis]
    if len(axes) < 2:  # noqa: PLR2004  (one setting is narrower by itself)
        return list(columns)
    rows = zip(*(axis.cells for axis in axes), strict=True)
    cells = (
        "\n".join(
            f"{axis.name}={text}"
            for axis, text in zip(axes, row, strict=True)
            if str(text) != UNSET
        )
        for row in rows
    )
    one = Column(heading="settings", cells=tuple(cells), left=True)
    first = columns.index(axes[0])
    others = [column for column in columns if not column.axis]
    return [*others[:first], one, *others[first:]]


def ends(table: Table, num_each: int) -> Table:
    """Return the first and the last ``num_each`` rows with a row of dots between them."""
    num_rows = len(table.columns[0].cells)
    columns = (
        replace(column, cells=(*column.cells[:num_each], DOTS, *column.cells[-num_each:]))
        for column in table.columns
    )
    sections = [row for row in table.sections if row < num_each] + [
        row - num_rows + 2 * num_each + 1 for row in table.sections if row >= num_rows - num_each
    ]
    return replace(table, columns=tuple(columns), sections=tuple(sections))


def to_rich(table: Table, width: int) -> tuple[RichTable, list[str]]:
    """Return the table as wide as a terminal, and the names of the columns that had no room."""
    columns, gap, left_out = fit(table.columns, width)
    made = RichTable(
        box=box.SIMPLE_HEAD, padding=(0, gap - 1, 0, 0), pad_edge=False, header_style="bold"
    )
    for column in columns:
        justify: Literal["left", "right"] = "left" if column.left else "right"
        made.add_column(Text(column.heading), justify=justify, overflow="fold")
    first = True
    for index, row in enumerate(zip(*(column.cells for column in columns), strict=True)):
        texts = [
            Text() if column.once and not first else text if isinstance(text, Text) else Text(text)
            for column, text in zip(columns, row, strict=True)
        ]
        first = index in table.sections
        made.add_row(*texts, end_section=first)
    return made, left_out


def to_markdown(table: Table) -> str:
    """Return a table for a page or an issue."""
    rule = ["---" if column.left else "--:" for column in table.columns]
    return "\n".join(_pipes(row) for row in (table.headings, rule, *table.rows)) + "\n"


def _pipes(cells: Sequence[str]) -> str:
    return f"| {' | '.join(_line(cell).replace('|', chr(92) + '|') for cell in cells)} |"


def to_records(table: Table) -> list[str]:
    """Return every row as lines ``name  value``, an empty line between rows."""
    wide = max(len(column.name) for column in table.columns)
    lines: list[str] = []
    for row in table.rows:
        named = zip(table.columns, row, strict=True)
        lines += [*(f"{column.name:{wide}}  {_line(text)}" for column, text in named), ""]
    return lines[:-1]


def _line(text: str) -> str:
    return text.replace("\n", " ")
