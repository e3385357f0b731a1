"""The tables of ``show`` and ``run``: a line per cell, what varies in columns of its own.

Which columns stay where room is short stands in ``_MEASURED``; any column of the summary, and any
engine setting, can be asked for by name.
"""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.text import Text

from packsweep.analysis import axes as axes_
from packsweep.analysis import selection
from packsweep.report.cell import (
    accuracy,
    attainment,
    several_gpus,
    shown_rate,
    speed,
    strategy,
)
from packsweep.report.format import DASH, OUTCOME_STYLE, count, number, percent, small
from packsweep.report.tables.table import ESSENTIAL, Column, Table
from packsweep.results import schema
from packsweep.results.schema import Row

_NEVER = 99  # the rank of a column that says nothing
_PASS = ("before_engine_s", "prefill_span_s", "decode_span_s", "after_engine_s")
_HEADING_LETTERS = 10
_SHARES = ("mfu", "mbu", "attainment", "cached_share", "coverage", "accuracy", "other_cpu_share")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    """A column with a heading and a format of its own.

    Attributes:
        always: also where no row has it.
        among: the tables that have it, by their rows.
    """

    heading: str
    text: Callable[[Row], str]
    rank: int
    always: bool = True
    among: Callable[[Sequence[Row]], bool] = bool


def _value(name: str, format_: Callable[[float | None], str]) -> Callable[[Row], str]:
    return lambda row: format_(row.get(name))


# In the table's order; the largest rank goes first. Not ``always``: only where some cell has it.
_MEASURED = {
    "requests_per_s": _Measured(
        heading="requests/s", text=_value("requests_per_s_median", number), rank=8
    ),
    "total_tokens_per_s": _Measured(
        heading="total\ntokens/s", text=_value("total_tokens_per_s_median", number), rank=5
    ),
    "output_tokens_per_s": _Measured(
        heading="output\ntokens/s", text=_value("output_tokens_per_s_median", number), rank=9
    ),
    "texts_per_s": _Measured(heading="texts/s\n(95% CI)", text=speed, rank=0),
    "texts_per_s_per_gpu": _Measured(
        heading="texts/s\nper GPU",
        text=_value("texts_per_s_per_gpu", number),
        rank=1,
        always=False,
        among=several_gpus,
    ),
    "cached_share": _Measured(heading="cache\nhit", text=_value("cached_share", percent), rank=3),
    "coverage": _Measured(heading="labels\nfound", text=_value("coverage", percent), rank=6),
    "accuracy": _Measured(heading="accuracy\n(95% CI)", text=accuracy, rank=2),
    "offered_texts_per_s": _Measured(
        heading="offered\ntexts/s",
        text=_value("offered_texts_per_s", number),
        rank=2,
        always=False,
    ),
    "achieved_texts_per_s": _Measured(
        heading="achieved\ntexts/s",
        text=_value("achieved_texts_per_s", number),
        rank=1,
        always=False,
    ),
    "ttft_p99_s": _Measured(
        heading="p99 TTFT\ns", text=_value("ttft_p99_s_median", small), rank=4, always=False
    ),
    "e2e_p99_s": _Measured(
        heading="p99 E2E\ns", text=_value("e2e_p99_s_median", small), rank=0, always=False
    ),
    "attainment": _Measured(heading="SLO\nkept", text=attainment, rank=1, always=False),
    "goodput_texts_per_s": _Measured(
        heading="goodput\ntexts/s",
        text=_value("goodput_texts_per_s_median", number),
        rank=3,
        always=False,
    ),
    "max_rate_pass_texts_per_s": _Measured(
        heading="shown to\nmeet SLO",
        text=lambda row: shown_rate(row, "pass"),
        rank=0,
        always=False,
    ),
    "max_rate_fail_texts_per_s": _Measured(
        heading="shown\nnot to",
        text=lambda row: shown_rate(row, "fail"),
        rank=0,
        always=False,
    ),
    "mfu": _Measured(heading="MFU", text=_value("mfu", percent), rank=4, always=False),
    "mbu": _Measured(heading="MBU", text=_value("mbu", percent), rank=7, always=False),
    "joules_per_1000_texts": _Measured(
        heading="J/1000\ntexts",
        text=_value("joules_per_1000_texts", count),
        rank=7,
        always=False,
    ),
    "usd_per_1000_texts": _Measured(
        heading="$/1000\ntexts",
        text=_value("usd_per_1000_texts", small),
        rank=6,
        always=False,
    ),
}


def summary(rows: Sequence[Row], *, caption: str = "", note: str | None = None) -> Table:
    """Return the table of a sweep."""
    columns = (
        *cell_columns(rows),
        *(
            _measured(name, rows)
            for name, known in _MEASURED.items()
            if known.among(rows) and (known.always or any(_measures(name, row) for row in rows))
        ),
        _outcome(rows),
    )
    return Table(columns=columns, caption=caption, note=note)


def _measures(name: str, row: Row) -> bool:
    """Tell whether a row of the summary has a column, as it is or condensed over repeats."""
    if name.startswith("max_rate_"):
        return row.get("max_rate_verdict") is not None  # that no rate is shown is told as well
    return any(row.get(each) is not None for each in (name, f"{name}_median"))


def chosen(rows: Sequence[Row], words: Sequence[str]) -> Table:
    """Return what tells cells apart, then the columns that a user names.

    Raises:
        ResultsError: there is no such column.
    """
    wide = selection.widened(rows)
    names = [selection.name_of(word, wide, option="--columns") for word in words]
    known = cell_columns(rows)
    there = {column.name for column in known}
    return Table(columns=(*known, *any_columns(names, wide, but=there)))


def any_columns(
    names: Sequence[str], wide: Sequence[Row], *, but: Container[str] = ()
) -> list[Column]:
    """Return columns by their names, settings among them."""
    return [_any_column(name, wide) for name in names if name not in but]


def grouped(rows: Sequence[Row], words: Sequence[str]) -> tuple[list[Row], Table]:
    """Return rows by group, and the columns that name the groups, a section for each.

    Groups stand in the order of their first rows.

    Raises:
        ResultsError: there is no such column.
    """
    wide = selection.widened(rows)
    names = [selection.name_of(word, wide, option="--group-by") for word in words]
    groups: dict[tuple[str, ...], list[int]] = {}
    for index, row in enumerate(wide):
        groups.setdefault(tuple(written(name, row.get(name)) for name in names), []).append(index)
    keys = [key for key, members in groups.items() for _ in members]
    columns = (
        Column(
            heading=heading(name),
            name=name,
            cells=tuple(key[place] for key in keys),
            left=True,
            once=True,
        )
        for place, name in enumerate(names)
    )
    sizes = itertools.accumulate(len(members) for members in groups.values())
    ordered = [rows[index] for members in groups.values() for index in members]
    ends = tuple(end - 1 for end in sizes if end < len(rows))
    return ordered, Table(columns=tuple(columns), sections=ends)


def cell_columns(rows: Sequence[Row]) -> list[Column]:
    """Return the columns that tell cells apart."""
    named = tuple(map(strategy, rows))
    axes = [
        Column(
            heading=heading(name),
            name=name,
            cells=tuple(DASH if each == "None" else each for each in cells),
            left=True,
            axis=True,
        )
        for name, cells in axes_.varying(rows).items()
    ]
    if several_gpus(rows) and not any(column.name in axes_.PARALLEL for column in axes):
        own = tuple(str(axes_.split(row).num_gpus) for row in rows)
        axes.append(Column(heading="GPUs", name="num_gpus", cells=own))
    sizes = [
        Column(heading=short, name=name, cells=tuple(str(row[name]) for row in rows))
        for name, short in (("n", "n"), ("duplication", "dup"))
    ]
    first = Column(heading="strategy", name="strategy", cells=named, left=True)
    return [replace(column, key=True) for column in (first, *axes, *sizes)]


def _measured(name: str, rows: Sequence[Row]) -> Column:
    known = _MEASURED[name]
    cells = tuple(known.text(row) for row in rows)
    rank = _NEVER if set(cells) == {DASH} and known.rank else known.rank
    return Column(heading=known.heading, name=name, cells=cells, rank=rank)


def _outcome(rows: Sequence[Row]) -> Column:
    cells = (Text(row["outcome"], style=OUTCOME_STYLE.get(row["outcome"], "red")) for row in rows)
    return Column(heading="outcome", cells=tuple(cells), left=True)


def _any_column(name: str, wide: Sequence[Row]) -> Column:
    if name == "outcome":
        return _outcome(wide)
    if name in _MEASURED:
        return replace(_measured(name, wide), rank=0)
    values = [row.get(name) for row in wide]
    return Column(
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
        format_ = percent if name.startswith(_SHARES) else small if 0 < abs(value) < 1 else number
        return format_(value)
    return str(value)


def time_tables(rows: Sequence[Row]) -> list[Table]:
    """Return the tables of ``show --time``: where the wall clock went, in shares of it.

    From the whole to the part: the attempt, the engine's start within it as far as vLLM's log
    shows, and one timed pass. They show the cells that were measured; empty ones are left out.
    Where room is short, the part that is smallest in all cells goes first.
    """
    measured = [row for row in rows if row["outcome"] == "ok"]
    parts = [
        ("attempt", "wall_s", [column.name for column in schema.WALL]),
        ("engine start", "engine_start_s", [column.name for column in schema.ENGINE_START]),
        ("pass", "duration_s_median", list(_PASS)),
    ]
    return [
        Table(
            columns=(*cell_columns(measured), *_time_parts(measured, title, whole, known)),
            caption=f"Shares of the {title}",
        )
        for title, whole, names in parts
        if (known := [name for name in names if any(row[name] is not None for row in measured)])
    ]


def _time_parts(rows: Sequence[Row], title: str, whole: str, names: Sequence[str]) -> list[Column]:
    shares = {name: [_share(row[name], row[whole]) for row in rows] for name in names}
    by_size = sorted(names, key=lambda name: max(share or 0.0 for share in shares[name]))
    return [
        Column(heading=f"{title}\ns", cells=tuple(number(row[whole]) for row in rows)),
        *(
            Column(
                heading=name.removesuffix("_s").replace("_", "\n"),
                cells=tuple(map(percent, shares[name])),
                rank=len(names) - by_size.index(name) + ESSENTIAL,
            )
            for name in names
        ),
    ]


def _share(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else part / whole
