"""What must hold of what came back.

Pure functions: an answer that is not what was asked makes a cell ``invalid``, with the figures.
"""

from __future__ import annotations

from collections.abc import Sequence

from packsweep.run.measure import scoring
from packsweep.run.measure.metrics import Answered
from packsweep.run.measure.workload import output_limit
from packsweep.sweep.cells import Cell


def disagreement(cell: Cell, answered: Sequence[Answered]) -> str | None:
    """Return what is wrong with a pass, with the figures, or None.

    Every request must have finished without an error and, where lengths are forced, with the
    forced number of tokens; what a grammar constrains must have ended by itself; a constrained
    answer must hold a label for every text; cached tokens must be the expected ones, request by
    request.
    """
    for index, item in enumerate(answered):
        result = item.result
        forced = output_limit(item.prompt, cell)
        if result.error is not None:
            return f"request {index} failed: {one_line(result.error)}"
        if result.finish_reason not in {"length", "stop"}:
            return f"request {index} did not finish (finish_reason {result.finish_reason})"
        if cell.ignore_eos and result.output_tokens != forced:
            return f"request {index} has {result.output_tokens} output tokens, not {forced}"
        if problem := _not_as_asked(cell, item):
            return f"request {index} {problem}"
        if item.expected_cached is not None and result.cached_tokens != item.expected_cached:
            return _cache_disagreement(index, answered)
    return None


def _not_as_asked(cell: Cell, item: Answered) -> str | None:
    """Return in which way an answer is not of the kind that ``cell`` asks for, or None."""
    if cell.answer == "choice":
        return _unconstrained(cell, item)
    if cell.answer == "logprob" and item.result.token_logprobs is None:
        return "came back without log-probabilities"
    return None


def _unconstrained(cell: Cell, item: Answered) -> str | None:
    """Return what is wrong with an answer that could only be labels, or None."""
    result, wanted = item.result, item.prompt.num_texts
    if result.finish_reason != "stop" and not cell.picks_token:
        return f"was cut after {result.output_tokens} output tokens; its answer is constrained"
    labels, surplus = scoring.reader(cell).read(result.text, wanted)
    found = sum(label is not None for label in labels) + surplus
    if found == wanted:
        return None
    return f"holds {found} labels, not {wanted}, though constrained: {one_line(result.text, 60)!r}"


def _cache_disagreement(index: int, answered: Sequence[Answered]) -> str:
    observed = sum(item.result.cached_tokens or 0 for item in answered)
    expected = sum(item.expected_cached or 0 for item in answered)
    first = answered[index]
    return (
        f"cached tokens {observed} observed, {expected} expected in all; first at request {index}:"
        f" {first.result.cached_tokens} observed, {first.expected_cached} expected"
    )


def one_line(text: str, limit: int = 400) -> str:
    """Return ``text`` as one line of at most ``limit`` characters."""
    joined = " ".join(text.split())
    return joined if len(joined) <= limit else joined[: limit - 1] + "…"
