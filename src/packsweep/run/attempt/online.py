"""An online cell: timed windows in which requests arrive at a server."""

from __future__ import annotations

import time
from dataclasses import replace

from packsweep import engines
from packsweep.engines import PassResult, external
from packsweep.engines.server import Server, wait_until_idle
from packsweep.errors import EngineError
from packsweep.machine.sampler import Conditions, ConditionSampler, NullSampler
from packsweep.models.resolve import Model
from packsweep.models.tokenizer import load as load_tokenizer
from packsweep.run.attempt import gpus
from packsweep.run.attempt.log import say
from packsweep.run.attempt.state import Attempt
from packsweep.run.measure import window_metrics, windows
from packsweep.run.measure.windows import Driven, NothingArrivesError, Step, Windows
from packsweep.run.measure.workload import Workload


def check_kept_server(attempt: Attempt) -> None:
    """Give up a kept server that is not as it was after its start; then another is started."""
    server = attempt.kept.server
    if server is None:
        return
    try:
        server.check()
        wait_until_idle(server)
        if attempt.task.cell.cache_state != "off":
            server.reset_prefix_cache()
    except EngineError as error:
        say(f"the shared server is replaced: {error}")
        attempt.kept.server = None
        server.close()


def measure(attempt: Attempt, model: Model, workload: Workload) -> None:
    """Start a server or take the kept one, drive the windows, and stop or keep it."""
    key = external.api_key(attempt.task.api_key_env)
    server = _started(attempt, model, key)
    try:
        attempt.engine_runs(server.info)
        _drive_windows(attempt, server, _windows(attempt, server, model, workload, key))
    except BaseException as error:
        # A window that does not count is no fault of the server.
        lives = isinstance(error, EngineError) and error.outcome == "invalid"
        _part_from(attempt, server, keep=lives)
        raise
    _part_from(attempt, server, keep=True)


def _started(attempt: Attempt, model: Model, key: str | None) -> Server:
    attempt.clock.enter("engine_start")
    server = attempt.kept.server
    if server is not None:
        attempt.share()
        return server
    attempt.kept.warmed.clear()
    return engines.start_server(attempt.task.cell, model, key)


def _part_from(attempt: Attempt, server: Server, *, keep: bool) -> None:
    """Keep a server for the next cell where cells share one, else stop it."""
    keeps = keep and attempt.task.cell.isolation == "engine"
    attempt.kept.server = server if keeps else None
    if keeps:
        attempt.keep_log()
    else:
        gpus.stop(attempt, server)


def _windows(
    attempt: Attempt, server: Server, model: Model, workload: Workload, key: str | None
) -> Windows:
    timeout_s = windows.timeout_s(attempt.task.cell, attempt.task.limits.pass_timeout_s)
    target = windows.target_of(server, key, timeout_s)
    return Windows(server, workload, load_tokenizer(model), attempt.folder, target)


def _drive_windows(attempt: Attempt, server: Server, driver: Windows) -> None:
    """Drive windows until their course is complete."""
    cell, found = attempt.task.cell, attempt.found
    _warm_up(attempt, server, driver)
    course = windows.course(cell)
    for number, step in enumerate(iter(course.next, None)):
        repeat = len(found.passes)
        attempt.announce(f"pass {number}", "cache")
        earlier = _set_cache_state(cell.cache_state, server, driver)
        attempt.clock.enter("between")
        sampler = gpus.sampler(attempt)
        try:
            driven = _drive(attempt, driver, repeat, step, sampler)
        except NothingArrivesError as error:
            course.pass_over(error)
            continue
        server.check()
        doubts = window_metrics.doubts(cell, driven)
        if doubts:
            say(f"window {number} does not count: {'; '.join(doubts)}")
        if not doubts or not course.leaves_out:
            _keep_window(attempt, repeat, earlier, driven, sampler.conditions())
        course.tell(driven, doubts)
    found.course = course.result()


def _warm_up(attempt: Attempt, server: Server, driver: Windows) -> None:
    """Warm a server up; one that was warmed with the same prompts is warm."""
    attempt.announce("warmup", "warmup")
    warmed = attempt.task.cell.warmup_passes, attempt.task.cell.prompts_sha256
    for _ in range(0 if warmed in attempt.kept.warmed else warmed[0]):
        driver.warm_up()
        server.check()
    attempt.kept.warmed.add(warmed)


def _set_cache_state(state: str, server: Server, driver: Windows) -> list[PassResult]:
    """Put the server's cache into the cell's state; return the passes that are in it."""
    if state == "off":
        return []
    if state == "cold":
        server.reset_prefix_cache()
        return []
    return [driver.prime()]


def _drive(
    attempt: Attempt,
    driver: Windows,
    repeat: int,
    step: Step,
    sampler: ConditionSampler | NullSampler,
) -> Driven:
    """Drive a timed window; nobody waits for its end where the last answer came before it."""
    began = time.perf_counter()
    with sampler:
        driven = driver.drive(repeat, step)
    spent_s = time.perf_counter() - began
    attempt.clock.carve("passes", min(driven.window.ended_s, spent_s))
    return driven


def _keep_window(
    attempt: Attempt,
    repeat: int,
    earlier: list[PassResult],
    driven: Driven,
    conditions: Conditions,
) -> None:
    """Keep the values of a window, and refuse one that is not as asked."""
    context, found = attempt.context(), attempt.found
    assert context is not None, "a window comes from a started server"
    own = replace(context, workload=driven.workload)
    answered = window_metrics.answered(own, driven)
    values = window_metrics.row(own, repeat, driven, answered, conditions)
    found.passes.append(values)
    found.requests.extend(window_metrics.request_values(repeat, driven, answered))
    problem = window_metrics.problem(own, earlier, driven, answered)
    if problem:
        raise EngineError(f"repeat {repeat}: {problem}", outcome="invalid")
    for kind, detail in window_metrics.details(driven.window).items():
        say(f"repeat {repeat}: {kind}: {detail}")
    if not window_metrics.whole(answered) and not _has_answered(attempt):
        raise EngineError(
            f"repeat {repeat}: no request completed: {', '.join(values['errors'])}; "
            f"the first: {driven.window.responses[0].detail}"
        )


def _has_answered(attempt: Attempt) -> bool:
    """Tell whether a search has seen answers: then none at a higher rate is what it is for."""
    searches = attempt.task.cell.load.max_rate is not None
    return searches and any(values["num_requests"] for values in attempt.found.passes)
