"""Which engine processes were timed while another engine was timed on the same host."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from packsweep.analysis.frames import plain_rows
from packsweep.results.schema import Row

if TYPE_CHECKING:
    import pandas as pd

# Of an attempt, in order: what comes before its timed passes, and what lies between their ends.
_BEFORE = ("check_s", "resolve_s", "import_s", "engine_start_s", "warmup_s")
_TIMED = ("cache_s", "passes_s", "between_s")
_COLUMNS = ("attempt_id", "hostname", "started_at", *_BEFORE, *_TIMED)


def of(passes: pd.DataFrame) -> frozenset[str]:
    """Return the attempts among all ``passes`` that were timed beside another one of their host."""
    attempts = passes.drop_duplicates("attempt_id").reindex(columns=list(_COLUMNS))
    hosts: dict[str, list[_Span]] = {}
    for row in plain_rows(attempts):
        if row["hostname"] is not None and row["passes_s"] is not None:
            hosts.setdefault(row["hostname"], []).append(_span(row))
    return frozenset(itertools.chain.from_iterable(_overlapping(each) for each in hosts.values()))


_Span = tuple[datetime, datetime, str]


def _span(row: Row) -> _Span:
    """Return from when to when an attempt was timed, and its id."""
    before, timed = (sum(row[name] or 0.0 for name in names) for names in (_BEFORE, _TIMED))
    began = row["started_at"] + timedelta(seconds=before)
    return began, began + timedelta(seconds=timed), row["attempt_id"]


def _overlapping(spans: list[_Span]) -> Iterator[str]:
    """Yield the attempts whose time has a part in common with another one's."""
    spans.sort()
    latest: _Span | None = None
    for span in spans:
        if latest is not None and span[0] < latest[1]:
            yield from (latest[2], span[2])
        if latest is None or span[1] > latest[1]:
            latest = span
