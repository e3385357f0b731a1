"""Rows of the results: the columns that an attempt, its cell and its outcome fill.

Shared by the worker, which has measured, and by those that record why nothing was measured.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from packsweep.errors import ResultsError
from packsweep.machine import environment
from packsweep.run.task import Task
from packsweep.sweep.cells import Cell


def write_failed(task: Task, outcome: str, reason: str, more: dict[str, Any] | None = None) -> str:
    """Write the row of an attempt that ended without one; return the reason.

    Where the row cannot be written either, the reason says so.
    """
    row = unmeasured(task, outcome, reason) | (more or {})
    try:
        task.store.write(task.cell.cell_id, task.attempt_id, [row], [])
    except ResultsError as error:
        return f"{reason}; its row could not be written: {error}"
    return reason


def unmeasured(task: Task, outcome: str, reason: str | None) -> dict[str, Any]:
    """Return the row of an attempt that no engine was started for, or that left no word."""
    return {**identity(task, outcome, reason), **environment.describe(None)}


def cell_values(cell: Cell) -> dict[str, Any]:
    """Return the columns of ``schema.CELL``."""
    return {
        **asdict(cell),
        "engine_settings": json.dumps(dict(cell.engine_settings)),
        "simulated_settings": json.dumps(dict(cell.simulated_settings)),
    }


def identity(
    task: Task, outcome: str, reason: str | None, started_at: datetime | None = None
) -> dict[str, Any]:
    """Return the columns of ``schema.IDENTITY`` and of the cell."""
    return {
        "cell_id": task.cell.cell_id,
        "group_id": task.cell.group_id,
        "attempt_id": task.attempt_id,
        "attempt": task.attempt,
        "outcome": outcome,
        "reason": reason,
        "started_at": started_at or datetime.now(UTC),
        **cell_values(task.cell),
    }
