"""What tells cells apart, by the roles of the columns of ``schema.CELL``: an axis is a row there.

The work is what is asked and how: cells of two folders are paired by it. Settings are what computes
the answers, by the keys of the sweep file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from packsweep.models.architecture.split import Split
from packsweep.results import schema
from packsweep.results.schema import Role, Row
from packsweep.sweep.spec import DEFAULTS, FORMER_SETTINGS
from packsweep.sweep.strategies import STRATEGIES


def names(*roles: Role, as_json: bool = False) -> tuple[str, ...]:
    """Return the columns of a cell that have one of these roles and hold JSON, or do not."""
    return tuple(
        column.name
        for column in schema.CELL
        if column.role in roles and (column.kind == "json") == as_json
    )


_COLUMNS = {column.name: column for column in schema.CELL}
SHAPE = names("shape")
WORK = names("shape", "state", "wording")
SETTINGS = {name: _COLUMNS[name].key for name in names("setting")}
JSON_SETTINGS = {name: _COLUMNS[name].key for name in names("setting", "engine", as_json=True)}
MEASURE = {name: f"measure.{name}" for name in names("measure")}
# Follows from cache_state, which is part of the work.
FOLLOWS = "enable_prefix_caching"
# A name -> those that follow from it and are named only where it is the same.
FOLLOWING = {
    cause: tuple(name for name, column in _COLUMNS.items() if cause in column.follows)
    for cause in dict.fromkeys(follow for column in schema.CELL for follow in column.follows)
}
# The question and what computes the answers: what may differ where settings are compared.
ASKED = names("wording", "setting")
_WAY = ("strategy", "pack_size", *names("wording", "setting", "engine"))
MAY_DIFFER = frozenset(
    {*ASKED, *names("setting", as_json=True), *names("replicate"), *names("prompts")}
)
# Of an axis that a later version added, the value that every cell had before.
FORMER = {
    name: str(column.formerly) for name, column in _COLUMNS.items() if column.formerly is not None
}
_SHOWN_HASH = 6
# What decides how many GPUs an engine has.
PARALLEL = tuple(field.name for field in fields(Split))
# What a table names where it varies, beside the shape and the engine's settings.
NAMED = tuple(name for name in names("state", "wording", "setting") if not _COLUMNS[name].follows)


def settings(cell: Row) -> Mapping[str, Any]:
    """Return the settings of a cell's engine, by name."""
    return _merged(tuple((name, cell[name]) for name in reversed(JSON_SETTINGS) if name in cell))


@lru_cache(maxsize=4096)
def _merged(columns: tuple[tuple[str, str | None], ...]) -> Mapping[str, Any]:
    """Return what columns of JSON hold together; texts that many cells share are read once."""
    parts = (_parsed(name, text) for name, text in columns)
    return MappingProxyType({name: value for part in parts for name, value in part.items()})


def parsed(cell: Row, name: str) -> Mapping[str, Any]:
    """Return what a column of JSON holds, with what ``engine_settings`` leaves out."""
    return _parsed(name, cell[name])


def _parsed(name: str, text: str | None) -> Mapping[str, Any]:
    former = FORMER_SETTINGS if name == "engine_settings" else {}
    return {**former, **schema.parsed(text)}


def split(cell: Row) -> Split:
    """Return among how many GPUs a cell's engine divides the model."""
    return Split.of(settings(cell))


def own_settings(cell: Row) -> dict[str, Any]:
    """Return the settings of a cell's engine without the one that follows from its work."""
    return {name: value for name, value in settings(cell).items() if name != FOLLOWS}


def has_defaults(cell: Row) -> bool:
    """Return whether a cell has of all that ``NAMED`` lists what a sweep file need not say."""
    defaults = DEFAULTS | FORMER
    return all(str(cell[name]) == defaults[name] for name in NAMED if name in defaults)


def way_of_asking(cell: Row) -> tuple[Any, ...]:
    """Return what cells share that put the same question in the same way to the same engine.

    Where a prompt holds as many texts as n says, n is a part of the question.
    """
    num_packed = cell["n"] if STRATEGIES[cell["strategy"]].follows_n else None
    settings_json = json.dumps(own_settings(cell), sort_keys=True)
    return (num_packed, settings_json, *(cell.get(name) for name in _WAY))


def asked_and_set(cell: Row) -> dict[str, str]:
    """Return how a cell asks and its engine's settings, as text."""
    asked = {name: cell[name] for name in ASKED}
    return {name: str(value) for name, value in (asked | own_settings(cell)).items()}


def distance_from_defaults(settings: Mapping[str, str]) -> tuple[int, list[tuple[float, str]]]:
    """Return a sort key: how many values are unusual, then the values."""
    defaults = DEFAULTS | FORMER
    unusual = sum(defaults.get(name) != value for name, value in settings.items())
    numbers = {value: float(value) for value in settings.values() if value.isdecimal()}
    return unusual, [(numbers.get(value, 0.0), value) for _, value in sorted(settings.items())]


def varying(cells: Sequence[Row], *, but: Sequence[str] = ()) -> dict[str, list[str]]:
    """Return the settings that are not the same in all cells: name -> one value per cell.

    Among them ``texts``, the beginning of their hash, where some cells have as many others.
    ``but`` names settings that are named elsewhere.
    """
    known = {name: [str(cell[name]) for cell in cells] for name in NAMED}
    texts = {(cell["n"], cell.get("texts_sha256")) for cell in cells}
    if len(texts) > len({n for n, _ in texts}):
        known["texts"] = [str(cell.get("texts_sha256"))[:_SHOWN_HASH] for cell in cells]
    own = [own_settings(cell) for cell in cells]
    for name in sorted({name for each in own for name in each}):
        known[name] = [str(each.get(name)) for each in own]
    return {
        name: values for name, values in known.items() if len(set(values)) > 1 and name not in but
    }


def unusual(varied: Mapping[str, Sequence[str]], index: int) -> dict[str, str]:
    """Return what ``varying`` holds of one cell, without the values that a sweep file may omit.

    Nor what the cell has no value for, such as a rate where the highest one is looked for.
    """
    return {
        name: values[index]
        for name, values in varied.items()
        if values[index] not in {DEFAULTS.get(name), "None"}
    }
