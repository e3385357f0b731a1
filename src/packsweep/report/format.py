"""Numbers into text: the tables and lines that the terminal shows.

The only place that formats. Undefined is a dash, never 0.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table

from packsweep.analysis import labels
from packsweep.analysis.contrasts import Comparison
from packsweep.results import schema
from packsweep.results.stats import Ratio
from packsweep.results.warnings import WARNINGS
from packsweep.run.task import Status
from packsweep.sweep.reviews import LABELS

Row = Mapping[str, Any]
DASH = "-"
OUTCOME_STYLE = {"ok": "green", "infeasible": "yellow"}
_NAMED_CELLS = 3
_NAMED_SETTINGS = (
    "model",
    "instruction",
    "template",
    "answer",
    "prompt_type",
    "cache_state",
    "duplication_order",
)
_FOUND = (*LABELS, labels.NONE)


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


def _add_cell_columns(
    table: Table, cells: Sequence[Row], *, but: Sequence[str] = ()
) -> list[list[str]]:
    """Add the columns that tell ``cells`` apart; return what stands in them for each cell.

    ``but`` names settings that have a column already.
    """
    apart = varying(cells, but=but)
    table.add_column("strategy", no_wrap=True)
    for heading in apart:
        table.add_column(heading.replace("_", " "), overflow="fold")
    for heading in ("n", "dup"):
        table.add_column(heading, justify="right", overflow="fold")
    return [
        [
            strategy(cell["strategy"], cell["pack_size"]),
            *(values[index] for values in apart.values()),
            str(cell["n"]),
            str(cell["duplication"]),
        ]
        for index, cell in enumerate(cells)
    ]


def varying(cells: Sequence[Row], *, but: Sequence[str] = ()) -> dict[str, list[str]]:
    """Return the settings that are not the same in all cells: name -> one value per cell.

    ``but`` names settings that are told elsewhere.
    """
    known = {name: [str(cell[name]) for cell in cells] for name in _NAMED_SETTINGS}
    known |= _settings(cells)
    return {
        name: values for name, values in known.items() if len(set(values)) > 1 and name not in but
    }


def unusual(varied: Mapping[str, Sequence[str]], index: int) -> dict[str, str]:
    """Return what ``varying`` holds of one cell, without the values that a sweep file may omit."""
    from packsweep.sweep.spec import DEFAULTS

    return {
        name: values[index]
        for name, values in varied.items()
        if values[index] != DEFAULTS.get(name)
    }


def _settings(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Return the engine settings of all cells: name -> one value per row."""
    parsed = [
        json.loads(row["engine_settings"]) | json.loads(row["simulated_settings"]) for row in rows
    ]
    names = sorted({name for values in parsed for name in values} - {"enable_prefix_caching"})
    return {name: [str(values.get(name)) for values in parsed] for name in names}


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
    if any(row["outcome"] == "ok" and row["coverage"] is None for row in rows):
        lines.append("random weights: speed only, answers are not scored")
    repeats, processes = (_counts(rows, name) for name in ("num_repeats", "num_processes"))
    lines.append(f"medians over {repeats} repeats from {processes} engine process(es) a cell")
    across = processes not in {"1", "no"}
    draws = "processes" if across else "repeats in that process; another process is not covered"
    lines.append(f"±: half the 95% t interval of the mean, over {draws}")
    lines.append(
        "cache hit: share of prompt tokens; found, right: share of reviews, - if not scored; "
        "right with its 95% Wilson interval over the n reviews of one pass"
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


def comparisons(found: Sequence[Comparison]) -> list[str]:
    """Return one line per comparison: the ratio, its interval, and what may be said of it."""
    return [
        f"{_slug(each.cell)}{_with(each.change)} / {_slug(each.baseline)}{_with(each.instead)}: "
        + verdict(each)
        for each in found
    ]


def verdict(compared: Comparison) -> str:
    """Return the ratio, its interval, and what may be said of it."""
    return _ratio(compared.ratio) + ("" if compared.same_gpu else ", on different GPUs")


def _slug(cell_id: str) -> str:
    return cell_id.rpartition("-")[0]


def _with(settings: Sequence[tuple[str, str]]) -> str:
    told = ", ".join(f"{name}={value}" for name, value in settings)
    return f" with {told}" if told else ""


def _ratio(ratio: Ratio) -> str:
    if ratio.value is None or ratio.ci_low is None or ratio.ci_high is None:
        return f"{number(ratio.value)}x, no interval from one repeat each"
    said = "no difference shown"
    if ratio.differs:
        said = "faster" if ratio.value > 1 else "slower"
    scope = ""
    if not ratio.between_processes:
        scope = f", one process each: beyond {ratio.margin - 1:.0%} is called"
    return f"{ratio.value:.2f}x [{ratio.ci_low:.2f}, {ratio.ci_high:.2f}], {said}{scope}"


def _counts(rows: Sequence[Row], name: str) -> str:
    return "/".join(str(value) for value in sorted({row[name] for row in rows} - {0})) or "no"


def warnings(rows: Sequence[Row]) -> list[str]:
    """Return one line for each warning that some cell has, with the cells."""
    lines = []
    for warning in WARNINGS:
        cells = [row["cell_id"] for row in rows if warning.code in (row.get("warnings") or ())]
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


def positions(rows: Sequence[Row], cells: Sequence[Row]) -> Table:
    """Return a table of ``labels.by_position`` over the ``cells`` of a summary.

    Positions are counted from 1.
    """
    table = _table()
    named = _add_cell_columns(table, cells)
    for heading in ("position\nin prompt", "reviews", "found", "right\n(95% CI)"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, own in zip(named, _by_cell(rows, cells), strict=True):
        for index, row in enumerate(own):
            table.add_row(*_once(name, index), *_position(row))
    return table


def _position(row: Row) -> list[str]:
    first, last = row["first"] + 1, row["last"] + 1
    return [
        str(first) if first == last else f"{first}-{last}",
        count(row["num_reviews"]),
        percent(row["coverage"]),
        accuracy(row),
    ]


def confusion(rows: Sequence[Row], cells: Sequence[Row]) -> Table:
    """Return a table of ``labels.confusion``: a line per cell and expected label."""
    table = _table()
    named = _add_cell_columns(table, cells)
    table.add_column("expected", no_wrap=True)
    for found in _FOUND:
        table.add_column(f"found\n{found}", justify="right", no_wrap=True)
    for name, own in zip(named, _by_cell(rows, cells), strict=True):
        counts = {(row["expected"], row["found"]): row["num_reviews"] for row in own}
        for index, expected in enumerate(LABELS if own else ()):
            told = (count(counts.get((expected, found), 0)) for found in _FOUND)
            table.add_row(*_once(name, index), expected, *told)
    return table


def _by_cell(rows: Sequence[Row], cells: Sequence[Row]) -> list[list[Row]]:
    """Return the rows of each of ``cells``."""
    return [[row for row in rows if row["cell_id"] == cell["cell_id"]] for cell in cells]


def _once(name: Sequence[str], index: int) -> Sequence[str]:
    """Return what tells a cell apart on its first line, and nothing on the others."""
    return name if index == 0 else [""] * len(name)


def status_line(status: Status, *, position: str, again: bool) -> str:
    """Return the one line that a log shows for an attempt that ended."""
    told = f"{position} {status.cell_id}: {status.outcome}"
    if status.reviews_per_s is not None:
        told += f", {number(status.reviews_per_s)} reviews/s, {percent(status.cached_share)} cached"
    if status.reason:
        told += f": {status.reason}"
    told += f" [{status.wall_s:.0f} s]"
    return f"{told}; will try again" if again else told


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
