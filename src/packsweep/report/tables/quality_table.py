"""The tables of ``show --quality``, ``--positions`` and ``--confusion``; answers compared."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from packsweep.analysis import labels
from packsweep.analysis.compare import CALLED
from packsweep.analysis.contrasts import Comparison
from packsweep.analysis.quality import LabelQuality, Quality
from packsweep.errors import counted
from packsweep.report import cell
from packsweep.report.format import count, figure, percent
from packsweep.report.tables.cells_table import cell_columns
from packsweep.report.tables.footer import significant
from packsweep.report.tables.table import Column, Table, fit, of_rows, total
from packsweep.results.schema import Row
from packsweep.results.shares import MIN_PROMPTS, Figure, PairedDifference
from packsweep.results.stats import Verdict
from packsweep.sweep.task import from_settings

# Heading -> its rank: the largest goes first where room is short.
_HEADINGS = {
    "label": 0,
    "texts": 0,
    "accuracy": 0,
    "macro F1": 0,
    "precision": 0,
    "recall": 0,
    "predicted": 1,
    "kappa": 2,
}
_SAID = {
    "up": "more correct",
    "down": "fewer correct",
    "chance": "not significant",
    "not_shown": "no difference shown",
    "no_interval": "no interval",
}


def table(found: Sequence[Quality], rows: Sequence[Row]) -> Table:
    """Return a line for every cell, and below it one for every label."""
    by_group, order = {quality.group_id: quality for quality in found}, _order(rows)
    cells = [row for row in rows if row["group_id"] in by_group]
    body = [_lines(by_group[row["group_id"]], order) for row in cells]
    return _beside(cells, tuple(_HEADINGS), body, ranks=_HEADINGS)


def _lines(quality: Quality, order: Callable[[str], int]) -> list[tuple[str, ...]]:
    kappa = quality.agreement.kappa if quality.agreement else Figure()
    whole = (f"{quality.num_texts:,}", _percent(quality.accuracy), _plain(quality.macro_f1))
    own = sorted(quality.labels, key=lambda label: order(label.label))
    return [
        ("all", *whole, "", "", "", _plain(kappa)),
        *((label.label, *_label(label), "") for label in own),
    ]


def _label(label: LabelQuality) -> list[str]:
    shares = (label.precision, label.recall, label.found_share)
    return [f"{label.num_expected:,}", "", "", *(_percent(share) for share in shares)]


def _percent(found: Figure) -> str:
    return figure(found, digits=0, as_percent=True)


def _plain(found: Figure) -> str:
    return figure(found, digits=2)


def meaning(found: Sequence[Quality]) -> list[str]:
    """Return what the intervals and the columns mean."""
    lines = [
        "95% intervals: Wilson's, of macro F1 and kappa the delta method's",
        "an answer without a label counts as wrong",
    ]
    if any(quality.unit == "prompt" for quality in found):
        lines.append("texts of one prompt are not independent: intervals are over prompts")
    assumed = sum(quality.independence_assumed for quality in found)
    if assumed:
        lines.append(
            f"with fewer than {MIN_PROMPTS} prompts, as in {assumed} of {len(found)} cells, "
            "intervals take texts as independent and are too narrow"
        )
    baselines = {quality.agreement.baseline for quality in found if quality.agreement}
    lines += [f"kappa: agreement with {name}" for name in sorted(baselines)]
    return lines


def comparisons(compared: Sequence[Comparison], rows: Sequence[Row]) -> list[str]:
    """Return ``packed vs separate, n=8: -3.0 points [-5.1, -0.9] over ...`` for each.

    Of many, those that are not significant are counted.
    """
    names = cell.names(rows)
    lines = {
        f"{cell.pair(names[each.cell], names[each.baseline])}: "
        f"{difference(each.answers, each.quality)}": each.quality in CALLED
        for each in compared
        if each.answers is not None
    }
    return significant(lines)


def difference(found: PairedDifference, said: Verdict) -> str:
    """Return ``-3.0 points [-5.1, -0.9] over 400 texts, fewer correct``."""
    value, low, high = (100 * (end or 0.0) for end in (found.value, found.ci_low, found.ci_high))
    units = f"{found.num_units:,} {found.unit}s"
    if found.independence_assumed:
        units += " taken as independent"
    return f"{value:+.1f} points [{low:+.1f}, {high:+.1f}] over {units}, {_SAID[said]}"


def to_record(quality: Quality) -> dict[str, Any]:
    """Return a cell's quality for a script; the confusion as a list."""
    record = asdict(quality)
    record["confusion"] = [
        {"expected": expected, "found": found, "num_texts": count}
        for (expected, found), count in quality.confusion.items()
    ]
    return record


def positions(rows: Sequence[Row], cells: Sequence[Row]) -> Table:
    """Return a table of ``labels.by_position`` over the ``cells`` of a summary.

    Positions are counted from 1.
    """
    headings = ("position\nin prompt", "texts", "labels\nfound", "accuracy\n(95% CI)")
    body = [
        [
            (span(row), count(row["num_texts"]), percent(row["coverage"]), cell.accuracy(row))
            for row in own
        ]
        for own in _by_cell(rows, cells)
    ]
    return _beside(cells, headings, body, text=0)


def span(row: Row) -> str:
    """Return the positions of a row of ``labels.by_position``, ``7`` or ``7-9``."""
    first, last = row["first"] + 1, row["last"] + 1
    return str(first) if first == last else f"{first}-{last}"


_NO_LABEL = "no label"
# Of more labels than fit side by side, so many pairs of each cell are shown.
_MOST_PAIRS = 20


def confusion(rows: Sequence[Row], cells: Sequence[Row], width: int = 200) -> Table:
    """Return a table of ``labels.confusion``: a line per cell and expected label.

    Where that is wider than ``width`` letters: the pairs of labels that are most often confused.
    """
    names = _labels(rows, cells)
    predicted = (*names, labels.NONE)
    body = []
    for own in _by_cell(rows, cells):
        counts = {(row["expected"], row["found"]): row["num_texts"] for row in own}
        body.append(
            [
                (expected, *(count(counts.get((expected, label), 0)) for label in predicted))
                for expected in (names if own else ())
            ]
        )
    matrix = _beside(
        cells, ("expected", *(f"predicted\n{label or _NO_LABEL}" for label in predicted)), body
    )
    kept, gap, _ = fit(matrix.columns, width)
    return matrix if total(kept, gap) <= width else _most_confused(rows, cells)


def _most_confused(rows: Sequence[Row], cells: Sequence[Row]) -> Table:
    """Return the wrong labels that each cell gave most often."""
    body, num_left_out = [], 0
    for own in _by_cell(rows, cells):
        wrong = [row for row in own if row["expected"] != row["found"]]
        wrong.sort(key=lambda row: -row["num_texts"])
        num_left_out += len(wrong[_MOST_PAIRS:])
        body.append(
            [
                (row["expected"], row["found"] or _NO_LABEL, count(row["num_texts"]))
                for row in wrong[:_MOST_PAIRS]
            ]
        )
    made = _beside(cells, ("expected", "predicted", "texts"), body, text=2)
    note = f"{counted(num_left_out, 'rarer pair')} left out" if num_left_out else None
    return replace(made, note=note)


def _beside(
    cells: Sequence[Row],
    headings: Sequence[str],
    body: Sequence[Sequence[tuple[str, ...]]],
    *,
    text: int = 1,
    ranks: Mapping[str, int] | None = None,
) -> Table:
    """Return the lines of each cell beside what tells it apart, a section for each cell."""
    lengths = [len(lines) for lines in body]
    repeated = [
        replace(column, cells=_repeated(column, lengths), once=True)
        for column in cell_columns(cells)
    ]
    own = of_rows(headings, list(itertools.chain(*body)), text=text, ranks=ranks)
    ends = itertools.accumulate(length for length in lengths if length)
    return Table(columns=(*repeated, *own.columns), sections=tuple(end - 1 for end in ends)[:-1])


def _repeated(column: Column, lengths: Sequence[int]) -> tuple[str, ...]:
    pairs = zip(column.cells, lengths, strict=True)
    return tuple(itertools.chain(*([str(text)] * length for text, length in pairs)))


def _labels(rows: Sequence[Row], cells: Sequence[Row]) -> list[str]:
    """Return every label of a table's rows, in the order of their task."""
    names = dict.fromkeys(row[column] for column in ("expected", "found") for row in rows)
    return sorted((name for name in names if name and name != labels.NONE), key=_order(cells))


def _order(cells: Sequence[Row]) -> Callable[[str], int]:
    """Return where a label stands among those of the cells' tasks."""
    asked = (from_settings(cell["task"], cell["task_settings"]) for cell in cells)
    places = {label: place for task in asked for place, label in enumerate(task.labels)}
    return lambda label: places.get(label, len(places))


def _by_cell(rows: Sequence[Row], cells: Sequence[Row]) -> list[list[Row]]:
    return [[row for row in rows if row["cell_id"] == each["cell_id"]] for each in cells]
