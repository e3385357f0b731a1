"""The tables of ``show --time``: where the wall clock of every cell went, in shares of it.

Three tables, from the whole to the part: the attempt, the engine's start within it as far as vLLM's
log tells, and one timed pass within it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from packsweep.report.cells_table import cell_columns
from packsweep.report.columns import ESSENTIAL, Shown
from packsweep.report.format import number, percent
from packsweep.results import schema

Row = Mapping[str, Any]
_PASS = ("before_engine_s", "prefill_span_s", "decode_span_s", "after_engine_s")


def tables(rows: Sequence[Row]) -> list[list[Shown]]:
    """Return the columns of each table, of the cells that were measured; empty ones are left out.

    Where room is short, the part that is smallest in all cells goes first.
    """
    measured = [row for row in rows if row["outcome"] == "ok"]
    parts = [
        ("attempt", "wall_s", [column.name for column in schema.WALL]),
        ("engine start", "engine_start_s", [column.name for column in schema.ENGINE_START]),
        ("pass", "duration_s_median", list(_PASS)),
    ]
    return [
        [*cell_columns(measured), *_parts(measured, title, whole, known)]
        for title, whole, names in parts
        if (known := [name for name in names if any(row[name] is not None for row in measured)])
    ]


def _parts(rows: Sequence[Row], title: str, whole: str, names: Sequence[str]) -> list[Shown]:
    seconds = tuple(number(row[whole]) for row in rows)
    shares = {name: [_share(row[name], row[whole]) for row in rows] for name in names}
    by_size = sorted(names, key=lambda name: max(each or 0.0 for each in shares[name]))
    return [
        Shown(heading=f"{title}\ns", cells=seconds),
        *(
            Shown(
                heading=_heading(name),
                cells=tuple(map(percent, shares[name])),
                rank=len(names) - by_size.index(name) + ESSENTIAL,
            )
            for name in names
        ),
    ]


def _heading(name: str) -> str:
    return name.removesuffix("_s").replace("_", "\n")


def _share(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else part / whole
