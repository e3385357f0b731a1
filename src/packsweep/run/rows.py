"""Rows of the results: the columns that an attempt, its cell and its outcome fill.

Shared by the worker, which has measured, and by those that record why nothing was measured, also
of an attempt that the cluster lost.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

from packsweep.engines import EngineInfo
from packsweep.errors import ResultsError
from packsweep.machine import environment, nvml
from packsweep.results import schema
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


def failed(task: Task, outcome: str, reason: str, wall_s: float) -> Status:
    """Write the row of an attempt that ended without one; return how it ended.

    Where the row cannot be written either, the reason says so.
    """
    row = unmeasured(task, outcome, reason) | {"wall_s": wall_s}
    problem = write(task, [row])
    return Status(
        cell_id=task.cell.cell_id,
        attempt_id=task.attempt_id,
        attempt=task.attempt,
        outcome=outcome,
        reason=reason if problem is None else f"{reason}; {problem}",
        unwritten=problem is not None,
        wall_s=wall_s,
        log=task.log,
    )


def write(
    task: Task, passes: Sequence[schema.Row], requests: Sequence[schema.Row] = ()
) -> str | None:
    """Write an attempt's rows; return in words why that was not possible, or None.

    Results that were deleted meanwhile are not made again: what is left would be half a folder.
    """
    try:
        task.store.write(task.cell.cell_id, task.attempt_id, passes, requests)
    except ResultsError as error:
        return f"its row could not be written: {error}"
    return None


def unmeasured(task: Task, outcome: str, reason: str | None) -> dict[str, Any]:
    """Return the row of an attempt that no engine was started for, or that left no word."""
    return {**identity(task, outcome, reason), **environment.describe([])}


def engine_values(info: EngineInfo, gpus: Sequence[nvml.Gpu]) -> dict[str, Any]:
    """Return the columns that a started engine fills."""
    return {
        "engine_resolved": json.dumps(info.resolved),
        "block_size": info.block_size,
        "num_gpu_blocks": info.num_blocks,
        "versions": json.dumps(info.versions),
        "vllm_version": info.versions.get("vllm"),
        "torch_version": info.versions.get("torch"),
        **({} if gpus else {"device": info.device, "num_gpus": info.num_gpus}),
    }


def cell_values(cell: Cell) -> dict[str, Any]:
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
    if task.store.is_done(task.cell.cell_id):
        return replace(committed(task, wall_s), lost=True)
    named = replace(task, attempt_id=f"{task.attempt_id}-lost")
    status = failed(named, outcome, reason, wall_s)
    return replace(status, attempt_id=task.attempt_id, log=task.log, lost=True)


def committed(task: Task, wall_s: float) -> Status:
    """Return how an attempt ended whose result is committed, and which said no more."""
    return Status(
        cell_id=task.cell.cell_id,
        attempt_id=task.attempt_id,
        attempt=task.attempt,
        outcome="ok",
        wall_s=wall_s,
        log=task.log,
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
