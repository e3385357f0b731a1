"""Numbers into text, the only place that does. Undefined is a dash, never 0."""

from __future__ import annotations

DASH = "-"
OUTCOME_STYLE = {"ok": "green", "infeasible": "yellow"}


def number(value: float | None) -> str:
    """Return a number with two decimals, as vLLM prints throughput."""
    return DASH if value is None else f"{value:.2f}"


def count(value: float | None) -> str:
    """Return a whole number with thousands separated."""
    return DASH if value is None else f"{round(value):,}"


def exact(value: float | None) -> str:
    """Return a number with six significant digits, for whoever computes with it."""
    return DASH if value is None else f"{value:.6g}"


def percent(value: float | None) -> str:
    """Return a share in per cent."""
    return DASH if value is None else f"{100 * value:.0f}%"


def small(value: float | None) -> str:
    """Return a number with three significant digits, of whatever size."""
    return DASH if value is None else f"{value:.3g}"


def interval(low: float | None, high: float | None) -> str:
    """Return ``[0.94, 0.96]``, with as many decimals as its width and its distance to 1 need."""
    if low is None or high is None:
        return DASH
    near_one = any(0 < abs(end - 1) < 0.005 for end in (low, high))  # noqa: PLR2004
    digits = 4 if near_one else 3 if high - low < 0.05 else 2  # noqa: PLR2004
    return f"[{low:.{digits}f}, {high:.{digits}f}]"
