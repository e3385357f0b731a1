"""The comparison of two results folders in text and as plain values."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from packsweep.analysis.axes import FOLLOWING, SHAPE, WORK
from packsweep.analysis.compare import CALLED, Change, Compared, Gate, kept, less_is_better
from packsweep.analysis.compare.differences import Difference
from packsweep.analysis.compare.pairing import CellPasses, Pair
from packsweep.errors import counted
from packsweep.report import cell as cell_
from packsweep.report import verdict
from packsweep.report.format import interval, number, percent, small
from packsweep.report.tables import quality_table
from packsweep.report.tables.cells_table import heading
from packsweep.report.tables.table import Column, Table
from packsweep.results import schema
from packsweep.results.shares import PairedDifference
from packsweep.results.stats import ONE_PROCESS_MARGIN

_MOST_VALUES = 3
_MOST_ANSWERS = 12
_MOST_UNPAIRED = 12
_TIME, _AMOUNT = ("slower", "faster"), ("more", "less")


def word(change: Change, metric: schema.Column) -> str:
    """Return what may be said of a change, in a word or two."""
    said = verdict.word(change.ratio, change.verdict, _words(metric))
    return f"{change.why}: {said}" if change.verdict == "no_interval" else said


def _words(metric: schema.Column) -> tuple[str, str]:
    if metric.unit == "s":
        return _TIME
    return verdict.SPEED if metric.unit.endswith("/s") else _AMOUNT


def table(compared: Compared) -> Table:
    """Return what tells cells apart, both medians, the ratio and the verdict."""
    changes, unit = compared.changes, compared.metric.unit or compared.metric.name
    unit += "\nper GPU" if compared.per_gpu else ""
    scored = any(_accuracy(change.pair.a) is not None for change in changes)
    accuracies = (
        f"{percent(_accuracy(change.pair.a))}, {percent(_accuracy(change.pair.b))}"
        for change in changes
    )
    columns = (
        *_cell_columns([change.pair for change in changes]),
        Column(heading=f"A\n{unit}", cells=tuple(_value(c.median_a) for c in changes), rank=4),
        Column(heading=f"B\n{unit}", cells=tuple(_value(c.median_b) for c in changes), rank=4),
        Column(heading="B / A", cells=tuple(f"{number(c.ratio.value)}x" for c in changes)),
        Column(
            heading="95% CI",
            cells=tuple(interval(c.ratio.ci_low, c.ratio.ci_high) for c in changes),
        ),
        *([Column(heading="accuracy\nA, B", cells=tuple(accuracies), rank=3)] if scored else []),
        Column(
            heading="B is",
            cells=tuple(_marked(change, compared.metric) for change in changes),
            left=True,
        ),
    )
    return Table(columns=columns)


def _cell_columns(pairs: Sequence[Pair]) -> list[Column]:
    values, varying = _values_of(pairs), _varying(pairs)
    columns = (
        Column(heading="strategy", cells=tuple(map(cell_.strategy, values)), left=True),
        *(
            Column(
                heading=heading(name.rpartition(".")[2]),
                name=name.rpartition(".")[2],
                cells=tuple(str(value[name]) for value in values),
                left=True,
                axis=True,
            )
            for name in varying
        ),
        Column(heading="n", cells=tuple(str(value["n"]) for value in values)),
        Column(heading="dup", cells=tuple(str(value["duplication"]) for value in values)),
    )
    return [replace(column, key=True) for column in columns]


def _values_of(pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    return [{**pair.a.facts, **pair.axes} for pair in pairs]


def _varying(pairs: Sequence[Pair]) -> list[str]:
    """Return what tells cells apart beside their shape; how long an answer is follows from it."""
    values = _values_of(pairs)
    names = [*(name for name in WORK if name not in SHAPE), *pairs[0].axes]
    if all(value["answer"] != "free" for value in values):
        names = [name for name in names if name not in FOLLOWING["answer"]]
    return [name for name in names if len({str(value[name]) for value in values}) > 1]


def _value(value: float | None) -> str:
    return small(value) if value is not None and abs(value) < 1 else number(value)


def _accuracy(cell: CellPasses) -> float | None:
    known = [row["accuracy"] for row in cell.ok if row["accuracy"] is not None]
    return statistics.median(known) if known else None


def _marked(change: Change, metric: schema.Column) -> str:
    mark = "*" if change.ratio.ci_low is not None and not change.ratio.between_processes else ""
    return word(change, metric) + mark


def answers(compared: Sequence[Change]) -> list[str]:
    """Return a line for the answers of each cell; of many, those that are not called are counted.

    ``correct labels, B - A, separate-n400-dup1-cold: +0.5 points [-1.0, +2.0] over 400 texts, no
    difference shown; 97.5 % of texts have the same label``.
    """
    scored = [each for each in compared if each.same_labels is not None]
    many = len(scored) > _MOST_ANSWERS
    told = [each for each in scored if not many or each.quality in CALLED]
    varying = _varying([each.pair for each in scored]) if scored else []
    lines = [_answers(each, varying) for each in told]
    others = len(scored) - len(told)
    more = [f"correct labels of {others} other cells: no significant difference"] if others else []
    return lines + more


def _answers(change: Change, varying: Sequence[str]) -> str:
    assert change.same_labels is not None
    (values,) = _values_of([change.pair])
    told = ", ".join(f"{name.rpartition('.')[2]}={values[name]}" for name in varying)
    name = f"{change.pair.a.slug} with {told}" if told else change.pair.a.slug
    same = f"{percent(change.same_labels.value)} of texts have the same label"
    if change.answers is None:
        return f"labels, {name}: {same}"
    found = quality_table.difference(change.answers, change.quality)
    return f"correct labels, B - A, {name}: {found}; {same}"


def legend(compared: Compared) -> list[str]:
    """Return what the verdicts mean and what they rest on."""
    metric, changes = compared.metric, compared.changes
    known = [change for change in changes if change.ratio.ci_low is not None]
    direction = "lower" if less_is_better(metric) else "higher"
    of = " per GPU" if compared.per_gpu else ""
    lines = [f"B / A: {metric.name}{of}, geometric means ({direction} is better); A, B: medians"]
    if known:
        level = verdict.correction([c.ratio for c in changes], [c.answers for c in changes])
        lines.append(
            f"{' or '.join(sorted(_words(metric)))}: significant {level}; "
            "inconclusive: the interval includes 1"
        )
    if any(change.verdict == "chance" for change in changes):
        lines.append(
            "not significant: the interval excludes 1, which is expected by chance given the "
            "number of cells"
        )
    if any(not change.ratio.between_processes for change in known):
        lines.append(
            f"*: one process per side, so differences below {ONE_PROCESS_MARGIN - 1:.0%} are not "
            "significant; measure.replicates = 3 in A and B resolves smaller ones"
        )
    if any(not change.same_gpu for change in changes) and not _devices_differ(compared):
        lines.append("A and B ran on different GPUs of one kind; B / A includes how those differ")
    return lines


def _devices_differ(compared: Compared) -> bool:
    return any(difference.name == "device" for difference in compared.differences)


def differences(between: Sequence[Difference]) -> list[str]:
    if not between:
        return ["no other recorded difference between A and B"]
    return [f"  {each.name}: {_values(each.a)} -> {_values(each.b)}" for each in between]


def _values(values: Sequence[str]) -> str:
    more = f", ... ({len(values)})" if len(values) > _MOST_VALUES else ""
    return ", ".join(values[:_MOST_VALUES]) + more


def unpaired(compared: Compared) -> list[str]:
    """Return a line for each cell that has no ratio; of many in one folder alone their number."""
    lines = [f"ok in A, {each.b.outcome} in B: {each.b.slug}" for each in compared.lost]
    lines += [f"{each.a.outcome} in A, ok in B: {each.a.slug}" for each in compared.gained]
    pairs = [*(each.pair for each in compared.changes), *compared.lost, *compared.gained]
    for side, cells, paired in (
        ("A", compared.only_a, [pair.a for pair in pairs]),
        ("B", compared.only_b, [pair.b for pair in pairs]),
    ):
        of_side = (*cells, *paired)
        named = [f"{cell.slug}{_apart(cell, of_side)}" for cell in cells[:_MOST_UNPAIRED]]
        lines += [f"only in {side}: {name}" for name in named]
        if others := len(cells) - len(named):
            lines.append(f"only in {side}: {counted(others, 'other cell')}")
    return lines


def _apart(cell: CellPasses, cells: Sequence[CellPasses]) -> str:
    """Return the work and the settings that tell a cell from others of the same slug."""
    own = _apart_by(cell)
    alike = [_apart_by(other) for other in cells if other.slug == cell.slug]
    settings = [
        f"{name}={value}"
        for name, value in own.items()
        if any(other.get(name) != value for other in alike)
    ]
    return f" ({', '.join(settings)})" if settings else ""


def _apart_by(cell: CellPasses) -> dict[str, Any]:
    """Return what may tell a cell from another; how long an answer is follows from its kind."""
    follows = FOLLOWING["answer"] if cell.facts["answer"] != "free" else ()
    work = {name: cell.facts[name] for name in WORK if name not in (*SHAPE, *follows)}
    return work | dict(cell.settings)


def gate(closed: Gate, metric: schema.Column) -> list[str]:
    """Return each cell that fails, those undecided, and the result."""
    lines = [f"FAIL {_kept(each, metric)}, below {closed.limit:g}" for each in closed.below]
    lines += [f"FAIL {each.b.slug}: ok in A, {each.b.outcome} in B" for each in closed.lost]
    lines += [
        f"UNDECIDED {_kept(each, metric)}, may be below {closed.limit:g}; add repeats"
        for each in closed.undecided
    ]
    if not closed.failed:
        lines.append(f"no cell is significantly below {closed.limit:g}")
    return lines


def _kept(change: Change, metric: schema.Column) -> str:
    """Name a cell with its ratio, turned so that less is worse."""
    ratio, turned = kept(change, metric), "A / B" if less_is_better(metric) else "B / A"
    return (
        f"{change.pair.a.slug}: {turned} {number(ratio.value)}x "
        f"{interval(ratio.ci_low, ratio.ci_high)}"
    )


def to_record(compared: Compared, closed: Gate | None) -> dict[str, Any]:
    """Return all of it as plain values."""
    return {
        "metric": compared.metric.name,
        "unit": compared.metric.unit,
        "per_gpu": compared.per_gpu,
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
        "accuracy_difference": None if change.answers is None else _plain(change.answers),
        "accuracy_called": change.quality in CALLED,
        "same_labels": None if change.same_labels is None else change.same_labels.value,
    }


def _plain(found: PairedDifference) -> dict[str, float | int | None]:
    return {
        "value": found.value,
        "ci_low": found.ci_low,
        "ci_high": found.ci_high,
        "p_value": found.p_differs,
        "num_texts": found.num_texts,
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
