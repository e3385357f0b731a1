"""An offline cell: timed passes over its requests, on an engine in this process."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence

from packsweep import engines
from packsweep.engines import Engine, PassResult, Request
from packsweep.errors import EngineError
from packsweep.machine.sampler import Conditions, ConditionSampler, NullSampler
from packsweep.models.resolve import Model
from packsweep.results import schema
from packsweep.run.attempt import gpus
from packsweep.run.attempt.log import say
from packsweep.run.attempt.state import Attempt
from packsweep.run.measure import checks, metrics
from packsweep.run.measure.workload import Workload


def measure(attempt: Attempt, model: Model, workload: Workload) -> None:
    """Start an engine or take the kept one, run the passes, and stop or keep it."""
    engine = _started(attempt, model)
    attempt.kept.engine = None
    try:
        attempt.engine_runs(engine.info)
        _run_passes(attempt, engine, workload)
    except BaseException:
        gpus.stop(attempt, engine)
        raise
    if attempt.task.cell.isolation != "engine" or not _keep(attempt, engine):
        gpus.stop(attempt, engine)


def _started(attempt: Attempt, model: Model) -> Engine:
    attempt.clock.enter("engine_start")
    engine = attempt.kept.engine
    if engine is not None:
        attempt.share()
        return engine
    engine = engines.start(attempt.task.cell, model)
    attempt.clock.carve("import", engine.info.import_s)
    return engine


def _run_passes(attempt: Attempt, engine: Engine, workload: Workload) -> None:
    cell, found = attempt.task.cell, attempt.found
    attempt.announce("warmup", "warmup")
    for _ in range(cell.warmup_passes):
        engine.run(workload.warmup)
    for repeat in itertools.count():
        if not metrics.is_due(cell, repeat, [values["duration_s"] for values in found.passes]):
            break
        attempt.announce(f"pass {repeat}", "cache")
        earlier = _set_cache_state(cell.cache_state, engine, workload.requests)
        attempt.clock.enter("between")
        sampler = gpus.sampler(attempt)
        result = _timed(attempt, engine, workload.requests, sampler)
        _keep_pass(attempt, repeat, [*earlier, result], sampler.conditions())
    attempt.announce("tokenize", "tokenize_probe")
    tokenize_s = engine.tokenize([request.text for request in workload.requests])
    for values in found.passes:
        values["tokenize_s"] = tokenize_s


def _set_cache_state(state: str, engine: Engine, requests: Sequence[Request]) -> list[PassResult]:
    """Put the cache into the cell's state; return the passes that are in it."""
    if state == "off":
        return []
    engine.reset_prefix_cache()
    return [engine.run(requests)] if state == "primed" else []


def _timed(
    attempt: Attempt,
    engine: Engine,
    requests: Sequence[Request],
    sampler: ConditionSampler | NullSampler,
) -> PassResult:
    """Run a timed pass; its window alone counts as such, what the engine does around it not."""
    began = time.perf_counter()
    result = engine.run(requests, sampler)
    # A simulated engine computes its duration, which is then no wall clock.
    is_computed = attempt.task.cell.engine == schema.SIMULATED
    spent_s = time.perf_counter() - began if is_computed else result.duration_s
    attempt.clock.carve("passes", spent_s)
    return result


def _keep_pass(
    attempt: Attempt, repeat: int, passes: Sequence[PassResult], conditions: Conditions
) -> None:
    """Keep the values of the last of ``passes``, and refuse one that is not as asked."""
    context, found = attempt.context(), attempt.found
    assert context is not None, "a pass comes from a started engine"
    answered = metrics.answered(context, passes)
    found.passes.append(metrics.pass_row(context, repeat, passes[-1], answered, conditions))
    found.requests.extend(
        metrics.request_values(repeat, index, item) for index, item in enumerate(answered)
    )
    problem = checks.disagreement(attempt.task.cell, answered)
    if problem:
        raise EngineError(f"repeat {repeat}: {problem}", outcome="invalid")


def _keep(attempt: Attempt, engine: Engine) -> bool:
    """Put the engine back into the state in which it started, for the next cell.

    False where that fails: what was measured counts, but nobody else gets this engine.
    """
    attempt.announce("stop", "stop")
    try:
        if attempt.task.cell.cache_state != "off":
            engine.reset_prefix_cache()  # which it refuses where a request is left
    except EngineError as error:
        say(f"the shared engine is discarded: {error}")
        return False
    attempt.kept.engine = engine
    attempt.keep_log()
    return True
