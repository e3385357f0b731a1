"""The lines below a table: conditions, comparisons, warnings, reasons."""

from __future__ import annotations

from collections.abc import Sequence

from packsweep.analysis.contrasts import Comparison
from packsweep.report.format import number, small
from packsweep.results import schema
from packsweep.results.schema import Row
from packsweep.results.stats import Ratio
from packsweep.results.warnings import WARNINGS

_NAMED_CELLS = 3


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
        "cache hit: share of prompt tokens; found, right: share of texts, - if not scored; "
        "right with its 95% Wilson interval over the n texts of one pass"
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
