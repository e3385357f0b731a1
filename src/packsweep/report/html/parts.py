"""What a page is made of: figures, listings and sections, as values.

What is too long for a page is condensed here, and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from packsweep.report.tables import table
from packsweep.report.tables.table import Table
from packsweep.results.schema import Row

T = TypeVar("T")

MAX_ROWS = 100  # of a table
MAX_MARKS = 40  # rows of a chart that has a row for each cell
MAX_PANELS = 6  # charts of one kind
MAX_POINTS = 200  # of one curve chart


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A chart with its data.

    Attributes:
        described: what it shows in a sentence, for those who do not see it.
        spec: Vega-Lite.
        notes: what is not drawn, or drawn in another way than expected.
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
        warnings: lines that stand out.
        tables: shown open; ``folded`` are shown when asked for.
    """

    key: str
    title: str
    lines: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    folded: tuple[Table, ...] = ()
    listings: tuple[Listing, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Sections that fold together, under what a reader looks for.

    Attributes:
        hint: what is inside, in a few words.
    """

    key: str
    title: str
    hint: str
    sections: tuple[Section, ...]


def make_table(
    caption: str,
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    text: int = 1,
    most: int = MAX_ROWS,
) -> Table:
    """Return a table of at most ``most`` rows, its first ``text`` columns set to the left."""
    return bounded(table.of_rows(headings, rows, caption=caption, text=text), most)


def bounded(whole: Table, most: int = MAX_ROWS) -> Table:
    """Return the first and last of too many rows, and a note that says so."""
    num_rows = len(whole.rows)
    if num_rows <= most:
        return whole
    half = (most - 1) // 2
    note = f"the first and the last {half} of {num_rows:,} rows; summary.csv has all cells"
    return replace(table.ends(whole, half), note=note)


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


def grouped(rows: Sequence[Row], key: Callable[[Row], T]) -> dict[T, list[Row]]:
    """Return the rows of each key, keys in the order in which they appear."""
    members: dict[T, list[Row]] = {}
    for row in rows:
        members.setdefault(key(row), []).append(row)
    return members
