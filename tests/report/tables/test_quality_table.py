"""What ``show`` says of labels."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import numpy as np
from tests.fabricated import Way, draw, row
from tests.report.tables.terminal import printed

from packsweep.analysis import contrasts, quality
from packsweep.report.tables import quality_table
from packsweep.report.tables import table as table_
from packsweep.results import shares, stats

WAYS = (Way(accuracy=0.9), Way(accuracy=0.7, pack_size=4))
ROWS = [row(way, 400) for way in WAYS]
ANSWERS = draw(WAYS, ROWS, np.random.default_rng(0))


def compared(verdict: stats.Verdict) -> contrasts.Comparison:
    base, cell = (ANSWERS[each["group_id"]] for each in ROWS)
    return contrasts.Comparison(
        cell=cell.group_id,
        baseline=base.group_id,
        axis="strategy",
        ratio=stats.ratio([], []),
        answers=quality.difference(cell, base),
        quality=verdict,
    )


def test_a_line_tells_difference_units_and_verdict() -> None:
    (line,) = quality_table.comparisons([compared("down")], ROWS)
    assert line.startswith("chunked4 vs separate, n=400: -1")
    assert line.endswith("over 100 prompts, fewer correct")


def test_comparisons_of_one_slug_are_told_apart_by_their_settings() -> None:
    """Of two settings of the texts, each compared with separate prompts, no line is twice there."""
    rows = [
        {**each, "text_max_tokens": size, "group_id": name, "cell_id": name}
        for size in (0, 8)
        for each in ROWS
        for name in (f"{each['cell_id']}{size}",)
    ]
    pairs = (rows[0], rows[1]), (rows[2], rows[3])
    found = [
        replace(compared("down"), cell=cell["group_id"], baseline=base["group_id"])
        for base, cell in pairs
    ]
    told = [line.partition(":")[0] for line in quality_table.comparisons(found, rows)]
    assert told == ["chunked4 vs separate, n=400", "chunked4 vs separate, n=400 text_max_tokens=8"]


def test_of_many_comparisons_those_that_are_not_significant_are_counted() -> None:
    rows = [*ROWS, *({**ROWS[1], "n": n, "cell_id": str(n), "group_id": str(n)} for n in range(12))]
    near = [replace(compared("not_shown"), cell=str(n)) for n in range(12)]
    first, last = quality_table.comparisons([compared("down"), *near], rows)
    assert first.endswith("fewer correct")
    assert last == "12 others: no significant difference (packsweep report lists them)"


def test_a_comparison_of_speeds_alone_has_no_line() -> None:
    assert quality_table.comparisons([replace(compared("down"), answers=None)], ROWS) == []


def test_texts_taken_as_independent_are_said() -> None:
    few = replace(
        compared("not_shown"),
        answers=shares.PairedDifference(
            num_texts=8, value=0.0, ci_low=-0.3, ci_high=0.3, num_units=8, independence_assumed=True
        ),
    )
    (line,) = quality_table.comparisons([few], ROWS)
    assert line.endswith(
        "+0.0 points [-30.0, +30.0] over 8 texts taken as independent, no difference shown"
    )


def test_the_table_has_a_line_for_each_cell_and_label() -> None:
    base = quality.baseline(ROWS, ANSWERS)
    found = [quality.of_cell(ANSWERS[each["group_id"]], base) for each in ROWS]
    table = quality_table.table(found, ROWS)
    cells = {column.name: column.cells for column in table.columns}
    assert cells["strategy"] == ("separate",) * 3 + ("chunked4",) * 3
    assert cells["label"] == ("all", "positive", "negative") * 2
    in_first_cell = {column.heading: column.cells[0:3:2] for column in table.columns[-6:]}
    assert in_first_cell == {
        "accuracy": ("88% [85, 91]", ""),
        "macro F1": ("0.88 [0.85, 0.92]", ""),
        "precision": ("", "88% [83, 92]"),
        "recall": ("", "89% [84, 93]"),
        "predicted": ("", "50% [46, 55]"),
        "kappa": ("-", ""),
    }
    assert "over prompts" in "\n".join(quality_table.meaning(found))
    assert quality_table.to_record(found[1])["confusion"][0]["num_texts"] > 0


def test_cells_of_one_slug_are_told_apart_by_their_settings() -> None:
    ways = (Way(accuracy=0.9), Way(accuracy=0.9, template="chat"))
    rows = [row(way, 40) for way in ways]
    answers = draw(ways, rows, np.random.default_rng(0))
    base = quality.baseline(rows, answers)
    found = [quality.of_cell(answers[each["group_id"]], base) for each in rows]
    table = quality_table.table(found, rows)
    (template,) = (column.cells for column in table.columns if column.name == "template")
    assert template == ("original",) * 3 + ("chat",) * 3


def test_what_tells_a_cell_apart_stands_above_its_labels_in_80_columns() -> None:
    base = quality.baseline(ROWS, ANSWERS)
    found = [quality.of_cell(ANSWERS[each["group_id"]], base) for each in ROWS]
    parts, left_out = table_.to_rich(quality_table.table(found, ROWS), 80)
    assert " strategy=separate n=400 duplication=1" in printed(parts)
    assert not left_out


def _confused(labels: list[str], counts: dict[tuple[str, str], int], width: int) -> table_.Table:
    task = {"labels": labels, "instruction": "{labels}?"}
    cells = [{**ROWS[0], "task": "own", "task_settings": json.dumps(task)}]
    rows = [
        {"cell_id": ROWS[0]["cell_id"], "expected": expected, "found": found, "num_texts": number}
        for (expected, found), number in counts.items()
    ]
    return quality_table.confusion(rows, cells, width)


def test_confused_labels_stand_in_the_order_of_the_task() -> None:
    """Stars from 1 to 5 stay in order, whichever text came first."""
    found = _confused(["1", "2", "3"], {("3", "1"): 5, ("1", "3"): 2, ("2", ""): 1}, 100)
    *_, expected, one, two, three, none = found.columns
    assert (expected.cells, one.cells, two.cells) == (("1", "2", "3"), ("0", "0", "5"), ("0",) * 3)
    assert (three.cells, none.cells) == (("2", "0", "0"), ("0", "1", "0"))


def test_more_labels_than_fit_are_pairs() -> None:
    """Of sixty labels the most frequent mistakes are shown, not columns of one letter each."""
    labels = [f"Billing > Refund > {number}" for number in range(60)]
    counts = dict.fromkeys(itertools.pairwise(labels), 1)
    found = _confused(labels, {**counts, (labels[7], labels[3]): 9, (labels[0],) * 2: 90}, 120)
    *_, expected, predicted, texts = found.columns
    assert [expected.cells[0], predicted.cells[0], texts.cells[:2]] == [
        labels[7],
        labels[3],
        ("9", "1"),
    ]
    assert len(texts.cells) == 20
    assert found.note == "40 rarer pairs left out"
