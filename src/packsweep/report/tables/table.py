"""One table of text, for the terminal, the page, Markdown and lines.

Pure functions over strings. Where a terminal is too narrow, low-priority columns drop first; the
settings that tell cells apart are stacked into one column, a line each, and lines are broken
between words before an essential one goes. No word is ever broken: a table that does not fit
becomes a block of lines for each row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from rich import box
from rich.cells import cell_len
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from packsweep.errors import printable
from packsweep.report.wrap import longest_word, wrapped

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
        key: it tells rows apart, and may stand above them where there is no room beside.
        once: the terminal prints it in the first row of a section alone.
        width: letters of its longest line.
    """

    heading: str
    cells: tuple[str | Text, ...]
    rank: int = 0
    left: bool = False
    axis: bool = False
    name: str = ""
    key: bool = False
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

    @property
    def narrowest(self) -> int:
        """Letters of its longest word; what has a style of its own stays on one line."""
        styled = (text.cell_len for text in self.cells if isinstance(text, Text))
        words = (longest_word(text) for text in self.cells if isinstance(text, str))
        return max(longest_word(self.heading), *styled, *words, 1)

    def wrapped(self, width: int) -> Column:
        """Return the column with its lines broken between words, as wide as ``width``."""
        if width >= self.width:
            return self
        cells = (
            text if isinstance(text, Text) else "\n".join(wrapped(text, width))
            for text in self.cells
        )
        heading = "\n".join(wrapped(self.heading, width))
        return replace(self, heading=heading, cells=tuple(cells))


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
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    caption: str = "",
    text: int = 1,
    ranks: Mapping[str, int] | None = None,
) -> Table:
    """Return a table of ``rows``, its first ``text`` columns set to the left.

    ``ranks`` has the rank of a heading; 0 where it has none.
    """
    cells = list(zip(*rows, strict=True)) or [()] * len(headings)
    columns = (
        Column(
            heading=heading,
            cells=own,
            rank=(ranks or {}).get(heading, 0),
            left=index < text,
            key=index < text,
        )
        for index, (heading, own) in enumerate(zip(headings, cells, strict=True))
    )
    return Table(columns=tuple(columns), caption=caption)


def total(columns: Sequence[Column], gap: int = WIDE) -> int:
    """Return the width of a table of ``columns``, its margins of one letter included."""
    return _total([column.width for column in columns], gap)


def _total(widths: Sequence[int], gap: int) -> int:
    return sum(widths) + gap * (len(widths) - 1) + 2


def fit(columns: Sequence[Column], width: int) -> tuple[list[Column], int, list[str]]:
    """Return the columns that fit, the letters between them, and the names of those left out.

    They are wider than ``width`` where those that stay do not fit even with a word to a line.
    """
    if total(columns) <= width:
        return list(columns), WIDE, []
    kept = list(columns if _essential_fit(columns, width) else stacked(columns))
    dropped: set[int] = set()
    while ranked := [column for column in kept if column.rank]:
        last = max(reversed(ranked), key=lambda column: column.rank)
        needed = total(kept, NARROW) if last.rank > ESSENTIAL else _narrowest_total(kept)
        if needed <= width:
            break
        dropped.add(id(last))
        kept = [column for column in kept if column is not last]
    left_out = [column.name for column in columns if id(column) in dropped]
    return _wrapped(kept, width), NARROW, left_out


def _essential_fit(columns: Sequence[Column], width: int) -> bool:
    """Tell whether a table fits that has only the columns no other has to give way to."""
    return total([column for column in columns if column.rank <= ESSENTIAL], NARROW) <= width


def _narrowest_total(columns: Sequence[Column]) -> int:
    return _total([column.narrowest for column in columns], NARROW)


def _wrapped(columns: Sequence[Column], width: int) -> list[Column]:
    """Return the columns with lines broken between words as far as ``width`` makes it necessary.

    Numbers with an interval stay on one line before texts do.
    """
    widths = [column.narrowest for column in columns]
    room = width - _total(widths, NARROW)
    for index, column in enumerate(columns):
        if not column.left and column.width - widths[index] <= room:
            room -= column.width - widths[index]
            widths[index] = column.width
    growing = [index for index, column in enumerate(columns) if column.left]
    while room > 0 and (growing := [i for i in growing if widths[i] < columns[i].width]):
        widths[min(growing, key=widths.__getitem__)] += 1
        room -= 1
    return [column.wrapped(own) for column, own in zip(columns, widths, strict=True)]


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
    one = Column(heading="settings", cells=tuple(cells), left=True, key=True)
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


def to_rich(table: Table, width: int) -> tuple[list[RenderableType], list[str]]:
    """Return a table as wide as a terminal, and the names of the columns that had no room.

    Where the essential ones have no room, those that are printed once a section stand above it,
    then those that tell rows apart above each. If nothing fits, each row is a block of lines.
    """
    for above in _choices(table.columns, width):
        beside = [column for column in table.columns if column not in above]
        columns, gap, left_out = fit(beside, width)
        if columns and total(columns, gap) <= width:
            return list(_parts(table, columns, above, gap, width)), left_out
    return [Text(), *map(Text, to_records(table, width)), Text()], []


def _choices(columns: Sequence[Column], width: int) -> Iterator[list[Column]]:
    """Yield which columns may stand above their rows: as few as possible first."""
    once = [column for column in columns if column.once]
    if not once or _essential_fit(columns, width):
        yield []
    if once:
        yield once
    yield [column for column in columns if column.key or column.once]
    yield []


class _Row(NamedTuple):
    """A row, and whether it ends a section."""

    cells: Sequence[str | Text]
    ends: bool


def _parts(
    table: Table, columns: Sequence[Column], above: Sequence[Column], gap: int, width: int
) -> Iterator[RenderableType]:
    """Yield the head of a table of ``columns``, then its rows below what stands ``above`` them."""
    yield Text()
    yield _drawn(columns, [], gap, heads=True)
    groups = _groups(table, columns, above)
    for lines, rows in groups:
        yield from (Text(f" {part}") for line in lines for part in wrapped(line, width - 2))
        yield _drawn(columns, rows, gap)
        if rows[-1].ends or rows is groups[-1][1]:
            yield Text()


def _groups(
    table: Table, columns: Sequence[Column], above: Sequence[Column]
) -> list[tuple[list[str], list[_Row]]]:
    """Return the rows that follow each other, below the lines that stand above them."""
    once = [column for column in above if column.once]
    each = [column for column in above if not column.once]
    groups: list[tuple[list[str], list[_Row]]] = []
    first = True
    for index, cells in enumerate(zip(*(column.cells for column in columns), strict=True)):
        named = [_named(once, index) if first else "", _named(each, index)]
        if any(named) or not groups:
            groups.append(([line for line in named if line], []))
        hidden = (column.once and not first for column in columns)
        shown = ["" if hide else cell for hide, cell in zip(hidden, cells, strict=True)]
        first = index in table.sections
        groups[-1][1].append(_Row(shown, ends=first))
    return groups


def _drawn(
    columns: Sequence[Column], rows: Sequence[_Row], gap: int, *, heads: bool = False
) -> RenderableType:
    made = RichTable(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        show_header=heads,
        padding=(0, gap - 1, 0, 0),
        pad_edge=False,
        header_style="bold",
    )
    for column in columns:
        justify: Literal["left", "right"] = "left" if column.left else "right"
        made.add_column(Text(column.heading), justify=justify, width=column.width, no_wrap=True)
    for row in rows:
        texts = (cell if isinstance(cell, Text) else Text(cell) for cell in row.cells)
        made.add_row(*texts, end_section=row.ends)
    return Padding(made, (0, 0, 0, 1), expand=False)


def _named(columns: Sequence[Column], row: int) -> str:
    """Return ``name=value`` for the columns that are set in a row; of one alone its value."""
    values = ((column.name, str(column.cells[row])) for column in columns)
    named = [(name, value) for name, value in values if value != UNSET]
    return " ".join(value if len(named) == 1 else f"{name}={value}" for name, value in named)


def to_markdown(table: Table) -> str:
    """Return a table for a page or an issue."""
    rule = ["---" if column.left else "--:" for column in table.columns]
    return "\n".join(_pipes(row) for row in (table.headings, rule, *table.rows)) + "\n"


def _pipes(cells: Sequence[str]) -> str:
    return f"| {' | '.join(_line(cell).replace('|', chr(92) + '|') for cell in cells)} |"


def to_records(table: Table, width: int) -> list[str]:
    """Return every row as lines ``name  value``, an empty line between rows.

    A setting that a row does not have is left out, and so is what a row leaves empty.
    """
    wide = max(len(column.name) for column in table.columns)
    lines: list[str] = []
    for row in table.rows:
        named = zip(table.columns, row, strict=True)
        for column, text in named:
            if text and not (column.axis and text == UNSET):
                first, *more = wrapped(_line(text), width - wide - 2)
                lines.append(f"{column.name:{wide}}  {first}")
                lines += [f"{'':{wide}}  {part}" for part in more]
        lines.append("")
    return lines[:-1]


def _line(text: str) -> str:
    return text.replace("\n", " ")
