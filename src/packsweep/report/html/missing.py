"""Which cells of the kept sweep file have no row at all.

The sweep file says what was asked, the rows what was tried. A cell's id needs the model and the
texts, which need not be on this machine, so cells are matched by their values.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from packsweep.analysis import axes
from packsweep.report.cell import strategy
from packsweep.results import schema
from packsweep.results.schema import Row
from packsweep.sweep import cells as sweep_cells
from packsweep.sweep import spec

COLUMNS = tuple(column.name for column in schema.CELL)
Key = tuple[str, ...]


def names(sweep: spec.Sweep, passes: Iterable[Row]) -> list[str]:
    """Return a line for each cell of ``sweep`` that has no row among ``passes``.

    Args:
        sweep: what was asked.
        passes: a row for each cell and replicate, whatever its outcome.
    """
    cells = list(sweep_cells.axis_values(sweep))
    columns = [column for column in COLUMNS if column in cells[0]]
    asked = {_key(each, columns): each for each in cells}
    tried: Counter[Key] = Counter()
    for row in passes:
        unpacked = _unpacked(row)
        # The file may leave the length to the model; the row always has one.
        tried.update({_key(unpacked, columns), _key(unpacked, columns, own_length=True)})
    return [
        _line(values, tried[key]) for key, values in asked.items() if tried[key] < _wanted(values)
    ]


def _wanted(values: Mapping[str, Any]) -> int:
    return int(values["replicates"])


def _line(values: Mapping[str, Any], num_tried: int) -> str:
    name = f"{strategy(values)} n={values['n']} dup={values['duplication']}"
    name += f" {values['cache_state']} {values['instruction']} {values['template']}"
    name += f" {values['answer']}" + (" tokens" if values["prompt_type"] == "tokens" else "")
    added = [each for each in axes.names("wording") if each in axes.FORMER and each in values]
    unusual = (str(values[each]) for each in added if str(values[each]) != axes.FORMER[each])
    name += "".join(f" {value}" for value in unusual)
    wanted = _wanted(values)
    return name if wanted == 1 else f"{name}: {wanted - num_tried} of {wanted} replicates"


def _key(values: Mapping[str, Any], columns: Iterable[str], *, own_length: bool = False) -> Key:
    settings = dict(values["engine_settings"])
    if own_length:
        settings["max_model_len"] = None
    parts = {**values, "engine_settings": settings}
    if values["answer"] != "free":  # what follows from it depends on the model's tokens
        parts |= dict.fromkeys(axes.FOLLOWING["answer"])
    return tuple(json.dumps(parts[name], sort_keys=True) for name in columns)


def _unpacked(row: Row) -> dict[str, Any]:
    """Return a row's values as the sweep file has them."""
    return {**row, **{name: dict(schema.parsed(row[name])) for name in axes.JSON_SETTINGS}}
