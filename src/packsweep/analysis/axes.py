"""What tells cells apart: the columns of the work, the settings, and what follows from others."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

from packsweep.results import schema
from packsweep.results.schema import Row
from packsweep.sweep.spec import DEFAULTS

# How an answer is written, and how much of a text is sent.
HOW = ("format", "label_form", "text_max_tokens", "text_keep", "text_markup")
WORK = (
    "strategy",
    "n",
    "pack_size",
    "duplication",
    "duplication_order",
    "instruction",
    "template",
    "answer",
    *HOW,
    "task",
    "output_tokens_per_text",
    "cache_state",
    "ignore_eos",
)
# Columns of a cell by the keys of the sweep file.
SETTINGS = {
    "prompt_type": "grid.prompt_type",
    "task_settings": "task",
    "model": "model.name",
    "model_revision": "model.revision",
    "tokenizer": "model.tokenizer",
    "load_format": "model.load_format",
    "model_fingerprint": "model_fingerprint",
}
JSON_SETTINGS = {"engine_settings": "engine", "simulated_settings": "simulated"}
FOLLOWS = "engine.enable_prefix_caching"  # from cache_state, which is in WORK
# How is asked and with what it is computed: what may differ where settings are compared. A name
# -> those that change with it and are told only where it does not.
FOLLOWING = {
    "model": ("model_revision", "tokenizer", "load_format", "model_fingerprint"),
    "answer": ("output_tokens_per_text", "ignore_eos"),
}
ASKED = (
    "model",
    "instruction",
    "template",
    "answer",
    *HOW,
    "prompt_type",
    *itertools.chain(*FOLLOWING.values()),
)
MAY_DIFFER = frozenset({*ASKED, "replicate", "prompts_sha256", "engine_settings"})
# What says how often and over how many texts a cell was measured, and how its cache was: nothing of
# it changes what an answer should be. In the strategy ``packed`` n is the size of a prompt.
_NOT_ASKED = frozenset(
    {
        "n",
        "duplication",
        "duplication_order",
        "cache_state",
        "repeats",
        "max_repeats",
        "stop_at_half_width",
        "replicate",
        "warmup_passes",
        "sample_conditions",
        "texts_sha256",
        "prompts_sha256",
        "engine_settings",
    }
)
_NAMED_SETTINGS = (
    "model",
    "instruction",
    "template",
    "answer",
    *HOW,
    "prompt_type",
    "cache_state",
    "duplication_order",
)


def way_of_asking(cell: Row) -> tuple[Any, ...]:
    """Return what cells share that put the same question in the same way to the same engine."""
    settings = json.loads(cell["engine_settings"])
    settings.pop("enable_prefix_caching", None)
    names = [column.name for column in schema.CELL if column.name not in _NOT_ASKED]
    num_packed = cell["n"] if cell["strategy"] == "packed" else None
    return (num_packed, json.dumps(settings, sort_keys=True), *(cell.get(name) for name in names))


def asked_and_set(cell: Row) -> dict[str, str]:
    """Return how a cell asks and its engine's settings, as text."""
    asked = {name: cell[name] for name in ASKED}
    return {
        name: str(value) for name, value in (asked | json.loads(cell["engine_settings"])).items()
    }


def plainness(settings: Mapping[str, str]) -> tuple[int, list[tuple[float, str]]]:
    """Return what sorts the plainest first: how many values are unusual, then the values."""
    unusual = sum(DEFAULTS.get(name) != value for name, value in settings.items())
    numbers = {value: float(value) for value in settings.values() if value.isdecimal()}
    return unusual, [(numbers.get(value, 0.0), value) for _, value in sorted(settings.items())]


def varying(cells: Sequence[Row], *, but: Sequence[str] = ()) -> dict[str, list[str]]:
    """Return the settings that are not the same in all cells: name -> one value per cell.

    ``but`` names settings that are told elsewhere.
    """
    known = {name: [str(cell[name]) for cell in cells] for name in _NAMED_SETTINGS}
    known |= _settings(cells)
    return {
        name: values for name, values in known.items() if len(set(values)) > 1 and name not in but
    }


def unusual(varied: Mapping[str, Sequence[str]], index: int) -> dict[str, str]:
    """Return what ``varying`` holds of one cell, without the values that a sweep file may omit."""
    return {
        name: values[index]
        for name, values in varied.items()
        if values[index] != DEFAULTS.get(name)
    }


def _settings(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Return the engine settings of all cells: name -> one value per row."""
    parsed = [
        json.loads(row["engine_settings"]) | json.loads(row["simulated_settings"]) for row in rows
    ]
    names = sorted({name for values in parsed for name in values} - {"enable_prefix_caching"})
    return {name: [str(values.get(name)) for values in parsed] for name in names}
