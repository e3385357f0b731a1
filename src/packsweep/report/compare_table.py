"""The comparison of two results folders in text and as plain values."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from packsweep.analysis.axes import SHAPE, WORK
from packsweep.analysis.compare import CALLED, Change, Compared, Gate, kept, less_is_better
from packsweep.analysis.differences import Difference
from packsweep.analysis.pairing import CellPasses, Pair
from packsweep.report.cells_table import heading
from packsweep.report.columns import Shown
from packsweep.report.format import DASH, number, percent, small, strategy
from packsweep.results import schema
from packsweep.results.stats import ONE_PROCESS_MARGIN, Ratio

_MOST_VALUES = 3
_SPEED = {"up": "faster", "down": "slower"}
_TIME = {"up": "slower", "down": "faster"}
_AMOUNT = {"up": "more", "down": "less"}
_OPEN = {"not_shown": "not shown", "chance": "could be chance"}


def word(change: Change, metric: schema.Column) -> str:
    """Return what may be said of a change, in a word or two."""
    if change.verdict == "no_interval":
        return f"{change.why}: no interval"
    if change.verdict in _OPEN:
        return _OPEN[change.verdict]
    return _words(metric)[change.verdict]


def _words(metric: schema.Column) -> Mapping[str, str]:
    if metric.unit == "s":
        return _TIME
    return _SPEED if metric.unit.endswith("/s") else _AMOUNT


def columns(compared: Compared) -> list[Shown]:
    """Return the table's columns: what tells cells apart, both medians, the ratio, the word."""
    changes, unit = compared.changes, compared.metric.unit or compared.metric.name
    scored = any(_accuracy(change.pair.a) is not None for change in changes)
    right = Shown(heading="right\nA, B", cells=tuple(map(_right, changes)), rank=3, name="right")
    return [
        *_cell_columns([change.pair for change in changes]),
        Shown(heading=f"A\n{unit}", cells=tuple(_told(c.median_a) for c in changes), rank=4),
        Shown(heading=f"B\n{unit}", cells=tuple(_told(c.median_b) for c in changes), rank=4),
        Shown(heading="B / A", cells=tuple(f"{number(c.ratio.value)}x" for c in changes)),
        Shown(heading="95% CI", cells=tuple(_interval(c.ratio) for c in changes)),
        *([right] if scored else []),
        Shown(
            heading="B is",
            cells=tuple(_marked(change, compared.metric) for change in changes),
            left=True,
        ),
    ]


def _cell_columns(pairs: Sequence[Pair]) -> list[Shown]:
    values = [{**pair.a.facts, **pair.axes} for pair in pairs]
    names = [*(name for name in WORK if name not in SHAPE), *pairs[0].axes]
    varying = [name for name in names if len({str(value[name]) for value in values}) > 1]
    told = tuple(strategy(value["strategy"], value["pack_size"]) for value in values)
    return [
        Shown(heading="strategy", cells=told, left=True),
        *(
            Shown(
                heading=heading(name.rpartition(".")[2]),
                name=name.rpartition(".")[2],
                cells=tuple(str(value[name]) for value in values),
                left=True,
                axis=True,
            )
            for name in varying
        ),
        Shown(heading="n", cells=tuple(str(value["n"]) for value in values)),
        Shown(heading="dup", cells=tuple(str(value["duplication"]) for value in values)),
    ]


def _told(value: float | None) -> str:
    return small(value) if value is not None and abs(value) < 1 else number(value)


def _interval(ratio: Ratio) -> str:
    """Return ``[0.94, 0.96]``, with three decimals where two would hide its width; or a dash."""
    low, high = ratio.ci_low, ratio.ci_high
    if low is None or high is None:
        return DASH
    digits = 3 if high - low < 0.1 else 2  # noqa: PLR2004
    return f"[{low:.{digits}f}, {high:.{digits}f}]"


def _right(change: Change) -> str:
    return f"{percent(_accuracy(change.pair.a))}, {percent(_accuracy(change.pair.b))}"


def _accuracy(cell: CellPasses) -> float | None:
    known = [row["accuracy"] for row in cell.ok if row["accuracy"] is not None]
    return statistics.median(known) if known else None


def _marked(change: Change, metric: schema.Column) -> str:
    mark = "*" if change.ratio.ci_low is not None and not change.ratio.between_processes else ""
    return word(change, metric) + mark


def legend(compared: Compared) -> list[str]:
    """Return what the words mean, and how far they carry."""
    metric, changes = compared.metric, compared.changes
    known = [change for change in changes if change.ratio.ci_low is not None]
    more = "lower" if less_is_better(metric) else "higher"
    lines = [f"B / A: {metric.name}, geometric means ({more} is better); A, B: medians"]
    if known:
        lines.append(
            f"{' and '.join(sorted(_words(metric).values()))}: beyond chance among {len(known)} "
            "cells (Holm: of comparisons of equal results at most 5% call any); "
            "not shown: the interval includes 1"
        )
    if any(change.verdict == "chance" for change in changes):
        lines.append("could be chance: excludes 1, as one interval in 20 of equal results does")
    if any(not change.ratio.between_processes for change in known):
        lines.append(
            "*: one process on a side; processes of one cell have differed by up to "
            f"{ONE_PROCESS_MARGIN - 1:.0%}, so only what goes beyond that is called; "
            "set measure.replicates to 3 or more, in A and in B"
        )
    if any(not change.same_gpu for change in changes) and not _devices_differ(compared):
        lines.append("A and B used different GPUs of one kind: what these differ by is in B / A")
    return lines


def _devices_differ(compared: Compared) -> bool:
    return any(difference.name == "device" for difference in compared.differences)


def differences(found: Sequence[Difference]) -> list[str]:
    """Return a line for each difference."""
    if not found:
        return ["nothing else differs that packsweep records"]
    return [f"  {each.name}: {_values(each.a)} -> {_values(each.b)}" for each in found]


def _values(values: Sequence[str]) -> str:
    more = f", ... ({len(values)})" if len(values) > _MOST_VALUES else ""
    return ", ".join(values[:_MOST_VALUES]) + more


def unpaired(compared: Compared) -> list[str]:
    """Return a line for each cell that has no ratio."""
    lines = [f"ok in A, {each.b.outcome} in B: {each.b.slug}" for each in compared.lost]
    lines += [f"{each.a.outcome} in A, ok in B: {each.a.slug}" for each in compared.gained]
    for side, cells in (("A", compared.only_a), ("B", compared.only_b)):
        lines += [f"only in {side}: {cell.slug}{_apart(cell, cells)}" for cell in cells]
    return lines


def _apart(cell: CellPasses, cells: Sequence[CellPasses]) -> str:
    """Return the settings that tell a cell from others of the same slug."""
    alike = [other.settings for other in cells if other.slug == cell.slug]
    told = [
        f"{name}={value}"
        for name, value in cell.settings.items()
        if any(other.get(name) != value for other in alike)
    ]
    return f" ({', '.join(told)})" if told else ""


def gate(found: Gate, metric: schema.Column) -> list[str]:
    """Return what a gate says: each cell that fails, those undecided, and the end."""
    lines = [f"FAIL {_kept(each, metric)}, below {found.limit:g}" for each in found.below]
    lines += [f"FAIL {each.b.slug}: ok in A, {each.b.outcome} in B" for each in found.lost]
    lines += [
        f"UNDECIDED {_kept(each, metric)}, may be below {found.limit:g}; more repeats would tell"
        for each in found.undecided
    ]
    if not found.failed:
        lines.append(f"no cell is shown to be below {found.limit:g}")
    return lines


def _kept(change: Change, metric: schema.Column) -> str:
    """Name a cell with its ratio, turned so that less is worse."""
    ratio, turned = kept(change, metric), "A / B" if less_is_better(metric) else "B / A"
    return f"{change.pair.a.slug}: {turned} {number(ratio.value)}x {_interval(ratio)}"


def to_record(compared: Compared, closed: Gate | None) -> dict[str, Any]:
    """Return all of it as plain values."""
    return {
        "metric": compared.metric.name,
        "unit": compared.metric.unit,
        "cells": [_record(change, compared.metric) for change in compared.changes],
        "differences": [{"name": d.name, "a": d.a, "b": d.b} for d in compared.differences],
        "lost": [_pair_record(pair) for pair in compared.lost],
        "gained": [_pair_record(pair) for pair in compared.gained],
        "only_a": [cell.group_id for cell in compared.only_a],
        "only_b": [cell.group_id for cell in compared.only_b],
        "gate": None if closed is None else _gate_record(closed),
    }


def _record(change: Change, metric: schema.Column) -> dict[str, Any]:
    return {
        "cell_a": change.pair.a.group_id,
        "cell_b": change.pair.b.group_id,
        **{name: change.pair.a.facts[name] for name in WORK},
        **change.pair.axes,
        "median_a": change.median_a,
        "median_b": change.median_b,
        "ratio": change.ratio.value,
        "ci_low": change.ratio.ci_low,
        "ci_high": change.ratio.ci_high,
        "p_value": change.ratio.p_differs,
        "between_processes": change.ratio.between_processes,
        "same_gpu": change.same_gpu,
        "said": word(change, metric),
        "called": change.verdict in CALLED,
        "accuracy_a": _accuracy(change.pair.a),
        "accuracy_b": _accuracy(change.pair.b),
    }


def _pair_record(pair: Pair) -> dict[str, str]:
    return {
        "cell_a": pair.a.group_id,
        "cell_b": pair.b.group_id,
        "outcome_a": pair.a.outcome,
        "outcome_b": pair.b.outcome,
    }


def _gate_record(closed: Gate) -> dict[str, Any]:
    return {
        "limit": closed.limit,
        "failed": closed.failed,
        "below": [change.pair.a.group_id for change in closed.below],
        "undecided": [change.pair.a.group_id for change in closed.undecided],
        "lost": [pair.a.group_id for pair in closed.lost],
    }
