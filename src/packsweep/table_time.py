"""The tables of ``show --time``: where the wall clock of every cell went, in shares of it.

Three tables, from the whole to the part: the attempt, the engine's start within it as far as vLLM's
log tells, and one timed pass within it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table

from packsweep import schema
from packsweep.table import number, percent, strategy

Row = Mapping[str, Any]
_PASS = ("before_engine_s", "prefill_span_s", "decode_span_s", "after_engine_s")


def tables(rows: Sequence[Row]) -> list[Table]:
    """Return the tables of the cells that were measured; one with nothing in it is left out."""
    measured = [row for row in rows if row["outcome"] == "ok"]
    parts = [
        ("attempt", "wall_s", [column.name for column in schema.WALL]),
        ("engine start", "engine_start_s", [column.name for column in schema.ENGINE_START]),
        ("pass", "duration_s_median", list(_PASS)),
    ]
    return [
        _table(measured, title, whole, known)
        for title, whole, names in parts
        if (known := [name for name in names if any(row[name] is not None for row in measured)])
    ]


def _table(rows: Sequence[Row], title: str, whole: str, names: Iterable[str]) -> Table:
    listed = list(names)
    made = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    made.add_column("strategy", no_wrap=True)
    for heading in ("n", "dup", f"{title}\ns", *map(_heading, listed)):
        made.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        made.add_row(
            strategy(row["strategy"], row["pack_size"]),
            str(row["n"]),
            str(row["duplication"]),
            number(row[whole]),
            *(percent(_share(row[name], row[whole])) for name in listed),
        )
    return made


def _heading(name: str) -> str:
    return name.removesuffix("_s").replace("_", "\n")


def _share(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else part / whole
