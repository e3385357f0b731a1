"""Columns of text made to fit a width: what is told first stays, what is told last goes.

Pure functions over strings. Where the columns that must stay do not fit either, the settings that
tell cells apart are stacked into one column, a line each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from rich import box
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

WIDE, NARROW = 2, 1  # letters between columns
ESSENTIAL = 2
DOTS = "..."


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One column of a table.

    Attributes:
        cells: a text for each row; lines are kept.
        rank: the largest goes first where room is short; 0 always stays, and up to ``ESSENTIAL``
            settings are stacked before it goes.
        axis: a setting, which may be stacked.
        name: what it is called where it is left out.
        width: letters of its longest line.
    """

    heading: str
    cells: tuple[str | Text, ...]
    rank: int = 0
    left: bool = False
    axis: bool = False
    name: str = ""

    width: int = field(init=False)

    def __post_init__(self) -> None:
        """Measure it once: there may be thousands of cells."""
        texts = (self.heading, *map(str, self.cells))
        longest = max(cell_len(line) for text in texts for line in text.split("\n"))
        object.__setattr__(self, "width", max(longest, 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """Columns that fit, the letters between them, and the names of those left out."""

    columns: tuple[Shown, ...]
    gap: int
    left_out: tuple[str, ...] = ()


def total(columns: Sequence[Shown], gap: int = WIDE) -> int:
    """Return the width of a table of ``columns``, its margins of one letter included."""
    return sum(column.width + gap for column in columns) - gap + 2


def fit(columns: Sequence[Shown], width: int) -> Fitted:
    """Return the columns that fit ``width``, in their order."""
    if total(columns) <= width:
        return Fitted(columns=tuple(columns), gap=WIDE)
    essential = [column for column in columns if column.rank <= ESSENTIAL]
    kept = list(columns if total(essential, NARROW) <= width else stacked(columns))
    dropped: set[int] = set()
    while total(kept, NARROW) > width and any(column.rank for column in kept):
        last = max(reversed(kept), key=lambda column: column.rank)
        dropped.add(id(last))
        kept = [column for column in kept if column is not last]
    left_out = (_name(column) for column in columns if id(column) in dropped)
    return Fitted(columns=tuple(kept), gap=NARROW, left_out=tuple(left_out))


def _line(text: str | Text) -> str:
    return str(text).replace("\n", " ")


def _name(column: Shown) -> str:
    return column.name or _line(column.heading)


def stacked(columns: Sequence[Shown]) -> tuple[Shown, ...]:
    """Return the columns with all settings in one, ``name=value`` on a line each."""
    axes = [column for column in columns if column.axis]
    if len(axes) < 2:  # noqa: PLR2004  (one setting is narrower by itself)
        return tuple(columns)
    lines = zip(
        *([f"{a.name or _line(a.heading)}={text}" for text in a.cells] for a in axes), strict=True
    )
    one = Shown(heading="settings", cells=tuple("\n".join(each) for each in lines), left=True)
    first = columns.index(axes[0])
    others = [column for column in columns if not column.axis]
    return (*others[:first], one, *others[first:])


def ends(columns: Sequence[Shown], num_each: int) -> list[Shown]:
    """Return the first and the last ``num_each`` rows with a row of dots between them."""
    return [
        replace(each, cells=(*each.cells[:num_each], DOTS, *each.cells[-num_each:]))
        for each in columns
    ]


def table(fitted: Fitted, sections: Sequence[int] = ()) -> Table:
    """Return columns as a table; ``sections`` are the rows after which a line is drawn."""
    padding = (0, fitted.gap - 1, 0, 0)
    made = Table(box=box.SIMPLE_HEAD, padding=padding, pad_edge=False, header_style="bold")
    for column in fitted.columns:
        justify: Literal["left", "right"] = "left" if column.left else "right"
        made.add_column(column.heading, justify=justify, overflow="fold")
    for index, row in enumerate(zip(*(column.cells for column in fitted.columns), strict=True)):
        made.add_row(*row, end_section=index in sections)
    return made


def records(columns: Sequence[Shown]) -> list[str]:
    """Return every row as lines ``name  value``, an empty line between rows."""
    names = [_name(column) for column in columns]
    wide = max(map(len, names))
    found: list[str] = []
    for row in zip(*(column.cells for column in columns), strict=True):
        told = map(_line, row)
        found += [*(f"{name:{wide}}  {text}" for name, text in zip(names, told, strict=True)), ""]
    return found[:-1]
