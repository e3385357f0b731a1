"""Attempts that the cluster lost: what is recorded of them, and how it is told."""

from __future__ import annotations

from dataclasses import replace

from packsweep.errors import ResultsError
from packsweep.run import rows
from packsweep.run.task import Status, Task


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
        reason=None if committed else rows.write_failed(named, outcome, reason, {"wall_s": wall_s}),
        wall_s=wall_s,
        log=task.log,
        lost=True,
    )


_WHY = {
    "NodeDiedError": "its node died",
    "WorkerCrashedError": "its Ray worker died",
    "LocalRayletDiedError": "its raylet died",
    "TaskCancelledError": "it was cancelled",
    "OutOfMemoryError": "its node ran out of memory and Ray ended it",
}


def told(error: Exception, host: str, phase: str | None) -> str:
    """Return in one line how Ray lost an attempt."""
    cause = getattr(error, "cause", None) or error
    if isinstance(cause, ResultsError):
        return f"{host} does not see the results as the driver does, and every node must: {cause}"
    name = type(cause).__name__
    why = _WHY.get(name) or f"{name}: {' '.join(str(cause).split())[:300]}"
    when = "before it began" if phase is None else f"in phase {phase}"
    return f"Ray lost the attempt on {host} {when}: {why}"
