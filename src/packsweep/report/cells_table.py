"""The tables of ``show`` and ``run``: a line per cell, what varies in columns of its own.

Which columns stay where room is short stands in ``_MEASURED``; any column of the summary, and any
engine setting, can be asked for by name.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.text import Text

from packsweep.analysis import selection
from packsweep.analysis.axes import varying
from packsweep.report.columns import ESSENTIAL, Shown
from packsweep.report.format import (
    DASH,
    OUTCOME_STYLE,
    accuracy,
    count,
    half_width,
    number,
    percent,
    small,
    strategy,
)
from packsweep.results import schema
from packsweep.results.schema import Row

_NEVER = 99  # the rank of a column that says nothing
_PASS = ("before_engine_s", "prefill_span_s", "decode_span_s", "after_engine_s")
_HEADING_LETTERS = 10
_SHARES = ("mfu", "mbu", "cached_share", "coverage", "accuracy", "other_cpu_share")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """A column with a form of its own."""

    heading: str
    written: Callable[[Row], str]
    rank: int
    always: bool = True


def _texts_per_s(row: Row) -> str:
    return number(row["texts_per_s_median"]) + half_width(row, "texts_per_s")


def _value(name: str, written: Callable[[float | None], str]) -> Callable[[Row], str]:
    return lambda row: written(row.get(name))


# In the table's order; the largest rank goes first. Not ``always``: only where some cell has it.
_MEASURED = {
    "requests_per_s": _Known(
        heading="requests\n/s", written=_value("requests_per_s_median", number), rank=8
    ),
    "total_tokens_per_s": _Known(
        heading="total\ntokens/s", written=_value("total_tokens_per_s_median", number), rank=5
    ),
    "output_tokens_per_s": _Known(
        heading="output\ntokens/s", written=_value("output_tokens_per_s_median", number), rank=9
    ),
    "texts_per_s": _Known(heading="texts/s\n(95% CI)", written=_texts_per_s, rank=0),
    "cached_share": _Known(heading="cache\nhit", written=_value("cached_share", percent), rank=3),
    "coverage": _Known(heading="found", written=_value("coverage", percent), rank=6),
    "accuracy": _Known(heading="right\n(95% CI)", written=accuracy, rank=2),
    "mfu": _Known(heading="MFU", written=_value("mfu", percent), rank=4, always=False),
    "mbu": _Known(heading="MBU", written=_value("mbu", percent), rank=7, always=False),
    "joules_per_1000_texts": _Known(
        heading="J/1000\nreviews",
        written=_value("joules_per_1000_texts", count),
        rank=7,
        always=False,
    ),
    "usd_per_1000_texts": _Known(
        heading="$/1000\nreviews",
        written=_value("usd_per_1000_texts", small),
        rank=6,
        always=False,
    ),
}


def summary(rows: Sequence[Row]) -> list[Shown]:
    """Return the columns of the table of a sweep."""
    return [
        *cell_columns(rows),
        *(
            _known_column(name, rows)
            for name, known in _MEASURED.items()
            if known.always or any(row.get(name) is not None for row in rows)
        ),
        _outcome(rows),
    ]


def chosen(rows: Sequence[Row], words: Sequence[str]) -> list[Shown]:
    """Return what tells cells apart, then the columns that a user names.

    Raises:
        ResultsError: there is no such column.
    """
    wide = selection.widened(rows)
    names = [selection.name_of(word, wide, option="--columns") for word in words]
    known = cell_columns(rows)
    there = {column.name for column in known}
    return [*known, *(_any_column(name, wide) for name in names if name not in there)]


def grouped(rows: Sequence[Row], words: Sequence[str]) -> tuple[list[Row], list[Shown], list[int]]:
    """Return rows by group, the columns that name the groups, and the rows that end one.

    Groups stand in the order of their first rows.

    Raises:
        ResultsError: there is no such column.
    """
    wide = selection.widened(rows)
    names = [selection.name_of(word, wide, option="--group-by") for word in words]
    groups: dict[tuple[str, ...], list[int]] = {}
    for index, row in enumerate(wide):
        groups.setdefault(tuple(written(name, row.get(name)) for name in names), []).append(index)
    order = [index for members in groups.values() for index in members]
    keys = [key if index == 0 else None for key, own in groups.items() for index in range(len(own))]
    columns = [
        Shown(
            heading=heading(name),
            name=name,
            cells=tuple("" if key is None else key[place] for key in keys),
            left=True,
        )
        for place, name in enumerate(names)
    ]
    ends = [index - 1 for index, key in enumerate(keys) if key is not None and index]
    return [rows[index] for index in order], columns, ends


def cell_columns(rows: Sequence[Row]) -> list[Shown]:
    """Return the columns that tell cells apart."""
    named = tuple(strategy(row["strategy"], row["pack_size"]) for row in rows)
    axes = [
        Shown(heading=heading(name), name=name, cells=tuple(cells), left=True, axis=True)
        for name, cells in varying(rows).items()
    ]
    sizes = [
        Shown(heading=short, name=name, cells=tuple(str(row[name]) for row in rows))
        for name, short in (("n", "n"), ("duplication", "dup"))
    ]
    return [Shown(heading="strategy", name="strategy", cells=named, left=True), *axes, *sizes]


def _known_column(name: str, rows: Sequence[Row]) -> Shown:
    known = _MEASURED[name]
    cells = tuple(known.written(row) for row in rows)
    rank = _NEVER if set(cells) == {DASH} and known.rank else known.rank
    return Shown(heading=known.heading, name=name, cells=cells, rank=rank)


def _outcome(rows: Sequence[Row]) -> Shown:
    cells = (Text(row["outcome"], style=OUTCOME_STYLE.get(row["outcome"], "red")) for row in rows)
    return Shown(heading="outcome", name="outcome", cells=tuple(cells), left=True)


def _any_column(name: str, wide: Sequence[Row]) -> Shown:
    if name == "outcome":
        return _outcome(wide)
    if name in _MEASURED:
        known = _MEASURED[name]
        cells = tuple(known.written(row) for row in wide)
        return Shown(heading=known.heading, name=name, cells=cells)
    values = [row.get(name) for row in wide]
    return Shown(
        heading=heading(name),
        name=name,
        cells=tuple(written(name, value) for value in values),
        left=any(isinstance(value, str | list) for value in values),
    )


def heading(name: str) -> str:
    """Return a name on lines as short as its words allow."""
    lines = textwrap.wrap(name.replace("_", " "), _HEADING_LETTERS, break_long_words=False)
    return "\n".join(lines)


def written(name: str, value: Any) -> str:  # noqa: ANN401
    """Return the value of any column as text; undefined is a dash."""
    if value is None:
        return DASH
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, int) and not isinstance(value, bool):
        return count(value)
    if isinstance(value, float):
        own = percent if name.startswith(_SHARES) else small if 0 < abs(value) < 1 else number
        return own(value)
    return str(value)


def time_tables(rows: Sequence[Row]) -> list[list[Shown]]:
    """Return the tables of ``show --time``: where the wall clock went, in shares of it.

    From the whole to the part: the attempt, the engine's start within it as far as vLLM's log
    tells, and one timed pass. They show the cells that were measured; empty ones are left out.
    Where room is short, the part that is smallest in all cells goes first.
    """
    measured = [row for row in rows if row["outcome"] == "ok"]
    parts = [
        ("attempt", "wall_s", [column.name for column in schema.WALL]),
        ("engine start", "engine_start_s", [column.name for column in schema.ENGINE_START]),
        ("pass", "duration_s_median", list(_PASS)),
    ]
    return [
        [*cell_columns(measured), *_time_parts(measured, title, whole, known)]
        for title, whole, names in parts
        if (known := [name for name in names if any(row[name] is not None for row in measured)])
    ]


def _time_parts(rows: Sequence[Row], title: str, whole: str, names: Sequence[str]) -> list[Shown]:
    seconds = tuple(number(row[whole]) for row in rows)
    shares = {name: [_share(row[name], row[whole]) for row in rows] for name in names}
    by_size = sorted(names, key=lambda name: max(each or 0.0 for each in shares[name]))
    return [
        Shown(heading=f"{title}\ns", cells=seconds),
        *(
            Shown(
                heading=_time_heading(name),
                cells=tuple(map(percent, shares[name])),
                rank=len(names) - by_size.index(name) + ESSENTIAL,
            )
            for name in names
        ),
    ]


def _time_heading(name: str) -> str:
    return name.removesuffix("_s").replace("_", "\n")


def _share(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else part / whole
