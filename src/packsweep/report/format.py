"""Numbers into text: the tables and lines that the terminal shows.

The only place that formats. Undefined is a dash, never 0.
"""

from __future__ import annotations

from packsweep.results.schema import Row

DASH = "-"
OUTCOME_STYLE = {"ok": "green", "infeasible": "yellow"}


def number(value: float | None) -> str:
    """Return a number with two decimals, as vLLM prints throughput; a dash if undefined."""
    return DASH if value is None else f"{value:.2f}"


def count(value: float | None) -> str:
    """Return a whole number with thousands separated; a dash if undefined."""
    return DASH if value is None else f"{round(value):,}"


def exact(value: float | None) -> str:
    """Return a number with six significant digits, for whoever reads on; a dash if undefined."""
    return DASH if value is None else f"{value:.6g}"


def percent(value: float | None) -> str:
    """Return a share in per cent; a dash if undefined."""
    return DASH if value is None else f"{100 * value:.0f}%"


def accuracy(row: Row) -> str:
    """Return an accuracy and its 95 % interval; a dash if it was not scored."""
    low, high = row["accuracy_ci_low"], row["accuracy_ci_high"]
    told = percent(row["accuracy"])
    return told if low is None else f"{told} ({100 * low:.0f}-{percent(high)})"


def small(value: float | None) -> str:
    """Return a number with three significant digits, of whatever size; a dash if undefined."""
    return DASH if value is None else f"{value:.3g}"


def half_width(row: Row, name: str) -> str:
    """Return half the 95 % interval as a share of the mean; nothing below two repeats."""
    low, high, mean = (row[f"{name}_{suffix}"] for suffix in ("ci_low", "ci_high", "mean"))
    if low is None or not mean:
        return ""
    return f"±{100 * (high - low) / 2 / mean:.1f}%"


def strategy(name: str, pack_size: int | None) -> str:
    """Return ``packed``, ``separate`` or ``chunked4``, as cell ids spell it."""
    return name if pack_size is None else f"{name}{pack_size}"


def vllm_form(row: Row) -> list[str]:
    """Return a cell as ``vllm bench throughput`` prints it."""
    speeds = (
        f"{number(row[f'{name}_per_s_median'])} {name.replace('_', ' ')}/s"
        for name in ("requests", "total_tokens", "output_tokens")
    )
    return [
        f"Throughput: {', '.join(speeds)}",
        f"Total num prompt tokens:  {row['prompt_tokens']}",
        f"Total num output tokens:  {row['output_tokens']}",
    ]
