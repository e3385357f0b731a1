"""Rows of the results: the columns that an attempt, its cell and its outcome fill.

Shared by the worker, which has measured, and by those that record why nothing was measured, also
of an attempt that the cluster lost.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

from packsweep.errors import ResultsError
from packsweep.machine import environment
from packsweep.run.task import Status, Task
from packsweep.sweep.cells import Cell

# What Ray raises for an attempt that it lost -> what that means.
_WHY = {
    "NodeDiedError": "its node died",
    "WorkerCrashedError": "its Ray worker died",
    "LocalRayletDiedError": "its raylet died",
    "TaskCancelledError": "it was cancelled",
    "OutOfMemoryError": "its node ran out of memory and Ray ended it",
}


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


def lost(task: Task, outcome: str, reason: str, wall_s: float) -> Status:
    """Record an attempt that went out of sight; a result that it committed stays what it is.

    It may still be running and may commit at this moment, so its own file is left alone: the row
    goes to a file of another name.
    """
    committed = task.store.is_done(task.cell.cell_id)
    named = replace(task, attempt_id=f"{task.attempt_id}-lost")
    return Status(
        cell_id=task.cell.cell_id,
        attempt_id=task.attempt_id,
        attempt=task.attempt,
        outcome="ok" if committed else outcome,
        reason=None if committed else write_failed(named, outcome, reason, {"wall_s": wall_s}),
        wall_s=wall_s,
        log=task.log,
        lost=True,
    )


def describe_loss(error: Exception, host: str, phase: str | None) -> str:
    """Return in one line how Ray lost an attempt on ``host``."""
    cause = getattr(error, "cause", None) or error
    if isinstance(cause, ResultsError):
        return f"{host} does not see the results as the driver does, and every node must: {cause}"
    name = type(cause).__name__
    why = _WHY.get(name) or f"{name}: {' '.join(str(cause).split())[:300]}"
    when = "before it began" if phase is None else f"in phase {phase}"
    return f"Ray lost the attempt on {host} {when}: {why}"
