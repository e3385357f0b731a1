"""Passes of the simulated engine as a folder would hold them, without processes and files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.fakes import pass_row

from packsweep import engines
from packsweep.models.resolve import Model, resolve
from packsweep.results import schema
from packsweep.run.measure.workload import Workload
from packsweep.sweep import cells as sweep_cells
from packsweep.sweep import expansion, read
from packsweep.sweep.texts import LabelledText

REVIEWS = tuple(LabelledText(text=f"text number {i}", label="positive") for i in range(8))


def passes(*rows: dict[str, Any]) -> list[dict[str, Any]]:
    """Return rows with every column of ``schema.PASSES``, as Arrow reads them."""
    return [dict.fromkeys(column.name for column in schema.PASSES) | row for row in rows]


def simulated(model: Path, *, repeats: int = 3, **tables: Any) -> list[dict[str, Any]]:
    """Return the passes of a simulated sweep, each replicate an engine of its own."""
    values: dict[str, Any] = {
        "model": {"name": str(model), "load_format": "dummy"},
        "grid": {"n": 4, "strategy": "separate"},
        "engine": {"kind": "simulated"},
        "simulated": {},
    }
    for table, changes in tables.items():
        values[table] = {**values.get(table, {}), **changes}
    sweep = read.parse(values, where="simulated.toml")
    found = resolve(str(model), load_format="dummy")
    cells = expansion.expand(sweep, REVIEWS, model_fingerprint="x", max_model_len=1000)
    return passes(*(row for cell in cells for row in _rows(cell, found, repeats)))


def _rows(cell: sweep_cells.Cell, model: Model, repeats: int) -> list[dict[str, Any]]:
    engine, workload = engines.start(cell, model), Workload.of(cell, REVIEWS[: cell.n])
    rows = []
    for repeat in range(repeats):
        engine.reset_prefix_cache()
        duration_s = engine.run(workload.requests).duration_s
        speed = cell.num_texts / duration_s
        row = pass_row(cell, cell.cell_id, duration_s=duration_s, texts_per_s=speed)
        rows.append(row | {"repeat": repeat})
    return rows
