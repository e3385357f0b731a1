"""What is not the same around the cells of two results folders.

Settings by the keys of the sweep file, how was measured, what it ran on and with, and what the
engine resolved. Values are gathered over all paired cells of a side, since a comparison is of
folders: a host that measured another cell this time is no difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from packsweep.analysis import axes
from packsweep.analysis.compare.pairing import CellPasses, Pair
from packsweep.results import schema

Values = dict[str, set[str]]
_ENVIRONMENT = tuple(
    column.name
    for column in schema.ENVIRONMENT
    if column.kind != "json" and column.name != "device_memory_bytes"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Something that is not the same around the paired cells; values sorted, ``-`` is undefined."""

    name: str
    a: tuple[str, ...]
    b: tuple[str, ...]


def between(pairs: Sequence[Pair]) -> list[Difference]:
    """Return what differs around the pairs; what tells cells of one folder apart is no difference.

    What the engine resolved is listed where the setting of that name is not listed already.
    """
    named = {_word(name) for pair in pairs for name in pair.axes}
    found: list[Difference] = []
    for gather in (_settings, _measure, _environment, _resolved):
        a, b = (gather([getattr(pair, side) for pair in pairs]) for side in "ab")
        new = [each for each in _unlike(a, b) if _word(each.name) not in named]
        found += new
        named |= {_word(each.name) for each in new}
    return found


def _word(name: str) -> str:
    return name.rpartition(".")[2]


def _unlike(a: Values, b: Values) -> list[Difference]:
    sides = {name: (a.get(name, {"-"}), b.get(name, {"-"})) for name in (*a, *b)}
    return [
        Difference(name=name, a=tuple(sorted(of_a)), b=tuple(sorted(of_b)))
        for name, (of_a, of_b) in sides.items()
        if of_a != of_b
    ]


def _gather(rows: Iterable[Mapping[str, Any]]) -> Values:
    found: Values = {}
    for row in rows:
        for name, value in row.items():
            found.setdefault(name, set()).add("-" if value is None else str(value))
    return found


def _settings(cells: Sequence[CellPasses]) -> Values:
    return _gather(
        {**cell.settings, "prompts_sha256": str(cell.facts["prompts_sha256"])[:12]}
        for cell in cells
    )


def _measure(cells: Sequence[CellPasses]) -> Values:
    return _gather({key: c.facts[name] for name, key in axes.MEASURE.items()} for c in cells)


def _environment(cells: Sequence[CellPasses]) -> Values:
    rows = ({name: row[name] for name in _ENVIRONMENT} for cell in cells for row in cell.ok)
    return _gather(rows) | _of_json(cells, "versions", "version of ")


def _resolved(cells: Sequence[CellPasses]) -> Values:
    return _of_json(cells, "engine_resolved", "resolved.")


def _of_json(cells: Sequence[CellPasses], column: str, prefix: str) -> Values:
    texts = {row[column] for cell in cells for row in cell.ok if row[column]}
    rows = [schema.parsed(text) for text in texts]
    names = {name for row in rows for name in row}
    return _gather({prefix + name: row.get(name) for name in names} for row in rows)
