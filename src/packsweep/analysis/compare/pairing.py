"""Which cells of two results folders measure the same work, and what differs around them.

A cell is paired by the work it does (``WORK``) and by those settings that vary inside one of the
folders: they are axes there. Settings that are one value in A and another in B are what the
comparison is about, so they belong to no key (``differences`` lists them).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from packsweep.analysis.axes import FOLLOWS, JSON_SETTINGS, SETTINGS, WORK, parsed
from packsweep.errors import ResultsError
from packsweep.results import schema
from packsweep.results.schema import Row
from packsweep.sweep.strategies import STRATEGIES

Key = tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CellPasses:
    """One cell of a folder, its replicates taken together.

    Attributes:
        facts: the columns of ``schema.CELL``, plain.
        settings: sweep-file key -> value, of everything that may be set.
        ok: its timed passes; empty where it failed.
        outcome: ``ok`` where any replicate is.
    """

    group_id: str
    facts: Row
    settings: Mapping[str, Any]
    ok: Sequence[Row]
    outcome: str

    @property
    def slug(self) -> str:
        """The readable part of its id."""
        return self.group_id.rpartition("-")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The same cell in both folders.

    Attributes:
        axes: settings beside the work that tell it from the other cells.
    """

    a: CellPasses
    b: CellPasses
    axes: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """All cells of two folders: the pairs, and those that are in one alone."""

    pairs: tuple[Pair, ...]
    only_a: tuple[CellPasses, ...]
    only_b: tuple[CellPasses, ...]


def pair(a: Sequence[Row], b: Sequence[Row]) -> Pairing:
    """Pair the cells of two folders' passes, rows of ``schema.PASSES``.

    Raises:
        ResultsError: simulated beside real rows, other texts, nothing in common, or several cells
            of one folder that could be meant.
    """
    sides = [_cells(passes) for passes in (a, b)]
    _check_engines(*sides)
    axes = sorted({name for cells in sides for name in _varying(cells)})
    found_a, found_b = (_by_key(cells, axes, side) for cells, side in zip(sides, "AB", strict=True))
    both = sorted((key for key in found_a if key in found_b), key=_grid_order)
    if not both:
        raise ResultsError(_nothing_in_common(sides[0], sides[1], axes))
    pairs = [
        Pair(a=found_a[key], b=found_b[key], axes={n: found_a[key].settings.get(n) for n in axes})
        for key in both
    ]
    _check_reviews(pairs)
    return Pairing(
        pairs=tuple(pairs),
        only_a=tuple(found_a[key] for key in found_a if key not in found_b),
        only_b=tuple(found_b[key] for key in found_b if key not in found_a),
    )


def _cells(passes: Sequence[Row]) -> list[CellPasses]:
    groups: dict[str, list[Row]] = {}
    for row in passes:
        groups.setdefault(row["group_id"], []).append(row)
    return [_cell(name, rows) for name, rows in groups.items()]


def _cell(group_id: str, passes: Sequence[Row]) -> CellPasses:
    ok = tuple(row for row in passes if row["outcome"] == "ok")
    last = (ok or passes)[-1]
    facts = {column.name: last[column.name] for column in schema.CELL}
    return CellPasses(
        group_id=group_id,
        facts=facts,
        settings=_settings(facts),
        ok=ok,
        outcome=last["outcome"],
    )


def _settings(facts: Row) -> dict[str, Any]:
    found = {key: facts[name] for name, key in SETTINGS.items()}
    for name, table in JSON_SETTINGS.items():
        named = parsed(facts, name).items()
        found |= {f"{table}.{key}": value for key, value in named if key != FOLLOWS}
    return found


def _varying(cells: Sequence[CellPasses]) -> set[str]:
    names = {name for cell in cells for name in cell.settings}
    return {name for name in names if len({repr(cell.settings.get(name)) for cell in cells}) > 1}


def _key(cell: CellPasses, axes: Sequence[str]) -> Key:
    return (
        *(cell.facts[name] for name in WORK),
        *(repr(cell.settings.get(name)) for name in axes),
    )


def _grid_order(key: Key) -> tuple[Any, ...]:
    """Return what puts cells into the order of the grid: numbers by size, strategies as named."""
    strategy, *others = key
    return (tuple(STRATEGIES).index(strategy), *((value is not None, value) for value in others))


def _by_key(cells: Sequence[CellPasses], axes: Sequence[str], side: str) -> dict[Key, CellPasses]:
    found: dict[Key, CellPasses] = {}
    for cell in cells:
        other = found.setdefault(_key(cell, axes), cell)
        if other is not cell:
            raise ResultsError(_ambiguous(side, other, cell))
    return found


def _ambiguous(side: str, one: CellPasses, other: CellPasses) -> str:
    differing = [name for name in one.facts if one.facts[name] != other.facts[name]]
    listed = ", ".join(f"{n} ({one.facts[n]} and {other.facts[n]})" for n in differing)
    narrow = f"--where {differing[0]}={other.facts[differing[0]]}" if differing else "--where"
    return (
        f"{side} holds {one.slug} more than once, differing in {listed or 'nothing known'}; "
        f"say which is meant, e.g. {narrow}"
    )


def _check_engines(a: Sequence[CellPasses], b: Sequence[CellPasses]) -> None:
    engines = [{cell.facts["engine"] for cell in cells} for cells in (a, b)]
    if a and b and schema.SIMULATED in engines[0] ^ engines[1]:
        listed = " and ".join(
            f"{side} is {'simulated' if schema.SIMULATED in found else 'measured'}"
            for side, found in zip("AB", engines, strict=True)
        )
        raise ResultsError(f"simulated and real results are never compared: {listed}")


def _check_reviews(pairs: Sequence[Pair]) -> None:
    name = "texts_sha256"
    other = [each for each in pairs if each.a.facts[name] != each.b.facts[name]]
    if other:
        raise ResultsError(
            f"A and B label different texts ({len(other)} of {len(pairs)} cells, e.g. "
            f"{other[0].a.slug}): throughput over different texts cannot be compared; "
            "measure both with the same [texts] source and seed"
        )


def _nothing_in_common(a: Sequence[CellPasses], b: Sequence[CellPasses], axes: list[str]) -> str:
    """Say why: the first columns of which the folders share no value."""
    if not a or not b:
        return f"{'A' if not a else 'B'} holds no cells that this version of packsweep reads"
    listed = []
    for name in (*WORK, *axes):
        values = [{str(_value(cell, name)) for cell in cells} for cells in (a, b)]
        if not values[0] & values[1]:
            listed.append(f"{name} is {_listed(values[0])} in A and {_listed(values[1])} in B")
    return f"A and B have no cell in common: {'; '.join(listed[:3]) or 'no combination is in both'}"


def _value(cell: CellPasses, name: str) -> Any:  # noqa: ANN401
    return cell.facts[name] if name in cell.facts else cell.settings.get(name)


def _listed(values: Iterable[str]) -> str:
    return ", ".join(sorted(values))
