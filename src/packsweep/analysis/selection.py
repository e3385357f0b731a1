"""Which rows of a table are wanted, and in which order, by the names of columns.

A name is a column of the table, an engine setting (``max_num_seqs``), or a measured column without
``_median``. Whatever the user misspells is answered with the nearest name.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from packsweep.analysis import axes
from packsweep.errors import ResultsError, nearest
from packsweep.results import schema
from packsweep.results.schema import Row

_ALIASES = {"dup": "duplication", "cache": "cache_state", "outcomes": "outcome"}
_CONDITION = re.compile(r"\s*([\w.-]+)\s*(!=|>=|<=|==|=|<|>)\s*(.*?)\s*")
_ORDERED: dict[str, Callable[[Any, Any], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
_UNDEFINED = frozenset({"null", "none", "-"})
_COLUMNS = {column.name: column for column in (*schema.REQUESTS, *schema.PASSES, *schema.SUMMARY)}


def widened(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Return rows that hold their engine's settings and medians under short names as well."""
    found = []
    for row in rows:
        medians = {
            name: row[f"{name}_median"] for name in schema.MEASURED if f"{name}_median" in row
        }
        found.append({**axes.settings(row), **medians, **row})
    return found


def column(name: str) -> schema.Column | None:
    """Return the definition of a column; None for an engine setting."""
    return _COLUMNS.get(name)


def name_of(word: str, rows: Sequence[Row], *, option: str) -> str:
    """Return the column that a user means.

    Raises:
        ResultsError: there is none; the message names ``option`` and the nearest column.
    """
    known = dict.fromkeys(name for row in rows for name in row)
    plain = word.strip().replace("-", "_").removeprefix("engine.").removeprefix("simulated.")
    name = _ALIASES.get(plain, plain)
    if name in known:
        return name
    near = nearest(name, known)
    hint = f"did you mean {near}?" if near else "docs/METRICS.md names them all"
    raise ResultsError(f"{option}: no column {word!r}; {hint}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """``n>=40``: what a row must fulfil."""

    name: str
    sign: str
    text: str

    def holds(self, row: Row) -> bool:
        """Return whether a row fulfils it; an undefined value is neither more nor less."""
        value = row.get(self.name)
        if self.sign in _ORDERED:
            return value is not None and _ORDERED[self.sign](value, float(self.text))
        return _is(value, self.text) == (self.sign != "!=")


def _is(value: Any, text: str) -> bool:  # noqa: ANN401
    if value is None:
        return text.lower() in _UNDEFINED
    if isinstance(value, bool):
        return str(value).lower() == text.lower()
    if isinstance(value, int | float):
        number = _number(text)
        return number is not None and number == value
    if isinstance(value, list):
        return text in value
    return str(value) == text


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def parse(condition: str, rows: Sequence[Row]) -> Condition:
    """Read one ``--where``.

    Raises:
        ResultsError: it is no condition, or names no column of ``rows``.
    """
    option = f"--where {condition}"
    found = _CONDITION.fullmatch(condition)
    if found is None:
        raise ResultsError(f"{option}: expected NAME=VALUE (or != > >= < <=), e.g. strategy=packed")
    word, sign, text = found.groups()
    name = name_of(word, rows, option=option)
    values = [row[name] for row in rows if row.get(name) is not None]
    numbers = bool(values) and all(isinstance(value, int | float) for value in values)
    if sign in _ORDERED and not numbers and values:
        raise ResultsError(f"{option}: {name} is text; only = and != apply to it")
    wanted = numbers and not isinstance(values[0], bool) and text.lower() not in _UNDEFINED
    if (sign in _ORDERED or wanted) and _number(text) is None:
        raise ResultsError(f"{option}: {name} is a number, and {text!r} is not")
    return Condition(name=name, sign=sign, text=text)


def where(rows: Sequence[Row], conditions: Sequence[str]) -> list[Row]:
    """Return the rows that fulfil all conditions; of several ``=`` on one column, any."""
    parsed = [parse(condition, rows) for condition in conditions]
    equal = [each for each in parsed if each.sign in {"=", "=="}]
    others = [each for each in parsed if each not in equal]
    either = [[each for each in equal if each.name == name] for name in {e.name for e in equal}]
    return [
        row
        for row in rows
        if all(other.holds(row) for other in others)
        and all(any(each.holds(row) for each in same) for same in either)
    ]


def nothing_matches(rows: Sequence[Row], conditions: Sequence[str]) -> str:
    """Say that no row is left, and what values the named columns have."""
    names = dict.fromkeys(parse(condition, rows).name for condition in conditions)
    values = (f"{name} is {', '.join(_values(rows, name))}" for name in names)
    return f"no cell matches {' '.join(conditions)}; here {'; '.join(values)}"


def _values(rows: Sequence[Row], name: str, most: int = 8) -> list[str]:
    known = (row.get(name) for row in rows)
    found = list(dict.fromkeys("null" if value is None else str(value) for value in known))
    return found if len(found) <= most else [*found[:most], "..."]


def sort(rows: Sequence[Row], name: str, *, reverse: bool = False) -> list[Row]:
    """Return rows by a column: best first where it has a best, else the smallest; undefined last.

    Equal rows keep their order.
    """
    known = [row for row in rows if row.get(name) is not None]
    defined = column(name) or column(f"{name}_median")
    best_is_large = defined is not None and defined.larger_is_better is True
    ordered = sorted(known, key=lambda row: _key(row[name]), reverse=best_is_large != reverse)
    return [*ordered, *(row for row in rows if row.get(name) is None)]


def _key(value: Any) -> Any:  # noqa: ANN401
    return value if isinstance(value, int | float) else str(value)
