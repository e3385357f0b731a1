"""Numbers into text, the only place that does. Undefined is a dash, never 0."""

from __future__ import annotations

from packsweep.results.shares import Figure

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
    """Return a number with three significant digits; from 1,000 on a whole one."""
    if value is None:
        return DASH
    return f"{value:.3g}" if abs(value) < 999.5 else f"{value:,.0f}"  # noqa: PLR2004


def figure(found: Figure, *, digits: int, as_percent: bool = False) -> str:
    """Return ``91.2% [88.0, 93.6]``, without an interval where there is none."""
    scale, unit = (100, "%") if as_percent else (1, "")
    value, low, high = (
        None if end is None else f"{scale * end:z.{digits}f}"
        for end in (found.value, found.ci_low, found.ci_high)
    )
    if value is None:
        return DASH
    return value + unit if low is None or high is None else f"{value}{unit} [{low}, {high}]"


def interval(low: float | None, high: float | None) -> str:
    """Return ``[0.94, 0.96]``, with as many decimals as its width and its distance to 1 need."""
    if low is None or high is None:
        return DASH
    near_one = any(0 < abs(end - 1) < 0.005 for end in (low, high))  # noqa: PLR2004
    digits = 4 if near_one else 3 if high - low < 0.05 else 2  # noqa: PLR2004
    return f"[{low:.{digits}f}, {high:.{digits}f}]"
