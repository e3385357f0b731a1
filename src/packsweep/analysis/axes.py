"""What tells cells apart: the columns of the work, the settings, and what follows from others."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence

from packsweep.results.schema import Row

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
    "format": ("output_tokens_per_text",),
    "label_form": ("output_tokens_per_text",),
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
    from packsweep.sweep.spec import DEFAULTS

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
