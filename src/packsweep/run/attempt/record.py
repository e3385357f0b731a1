"""What is left of an attempt: its rows, its commit, its status."""

from __future__ import annotations

import statistics
import traceback
from dataclasses import asdict, dataclass
from typing import Any

from packsweep.engines.start_log import jit_compilations, start_phases
from packsweep.errors import ResultsError
from packsweep.machine import environment
from packsweep.run import rows
from packsweep.run.attempt.state import Attempt
from packsweep.run.task import Status


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ends, before its rows are written."""

    outcome: str = "ok"
    reason: str | None = None
    final: bool = False


def record(attempt: Attempt, ending: Ending) -> Status:
    """Write the attempt's files, commit them if it ended well, and say how it went."""
    task, passes = attempt.task, attempt.found.passes
    unwritten = rows.write(task, _pass_rows(attempt, ending), _request_rows(attempt))
    ended_well = ending.outcome == "ok" and unwritten is None
    if ended_well:
        try:
            task.store.commit(task.cell.cell_id, task.attempt_id)
        except ResultsError as error:
            traceback.print_exc()
            ended_well, unwritten = False, f"its result could not be committed: {error}"
    before = "" if ending.outcome == "ok" else f"{ending.outcome}: {ending.reason}; "
    speeds = [values["texts_per_s"] for values in passes]
    return Status(
        cell_id=task.cell.cell_id,
        attempt_id=task.attempt_id,
        attempt=task.attempt,
        outcome="crashed" if unwritten else ending.outcome,
        reason=f"{before}{unwritten}" if unwritten else ending.reason,
        final=ending.final,
        unwritten=unwritten is not None,
        texts_per_s=statistics.median(speeds) if ended_well else None,
        cached_share=passes[-1]["cached_share"] if ended_well else None,
        wall_s=attempt.phases()["wall_s"] or 0.0,
        log=task.log,
    )


def _pass_rows(attempt: Attempt, ending: Ending) -> list[dict[str, Any]]:
    context, found, log = attempt.context(), attempt.found, attempt.log.text()
    shared = {
        **rows.identity(attempt.task, ending.outcome, ending.reason, attempt.started_at),
        **environment.describe(found.gpus),
        **({"start_method": "shared"} if found.shares else {}),
        **({} if found.info is None else rows.engine_values(found.info, found.gpus)),
        **start_phases(log),
        "jit_compilations": jit_compilations(log, attempt.log.engine_start),
        **({} if context is None else asdict(context.ceiling)),
        "gpu_hour_usd": attempt.task.gpu_hour_usd,
        "memory_returned": found.memory_returned,
        **found.course,
        **attempt.phases(),  # last, so that nothing before it is left out
    }
    return [{**shared, **values} for values in found.passes or [{}]]


def _request_rows(attempt: Attempt) -> list[dict[str, Any]]:
    ids = {"cell_id": attempt.task.cell.cell_id, "attempt_id": attempt.task.attempt_id}
    return [{**ids, **values} for values in attempt.found.requests]
