"""Which cells of the kept sweep file have no row at all.

The sweep file says what was asked, the rows what was tried. A cell's id needs the model and the
texts, which need not be on this machine, so cells are matched by their values.
"""

from __future__ import annotations

import itertools
import json
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from packsweep.analysis import axes
from packsweep.errors import SpecError
from packsweep.report.cell import strategy
from packsweep.results.schema import Row
from packsweep.sweep import cells as sweep_cells
from packsweep.sweep import read as sweep_read
from packsweep.sweep import spec

_OVERRIDE = "# --set "
# What tells cells of one sweep apart, engine settings aside.
_KEYS = (*axes.WORK, "prompt_type", "repeats", "model", "load_format", "engine")
_SETTINGS = ("engine_settings", "simulated_settings")
COLUMNS = (*_KEYS, *_SETTINGS)
Key = tuple[str, ...]


def overrides(text: str) -> list[str]:
    """Return the ``--set`` values that ``packsweep run`` noted below the sweep file."""
    below = itertools.takewhile(
        lambda line: line.startswith(_OVERRIDE), reversed(text.splitlines())
    )
    return [line.removeprefix(_OVERRIDE) for line in below][::-1]


def read(text: str) -> spec.Sweep:
    """Return the sweep that was run.

    Raises:
        SpecError: the text is no sweep file of this version.
    """
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"sweep.toml: is not valid TOML: {error}") from None
    return sweep_read.parse(values, where="sweep.toml", overrides=overrides(text))


def names(sweep: spec.Sweep, passes: Iterable[Row]) -> list[str]:
    """Return a line for each cell of ``sweep`` that has no row among ``passes``.

    Args:
        sweep: what was asked.
        passes: a row for each cell and replicate, whatever its outcome.
    """
    asked = {_key(each): each for each in sweep_cells.axis_values(sweep)}
    tried: Counter[Key] = Counter()
    for row in passes:
        unpacked = _unpacked(row)
        # The file may leave the length to the model; the row always has one.
        tried.update({_key(unpacked), _key(unpacked, own_length=True)})
    return [
        _line(values, tried[key]) for key, values in asked.items() if tried[key] < _wanted(values)
    ]


def _wanted(values: Mapping[str, Any]) -> int:
    return int(values["replicates"])


def _line(values: Mapping[str, Any], num_tried: int) -> str:
    name = f"{strategy(values)} n={values['n']} dup={values['duplication']}"
    name += f" {values['cache_state']} {values['instruction']} {values['template']}"
    name += f" {values['answer']}" + (" tokens" if values["prompt_type"] == "tokens" else "")
    wanted = _wanted(values)
    return name if wanted == 1 else f"{name}: {wanted - num_tried} of {wanted} replicates"


def _key(values: Mapping[str, Any], *, own_length: bool = False) -> Key:
    settings = dict(values["engine_settings"])
    if own_length:
        settings["max_model_len"] = None
    parts: Sequence[Any] = (settings, values["simulated_settings"])
    shown = (json.dumps(part, sort_keys=True) for part in parts)
    return (*(str(values[name]) for name in _KEYS), *shown)


def _unpacked(row: Row) -> dict[str, Any]:
    """Return a row's values as the sweep file has them."""
    settings = {name: json.loads(row[name]) for name in _SETTINGS}
    return {**row, **settings}
