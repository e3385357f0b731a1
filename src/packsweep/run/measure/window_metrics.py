"""The numbers of one window of load, as the column table defines them.

Pure functions: a driven window in, values of ``schema.PASS``, ``schema.WINDOW`` and
``schema.REQUESTS`` out. What a latency is stands in ``packsweep.traffic.latency``.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from typing import Any

from packsweep.engines import PassResult
from packsweep.machine.sampler import Conditions
from packsweep.results import schema
from packsweep.run.measure import checks, metrics
from packsweep.run.measure.metrics import Answered, PassContext
from packsweep.run.measure.windows import Driven
from packsweep.sweep.cells import Cell
from packsweep.traffic import latency, slo, validity
from packsweep.traffic.slo import Slo
from packsweep.traffic.window import Window

_COLUMNS = frozenset(column.name for column in schema.WINDOW)


def row(
    context: PassContext,
    repeat: int,
    driven: Driven,
    answered: Sequence[Answered],
    conditions: Conditions,
) -> dict[str, Any]:
    """Return the columns of a window; speed and labels are those of whole answers."""
    figures = latency.summarize(driven.window, _objective(context.workload.cell))
    values = metrics.pass_values(repeat, driven.result, whole(answered), tokenize_s=None)
    return {
        **values,
        **asdict(conditions),
        **metrics.energy_values(conditions.energy_j, values),
        **{name: value for name, value in figures.items() if name in _COLUMNS},
        **_server(driven),
        "rate_texts_per_s": driven.step.rate_texts_per_s,
        "errors": [f"{kind}:{num}" for kind, num in latency.errors(driven.window).items()],
        "backlog_requests_per_s": _backlog(driven.window),
        "dispatch_delay_p50_s": driven.window.dispatch_delay_p50_s,
        "dispatch_delay_p99_s": driven.window.dispatch_delay_p99_s,
        "client_busy_share": driven.window.busy_share,
    }


def answered(context: PassContext, driven: Driven) -> list[Answered]:
    """Put each request beside its prompt; what the cache serves of one depends on timing."""
    found = metrics.answered(context, [driven.result])
    return [replace(item, expected_cached=None) for item in found]


def whole(answered: Sequence[Answered]) -> list[Answered]:
    """Return the requests that came back without an error."""
    return [item for item in answered if item.result.error is None]


def details(window: Window) -> dict[str, str | None]:
    """Return of each kind of error what was said about the first."""
    failed = [response for response in window.responses if response.error is not None]
    return {str(response.error): response.detail for response in reversed(failed)}


def request_values(
    repeat: int, driven: Driven, answered: Sequence[Answered]
) -> list[dict[str, Any]]:
    """Return the values of ``schema.REQUESTS`` for the requests of a window."""
    return [
        {
            **metrics.request_values(repeat, index, item),
            "arrived_s": response.arrived_s,
            "dispatched_s": response.dispatched_s,
            **{f"{name}_s": of(response) for name, of in latency.LATENCIES.items()},
            "error": response.error,
        }
        for index, (item, response) in enumerate(
            zip(answered, driven.window.responses, strict=True)
        )
    ]


def problem(
    context: PassContext,
    earlier: Sequence[PassResult],
    driven: Driven,
    answered: Sequence[Answered],
) -> str | None:
    """Return what is wrong with a window, with the figures, or None; errors are figures of it."""
    return (
        _other_tokens(driven)
        or checks.disagreement(context.workload.cell, whole(answered))
        or _other_cache(context, earlier, driven)
    )


def doubts(cell: Cell, driven: Driven) -> tuple[str, ...]:
    """Return why a window may have measured its own client, a line each."""
    return validity.doubts(driven.window, _objective(cell))


def _objective(cell: Cell) -> Slo | None:
    return slo.parse(cell.load.slo) if cell.load.slo else None


def _other_tokens(driven: Driven) -> str | None:
    """Return where the server counts other tokens than the sweep's tokenizer, or None."""
    for response, result in zip(driven.window.responses, driven.result.requests, strict=True):
        num = len(result.prompt_token_ids)
        if response.prompt_tokens not in {None, num}:
            return (
                f"request {response.index} has {response.prompt_tokens} prompt tokens by the "
                f"server and {num} by the tokenizer of the sweep: is it another model?"
            )
    return None


def _other_cache(context: PassContext, earlier: Sequence[PassResult], driven: Driven) -> str | None:
    """Return how the prefix cache was in another state than asked, or None.

    Which of two requests under way finds the other's blocks depends on timing, so that a window
    can find fewer than one request after the other would; it can find more only of what was there
    before it.
    """
    state = context.workload.cell.cache_state
    found = [request.cached_tokens for request in driven.result.requests if not request.error]
    observed = sum(known for known in found if known is not None)
    unlimited = replace(context.info, num_blocks=None)
    passes = [*earlier, driven.result]
    expected = metrics.expected_cached(state, passes, unlimited, context.model.kv_layout)
    if None in found or None in expected:
        return None
    most = sum(known for known in expected if known is not None)
    if observed > most:
        return f"cached tokens {observed} observed, at most {most} expected: is not {state}"
    if state != "primed" or observed == most:
        return None
    fits = metrics.expected_cached(state, passes, context.info, context.model.kv_layout)
    if None in fits or len(found) < len(driven.result.requests):
        return None
    return f"cached tokens {observed} observed, {most} expected: is not primed"


def _backlog(window: Window) -> float | None:
    """Return the slope of the requests in flight while they arrived."""
    times_s, numbers = zip(*window.in_flight, strict=True)
    return statistics.linear_regression(times_s, numbers).slope


def _server(driven: Driven) -> dict[str, Any]:
    """Return the server's own figures: means over the window, and what was counted in it."""
    before, after = driven.before, driven.after
    queries = _difference(before.cache_queries, after.cache_queries)
    hits = _difference(before.cache_hits, after.cache_hits)
    preemptions = _difference(before.preemptions, after.preemptions)
    return {
        "server_running": _mean(look.running for look in driven.looks),
        "server_waiting": _mean(look.waiting for look in driven.looks),
        "server_cached_share": None if hits is None or not queries else hits / queries,
        "server_preemptions": None if preemptions is None else int(preemptions),
    }


def _mean(values: Iterable[int | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _difference(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before
