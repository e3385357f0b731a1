"""The lines below a table: what was measured, what failed, warnings, comparisons."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from packsweep.analysis import axes
from packsweep.analysis.compare import CALLED
from packsweep.analysis.contrasts import GPUS, Comparison
from packsweep.errors import counted
from packsweep.models.architecture.split import Split
from packsweep.report import cell, verdict
from packsweep.report.format import small
from packsweep.results import schema, summary
from packsweep.results.schema import Row
from packsweep.results.warnings import WARNINGS

_NAMED_CELLS = 3
_LISTED_COMPARISONS = 12
# What a search has found -> in words.
_FOUND = {
    "bracketed": "bracketed",
    "none_passes": "no rate is shown to meet the SLO",
    "none_fails": "no rate is shown not to meet the SLO",
    "undecided": "undecided",
}


def conditions(rows: Sequence[Row]) -> list[str]:
    """Return what was measured, and what the marks and columns of the table mean."""
    lines = measured(rows)
    if any(row["outcome"] == "ok" and row["coverage"] is None for row in rows):
        lines.append("speed only: the weights are random, so answers are not scored")
    if any(cell.guess(row) for row in rows):
        lines.append(
            "= guess: not distinguishable from always giving the most frequent label; < guess: "
            "worse"
        )
    return [*lines, *_references(rows)]


def measured(rows: Sequence[Row]) -> list[str]:
    """Return device, version, model and how often was measured, in one line."""
    line = f"{_measured_with(rows)}; {_sample(rows)}"
    if any(row["engine"] == schema.SIMULATED for row in rows):
        return ["SIMULATED: computed from a roofline, not measured", line]
    return [line]


def _measured_with(rows: Sequence[Row]) -> str:
    values = {
        name: sorted({row[name] for row in rows} - {None})
        for name in ("device", "vllm_version", "model")
    }
    values["vllm_version"] = [f"vLLM {version}" for version in values["vllm_version"]]
    return ", ".join(" and ".join(value) for value in values.values() if value)


def _sample(rows: Sequence[Row]) -> str:
    """Return how many repeats a cell has, and what its interval covers."""
    repeats, processes = (_range(rows, name) for name in ("num_repeats", "num_processes"))
    if not repeats:
        return "nothing was measured"
    if repeats == "1" and processes == "1":
        return "measured once"
    if processes == "1":
        return f"median of {repeats} repeats in one process, ± half the 95% interval of the repeats"
    return (
        f"median of {repeats} repeats in {processes} processes, ± half the 95% interval over "
        "processes"
    )


def _range(rows: Sequence[Row], name: str) -> str:
    numbers = sorted({row[name] for row in rows} - {0})
    return " to ".join(str(number) for number in dict.fromkeys((*numbers[:1], *numbers[-1:])))


def _references(rows: Sequence[Row]) -> list[str]:
    """Return what MFU, MBU and cost refer to, where they are shown."""
    lines = []
    sources = sorted({row["ceiling_source"] for row in rows if row.get("mbu") is not None})
    if sources:
        lines.append(f"MFU, MBU: share of the peaks of {sources[0]}, lower bounds")
    prices = sorted({row["gpu_hour_usd"] for row in rows if row.get("gpu_hour_usd")})
    if prices:
        listed = ", ".join(small(price) for price in prices)
        of = "/".join(sorted({summary.processor(row) for row in rows}))
        lines.append(f"$: ${listed} per {of} hour, engine start not included")
    return lines


def comparisons(compared: Sequence[Comparison], rows: Sequence[Row]) -> list[str]:
    """Return ``packed vs separate, n=8: 0.69x [0.65, 0.73], slower (significant)`` for each.

    Of many, those that are not significant are counted.
    """
    names = cell.names(rows)
    lines = {
        f"{cell.pair(names[each.cell], names[each.baseline])}: "
        + verdict.text(each.ratio, each.speed, per_gpu=each.per_gpu)
        + ("" if each.same_gpu else ", on different GPUs"): each.speed in CALLED
        for each in compared
    }
    return significant(lines)


def significant(lines: Mapping[str, bool]) -> list[str]:
    """Return the lines of comparisons; of many those that are significant, the others counted."""
    if len(lines) <= _LISTED_COMPARISONS:
        return list(lines)
    called = [line for line, is_called in lines.items() if is_called]
    num_others = len(lines) - len(called)
    if not num_others:
        return called
    others = "others" if called else "comparisons"
    listed = "no significant difference (packsweep report lists them)"
    return [*called, f"{num_others} {others}: {listed}"]


def several_gpus(
    compared: Sequence[Comparison], rows: Sequence[Row], *, most: int = _LISTED_COMPARISONS
) -> list[str]:
    """Return which has more throughput, several small engines or a large one, a line for each pair.

    The largest n comes first.

    ``separate n=400: one engine across 2 GPUs (TP 2) has 0.87x [0.80, 0.93] the throughput of 2
    engines on one GPU each, slower (significant); extrapolated from one such engine (3 of 3
    processes ran beside another engine)``.
    """
    by_id, names = {row["cell_id"]: row for row in rows}, cell.names(rows)
    pairs = [each for each in compared if each.axis == GPUS and each.cell in by_id]
    pairs.sort(key=lambda each: -by_id[each.cell]["n"])
    return [
        f"{cell.common(names[each.cell], names[each.baseline])}: "
        + _large_or_small(each, by_id[each.cell], by_id[each.baseline])
        for each in pairs[:most]
    ]


def _large_or_small(each: Comparison, large: Row, small: Row) -> str:
    split, other = axes.split(large), axes.split(small)
    times, said = verdict.times(each.ratio), verdict.said(each.ratio, each.speed)
    said += "" if each.same_gpu else ", on different GPUs"
    if not each.per_gpu:  # as many GPUs, or the ranks of a processor
        return f"{_sizes(split)} has {times} the throughput of {_sizes(other)}, {said}"
    several = split.num_gpus / other.num_gpus
    of = "one GPU" if other.num_gpus == 1 else f"{other.num_gpus} GPUs"
    beside, total = each.beside
    processes = "process" if total == 1 else "processes"
    return (
        f"one engine across {split.num_gpus} GPUs ({_sizes(split)}) has {times} the throughput of "
        f"{several:g} engines on {of} each, {said}; extrapolated from one such engine ({beside} of "
        f"{total} {processes} ran beside another engine)"
    )


def _sizes(split: Split) -> str:
    sizes = [f"TP {split.tensor_parallel_size}"]
    if split.pipeline_parallel_size > 1:
        sizes.append(f"PP {split.pipeline_parallel_size}")
    return " x ".join(sizes)


def warnings(rows: Sequence[Row]) -> list[str]:
    """Return one line for each warning that some cell has: cells, what is wrong, the fix."""
    lines = []
    for warning in WARNINGS:
        warned = [row for row in rows if warning.code in (row.get("warnings") or ())]
        if warned:
            lines.append(f"{_listed(warned, rows)}: {warning.text} -> {warning.remedy}")
    return lines


def _listed(some: Sequence[Row], rows: Sequence[Row]) -> str:
    """Name ``some`` of ``rows`` as briefly as can be."""
    if 1 < len(some) == len(rows):
        return "all cells"
    if len(some) > _NAMED_CELLS:
        return f"{len(some)} of {len(rows)} cells"
    names = cell.names(rows)
    return ", ".join(names[row["cell_id"]] for row in some)


def reasons(rows: Sequence[Row]) -> list[str]:
    """Return why cells have no numbers, or not those that were looked for.

    Cells that failed alike share a line.
    """
    failed = (row for row in rows if row["outcome"] != "ok")
    searched = [row for row in rows if row.get("max_rate_reason") is not None]
    names = cell.names(rows) if searched else {}
    return [
        *alike((row["cell_id"], f"{row['outcome']}: {row['reason']}") for row in failed),
        *(
            f"{names[row['cell_id']]}: {_FOUND[row['max_rate_verdict']]}: {row['max_rate_reason']}"
            for row in searched
        ),
    ]


def alike(reasons: Iterable[tuple[str, str]]) -> list[str]:
    """Return ``cell_id: reason`` for each pair, or ``cell_id and 2 other cells: reason``."""
    by_reason: dict[str, list[str]] = {}
    for cell_id, reason in reasons:
        by_reason.setdefault(reason, []).append(cell_id)
    return [f"{one_of(cell_ids)}: {reason}" for reason, cell_ids in by_reason.items()]


def one_of(cell_ids: Sequence[str]) -> str:
    """Return one id, with how many more there are."""
    more = len(cell_ids) - 1
    return f"{cell_ids[0]} and {counted(more, 'other cell')}" if more else cell_ids[0]
