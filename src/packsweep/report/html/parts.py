"""What a report is made of: tables, figures and sections, as values.

What is too long for a page is condensed here, and says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from rich.table import Table as RichTable

from packsweep.analysis import axes
from packsweep.report import format as fmt
from packsweep.report.columns import Shown
from packsweep.results.schema import Row

T = TypeVar("T")

MAX_ROWS = 100  # of a table
MAX_MARKS = 40  # rows of a chart that has a row for each cell
MAX_PANELS = 6  # charts of one kind
MAX_POINTS = 200  # of one curve chart


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of text.

    Attributes:
        caption: what it shows, for those who do not see where it stands.
        numeric: for each column, whether it is set to the right.
        note: what was left out, or None.
    """

    caption: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[bool, ...]
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A chart with its data.

    Attributes:
        described: what it shows in a sentence, for those who do not see it.
        spec: Vega-Lite.
        notes: what is not drawn, or drawn otherwise than one would expect.
    """

    title: str
    described: str
    spec: Mapping[str, Any]
    data: Table
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Text to be read letter for letter, or copied."""

    title: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One question and what answers it, or in ``lines`` why nothing does.

    Attributes:
        key: its anchor in the page.
        tables: shown open; ``folded`` are shown when asked for.
    """

    key: str
    title: str
    lines: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    folded: tuple[Table, ...] = ()
    listings: tuple[Listing, ...] = ()


def make_table(
    caption: str,
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    text: int = 1,
    most: int = MAX_ROWS,
) -> Table:
    """Return a table of at most ``most`` rows, its first ``text`` columns set to the left."""
    shown, note = condensed(rows, most)
    return Table(
        caption=caption,
        headings=tuple(headings),
        rows=tuple(tuple(row) for row in shown),
        numeric=tuple(index >= text for index in range(len(headings))),
        note=note,
    )


def from_rich(made: RichTable, caption: str) -> Table:
    """Return a table of the terminal as a table of the page."""
    told = list(zip(*([_plain(cell) for cell in each.cells] for each in made.columns), strict=True))
    for index in range(1, len(told)):
        told[index] = _filled(told[index], told[index - 1])
    headings = [_plain(column.header) for column in made.columns]
    return _table(caption, headings, told, [column.justify == "right" for column in made.columns])


def from_shown(columns: Sequence[Shown], caption: str, *, note: str | None = None) -> Table:
    """Return the columns of a table of the terminal as a table of the page."""
    told = list(zip(*([_plain(cell) for cell in each.cells] for each in columns), strict=True))
    headings = [column.heading for column in columns]
    made = _table(caption, headings, told, [not column.left for column in columns])
    return made if note is None else replace(made, note=note)


def _table(
    caption: str, headings: Sequence[str], rows: Sequence[tuple[str, ...]], numeric: Sequence[bool]
) -> Table:
    shown, note = condensed(rows, MAX_ROWS)
    return Table(
        caption=caption,
        headings=tuple(heading.replace("\n", " ") for heading in headings),
        rows=tuple(shown),
        numeric=tuple(numeric),
        note=note,
    )


def _filled(row: tuple[str, ...], above: tuple[str, ...]) -> tuple[str, ...]:
    """Return a row with the name that the terminal prints once, on the row above."""
    blank = next((index for index, cell in enumerate(row) if cell), len(row))
    return (*above[:blank], *row[blank:])


def _plain(cell: object) -> str:
    return str(getattr(cell, "plain", cell))


def condensed(rows: Sequence[T], most: int) -> tuple[list[T], str | None]:
    """Return the first and last of too many rows, and a note that says so."""
    if len(rows) <= most:
        return list(rows), None
    half = most // 2
    note = f"the first and the last {half} of {len(rows):,} rows; summary.csv has all cells"
    return [*rows[:half], *rows[-half:]], note


def extremes(rows: Sequence[Row], most: int, *, by: str) -> tuple[list[Row], str | None]:
    """Return the highest and the lowest of too many rows, in their order, and a note."""
    if len(rows) <= most:
        return list(rows), None
    half = most // 2
    ranked = sorted(range(len(rows)), key=lambda index: _rank(rows[index].get(by)), reverse=True)
    kept = sorted([*ranked[:half], *ranked[-half:]])
    word = by.removesuffix("_median").replace("_per_s", "/s")
    note = f"the {half} highest and the {half} lowest {word} of {len(rows):,} cells"
    return [rows[index] for index in kept], f"{note}; summary.csv has all"


def _rank(value: float | None) -> float:
    return float("-inf") if value is None else value


def names(rows: Sequence[Row]) -> dict[str, str]:
    """Return what tells each cell apart in a few words: cell_id -> name, each once.

    A setting that varies is named where it has another value than its default.
    """
    varied = axes.varying(rows)
    several = len({row["duplication"] for row in rows}) > 1
    found = {}
    for index, row in enumerate(rows):
        told = [fmt.strategy(row["strategy"], row["pack_size"]), f"n={row['n']}"]
        told += [f"dup={row['duplication']}"] if several else []
        told += [varied["cache_state"][index]] if "cache_state" in varied else []
        others = axes.unusual(varied, index).items()
        told += [f"{name}={value}" for name, value in others if name != "cache_state"]
        found[str(row["cell_id"])] = " ".join(told)
    taken = Counter(found.values())
    return {
        cell: name if taken[name] == 1 else f"{name} {cell.rpartition('-')[2]}"
        for cell, name in found.items()
    }


def grouped(rows: Sequence[Row], key: Callable[[Row], T]) -> dict[T, list[Row]]:
    """Return the rows of each key, keys in the order in which they appear."""
    found: dict[T, list[Row]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return found
