"""The whole life of one attempt at one cell, in a process of its own.

``gpus`` checks that the GPU is free. ``offline`` or ``online`` starts the engine, warms up,
measures, checks what came back and stops the engine. ``record`` writes one Parquet file and commits
it. They share the ``Attempt`` of ``state``. The timed window is the engine's (``engines.vllm``) or
the client's (``traffic``); nothing else happens inside it.
"""

from __future__ import annotations

import traceback
from pathlib import Path

from packsweep.engines import causes
from packsweep.errors import EngineError, PacksweepError
from packsweep.models.tokenizer import load as load_tokenizer
from packsweep.run.attempt import gpus, offline, online
from packsweep.run.attempt.kept import KeptEngine
from packsweep.run.attempt.record import Ending, record
from packsweep.run.attempt.state import Attempt
from packsweep.run.measure import checks
from packsweep.run.measure.workload import Workload, needs_tokenizer
from packsweep.run.task import Status, Task


def run(task: Task, folder: Path, kept: KeptEngine | None = None) -> Status:
    """Measure and commit; whatever goes wrong is a row and a status, never an exception.

    Args:
        task: what to measure.
        folder: where phases are announced.
        kept: what cells of the same session share; it is used, or filled.
    """
    attempt = Attempt(task, folder, kept or KeptEngine())
    ending = _ending(attempt)
    attempt.announce("commit", "record")
    return record(attempt, ending)


def _ending(attempt: Attempt) -> Ending:
    """Measure; this is the one place where any exception becomes an outcome."""
    try:
        _measure(attempt)
    except EngineError as error:
        traceback.print_exc()
        return _diagnosed(attempt, error)
    except PacksweepError as error:
        traceback.print_exc()
        return Ending("crashed", checks.one_line(str(error)))
    except Exception as error:  # noqa: BLE001  (any failure of a cell is a row of the sweep)
        traceback.print_exc()
        return Ending("crashed", checks.one_line(f"{type(error).__name__}: {error}"))
    return Ending()


def _measure(attempt: Attempt) -> None:
    attempt.announce("check", "check")
    online.check_kept_server(attempt)
    gpus.take(attempt)
    attempt.announce("start", "resolve")
    task, found = attempt.task, attempt.found
    found.model = task.resolve_model()
    tokenizer = load_tokenizer(found.model) if needs_tokenizer(task.cell) else None
    found.workload = Workload.of(task.cell, task.texts, task.chat, tokenizer)
    way = online if task.cell.mode == "online" else offline
    way.measure(attempt, found.model, found.workload)


def _diagnosed(attempt: Attempt, error: EngineError) -> Ending:
    """Return how a failed engine ends; the engine core's own words are in the log alone."""
    if error.outcome != "crashed":
        return Ending(error.outcome, checks.one_line(str(error)))
    cause = causes.diagnose(str(error), attempt.log.text())
    return Ending(cause.outcome, cause.reason, cause.final)
