"""Numbers into text: the tables and lines that the terminal shows.

The only place that formats. Undefined is a dash, never 0.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from packsweep import advice, schema
from packsweep.plan import Plan, PlannedCell
from packsweep.task import Status

Row = Mapping[str, Any]
DASH = "-"
_OUTCOME_STYLE = {"ok": "green", "infeasible": "yellow"}
_HEADINGS = (
    "n",
    "dup",
    "requests\n/s",
    "total\ntokens/s",
    "output\ntokens/s",
    "reviews/s\n(95% CI)",
    "cache\nhit",
    "found",
    "right",
)
_NAMED_CELLS = 3
_NAMED_SETTINGS = ("instruction", "template", "cache_state", "duplication_order")


def number(value: float | None) -> str:
    """Return a number with two decimals, as vLLM prints throughput; a dash if undefined."""
    return DASH if value is None else f"{value:.2f}"


def count(value: float | None) -> str:
    """Return a whole number with thousands separated; a dash if undefined."""
    return DASH if value is None else f"{round(value):,}"


def percent(value: float | None) -> str:
    """Return a share in per cent; a dash if undefined."""
    return DASH if value is None else f"{100 * value:.0f}%"


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


# Shown where some cell has a value: heading, column, how it is written.
_WHERE_KNOWN: tuple[tuple[str, str, Callable[[float | None], str]], ...] = (
    ("MFU", "mfu", percent),
    ("MBU", "mbu", percent),
    ("J/1000\nreviews", "joules_per_1000_reviews", count),
    ("$/1000\nreviews", "usd_per_1000_reviews", small),
)


def summary(rows: Sequence[Row]) -> Table:
    """Return the table of a sweep: one line per cell, what varies in columns of its own."""
    table = _table()
    varying = {name: [str(row[name]) for row in rows] for name in _NAMED_SETTINGS}
    varying |= _settings(rows)
    varying = {name: values for name, values in varying.items() if len(set(values)) > 1}
    table.add_column("strategy", no_wrap=True)
    for heading in varying:
        table.add_column(heading.replace("_", " "), overflow="fold")
    known = [more for more in _WHERE_KNOWN if any(row.get(more[1]) is not None for row in rows)]
    for heading in (*_HEADINGS, *(heading for heading, _, _ in known)):
        table.add_column(heading, justify="right", overflow="fold")
    table.add_column("outcome", no_wrap=True)
    for index, row in enumerate(rows):
        table.add_row(
            strategy(row["strategy"], row["pack_size"]),
            *(values[index] for values in varying.values()),
            *_measured(row),
            *(written(row.get(name)) for _, name, written in known),
            Text(row["outcome"], style=_OUTCOME_STYLE.get(row["outcome"], "red")),
        )
    return table


def _settings(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Return the engine settings of all cells: name -> one value per row."""
    parsed = [
        json.loads(row["engine_settings"]) | json.loads(row["simulated_settings"]) for row in rows
    ]
    names = sorted({name for values in parsed for name in values} - {"enable_prefix_caching"})
    return {name: [str(values.get(name)) for values in parsed] for name in names}


def _measured(row: Row) -> list[str]:
    return [
        str(row["n"]),
        str(row["duplication"]),
        number(row["requests_per_s_median"]),
        number(row["total_tokens_per_s_median"]),
        number(row["output_tokens_per_s_median"]),
        number(row["reviews_per_s_median"]) + half_width(row, "reviews_per_s"),
        percent(row["cached_share"]),
        percent(row["coverage"]),
        percent(row["accuracy"]),
    ]


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


def conditions(rows: Sequence[Row]) -> list[str]:
    """Return what the numbers were measured on and with, and what the columns mean."""
    lines = []
    if any(row["engine"] == schema.SIMULATED for row in rows):
        lines.append("SIMULATED: computed from a roofline, not measured")
    lines += [
        f"{label}: {', '.join(values)}"
        for name, label in (("device", "device"), ("vllm_version", "vLLM"), ("model", "model"))
        if (values := sorted({row[name] for row in rows} - {None}))
    ]
    if any(row["load_format"] == "dummy" for row in rows):
        lines.append("random weights: speed only, answers are not scored")
    repeats = sorted({row["num_repeats"] for row in rows} - {0})
    told = "/".join(str(value) for value in repeats) or "no"
    lines.append(
        f"medians over {told} repeats in one process, ± half the 95% t interval of their mean"
    )
    lines.append(
        "cache hit: share of prompt tokens; found, right: share of reviews, - if not scored"
    )
    return [*lines, *_against(rows)]


def _against(rows: Sequence[Row]) -> list[str]:
    """Return what ceilings, energy and prices mean, where they are shown."""
    lines = []
    sources = sorted({row["ceiling_source"] for row in rows if row.get("mbu") is not None})
    if sources:
        lines.append(f"MFU, MBU (from below): share over a whole pass of the peaks of {sources[0]}")
    prices = sorted({row["gpu_hour_usd"] for row in rows if row.get("gpu_hour_usd")})
    if prices:
        told = ", ".join(small(price) for price in prices)
        lines.append(f"$: GPU time of the timed passes at ${told} an hour, starting not counted")
    return lines


def warnings(rows: Sequence[Row]) -> list[str]:
    """Return one line for each warning that some cell has, with the cells."""
    lines = []
    for warning in advice.WARNINGS:
        cells = [row["cell_id"] for row in rows if warning.code in (row["warnings"] or ())]
        if cells:
            lines.append(f"WARNING {_listed(cells, len(rows))}: {warning.text}; {warning.remedy}")
    return lines


def _listed(cells: Sequence[str], num_rows: int) -> str:
    """Name cells as briefly as can be."""
    if len(cells) == num_rows:
        return "all cells" if num_rows > 1 else cells[0]
    more = f" and {len(cells) - _NAMED_CELLS} more" if len(cells) > _NAMED_CELLS else ""
    return ", ".join(cells[:_NAMED_CELLS]) + more


def reasons(rows: Sequence[Row]) -> list[str]:
    """Return one line for each cell that has no numbers."""
    failed = (row for row in rows if row["outcome"] != "ok")
    return [f"{row['cell_id']}: {row['outcome']}: {row['reason']}" for row in failed]


def plan(planned: Plan, done: Sequence[bool]) -> Table:
    """Return the table of a plan: one line per cell."""
    table = _table()
    table.add_column("strategy", no_wrap=True)
    for heading in ("n", "dup", "requests", "prompt\ntokens", "longest\nprompt", "output\ntokens"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("cache", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for cell, is_done in zip(planned.cells, done, strict=True):
        table.add_row(*_planned(cell, is_done=is_done))
    return table


def _planned(planned: PlannedCell, *, is_done: bool) -> list[str | Text]:
    cell = planned.cell
    state = Text("done", style="green") if is_done else Text("missing")
    if planned.infeasible:
        state = Text("infeasible", style="yellow")
    return [
        strategy(cell.strategy, cell.pack_size),
        str(cell.n),
        str(cell.duplication),
        count(planned.num_requests),
        count(planned.prompt_tokens),
        count(planned.longest_prompt_tokens),
        count(planned.output_tokens),
        cell.cache_state,
        state,
    ]


def status_line(status: Status, *, position: str, again: bool) -> str:
    """Return the one line that a log shows for an attempt that ended."""
    told = f"{position} {status.cell_id}: {status.outcome}"
    if status.outcome == "ok":
        told += f", {number(status.reviews_per_s)} reviews/s, {percent(status.cached_share)} cached"
    elif status.reason:
        told += f": {status.reason}"
    told += f" [{status.wall_s:.0f} s]"
    return f"{told}; will try again" if again else told


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
