"""Two folders side by side: what is paired, what is called, what is refused, what fails a gate."""

from __future__ import annotations

import itertools
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fabricated import Way, draw
from tests.fabricated import row as fabricated_row
from tests.fakes import cell, pass_row
from tests.simulated_passes import passes, simulated

from packsweep.analysis import axes, compare
from packsweep.analysis.compare import differences, pairing
from packsweep.errors import ResultsError
from packsweep.report.tables import compare_table, table
from packsweep.report.tables.compare_table import word
from packsweep.results import schema, stats
from packsweep.results.shares import Figure
from packsweep.sweep.cells import Cell
from packsweep.sweep.spec import Format

Rows = list[dict[str, Any]]
CELL = cell()
TWELVE = {
    "strategy": ["packed", "separate", "chunked"],
    "n": [4, 8],
    "pack_size": [2],
    "duplication": [1, 2],
}


def measured(of: Cell, *processes: list[float], **values: Any) -> Rows:
    """Return passes of one cell: processes, each a list of texts per second."""
    return passes(
        *(
            pass_row(of, f"{of.cell_id}-{process}", texts_per_s=speed, **values)
            for process, repeats in enumerate(processes)
            for speed in repeats
        )
    )


def failed(of: Cell, outcome: str = "oom") -> Rows:
    return passes(pass_row(of, outcome=outcome, reason="no room"))


def settings(**values: Any) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted((dict(CELL.engine_settings) | values).items()))


def the_word(a: Rows, b: Rows, metric: str = "texts_per_s") -> str:
    found = compare.compare(a, b, metric)
    return word(found.changes[0], found.metric)


# Answers.


def test_answers_are_compared_over_the_same_texts() -> None:
    """A loss of correct labels is tested beside speeds; the share of same labels is reported."""
    ways = (Way(accuracy=0.95), Way(accuracy=0.8))
    rows = [fabricated_row(way, 400) for way in ways]
    drawn = [
        draw([way], [of], np.random.default_rng(0), alike=1.0)
        for way, of in zip(ways, rows, strict=True)
    ]
    of = replace(CELL, n=400)
    (name,) = {of.group_id}
    a, b = ({name: next(iter(own.values()))} for own in drawn)
    speeds = [measured(of, [10.0, 10.1, 10.2]) for _ in range(2)]
    (change,) = compare.compare(speeds[0], speeds[1], answers=(a, b)).changes
    assert change.answers is not None
    assert change.same_labels is not None
    assert change.quality == "down"
    assert change.answers.value == pytest.approx((change.same_labels.value or 0) - 1)
    (line,) = compare_table.answers([change])
    assert line.startswith("correct labels, B - A, packed-n400-dup1-cold: -1")
    assert "over 400 texts, fewer correct; 8" in line


def test_answers_of_cells_of_one_name_are_told_apart() -> None:
    """What varies is named; how long a constrained answer may be follows from it."""
    forms: dict[Format, int] = {"lines": 9, "json": 18}
    of = [
        replace(CELL, n=4, answer="choice", format=form, output_tokens_per_text=room)
        for form, room in forms.items()
    ]
    side = [row for each in of for row in measured(each, [1.0])]
    same = Figure(value=1.0)
    found = [replace(each, same_labels=same) for each in compare.compare(side, side).changes]
    assert sorted(compare_table.answers(found)) == [
        "labels, packed-n4-dup1-cold with format=json: 100% of texts have the same label",
        "labels, packed-n4-dup1-cold with format=lines: 100% of texts have the same label",
    ]


def test_without_answers_speeds_alone_are_compared() -> None:
    (change,) = compare.compare(measured(CELL, [1.0, 2.0]), measured(CELL, [1.0, 2.0])).changes
    assert (change.answers, change.same_labels) == (None, None)
    assert compare_table.answers([change]) == []


# What is called.


def equal_ratios(source: random.Random, cells: int, processes: int) -> list[stats.Ratio]:
    """Return the ratios of ``cells`` that differ by chance alone, three repeats a process."""

    def side() -> list[list[float]]:
        return [[source.gauss(100, 1) for _ in range(3)] for _ in range(processes)]

    return [stats.ratio(side(), side()) for _ in range(cells)]


@pytest.mark.parametrize("processes", [1, 4])
@pytest.mark.parametrize("cells", [1, 12, 30])
def test_equal_results_are_called_in_5_of_100_at_most(cells: int, processes: int) -> None:
    """However many cells are compared, any is called in about 5 % of the comparisons at most."""
    source, trials = random.Random(5), 200
    found = [stats.verdicts(equal_ratios(source, cells, processes)) for _ in range(trials)]
    called = sum(any(one in compare.CALLED for one in each) for each in found)
    assert called <= 19  # 10 expected at most; three binomial standard deviations above


def test_intervals_alone_would_call_equal_results() -> None:
    """Without Holm 12 cells have an interval that excludes 1 in a third of the comparisons."""
    source = random.Random(5)
    found = [any(ratio.differs for ratio in equal_ratios(source, 12, 4)) for _ in range(200)]
    assert sum(found) > 50


@pytest.fixture(scope="module")
def equal(byte_model: Path) -> list[Rows]:
    """Ten simulated folders of twelve cells that differ in the seed alone."""
    seeds = ({"seed": seed, "spread": 0.01} for seed in range(10))
    return [simulated(byte_model, grid=TWELVE, simulated=seed) for seed in seeds]


def test_equal_simulated_results_are_seldom_called(equal: list[Rows]) -> None:
    """Of 45 pairs of such folders few call any cell; with intervals alone 15 or more would."""
    pairs = itertools.combinations(equal, 2)
    called = sum(
        any(each.verdict in compare.CALLED for each in compare.compare(a, b).changes)
        for a, b in pairs
    )
    assert called <= 12


def test_slowdown_of_5_percent_is_called_in_every_cell(byte_model: Path) -> None:
    """Four processes a side at a spread of 1 %: 12 cells, each called slower."""
    tables: dict[str, Any] = {"grid": TWELVE, "measure": {"replicates": 4}}
    a = simulated(byte_model, **tables, simulated={"seed": 1, "spread": 0.01})
    b = simulated(byte_model, **tables, simulated={"seed": 2, "spread": 0.01, "slowdown": 1.05})
    found = compare.compare(a, b)
    assert [word(change, found.metric) for change in found.changes].count("slower") >= 11
    assert all(change.ratio.between_processes for change in found.changes)


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_calls_less_than_each_alone_and_more_than_bonferroni(p_values: list[float]) -> None:
    called = stats.holm(p_values, 0.05)
    alone = [p <= 0.05 for p in p_values]
    bonferroni = [p <= 0.05 / len(p_values) for p in p_values]
    assert all(a >= b >= c for a, b, c in zip(alone, called, bonferroni, strict=True))


def test_p_value_is_small_exactly_where_the_interval_excludes_1() -> None:
    """Test and interval agree, whatever the draws."""
    source = random.Random(3)
    for _ in range(300):
        sides = [[[source.gauss(m, 1)] for _ in range(3)] for m in (20, 22)]
        found = stats.ratio(sides[0], sides[1])
        assert found.p_differs is not None
        assert found.differs == (found.p_differs < 0.05)


def test_one_repeat_is_not_called() -> None:
    assert the_word(measured(CELL, [10.0]), measured(CELL, [5.0])) == "one repeat: no interval"


def test_value_of_zero_is_not_called() -> None:
    a, b = measured(CELL, [10.0, 10.1]), measured(CELL, [0.0, 0.1])
    assert the_word(a, b) == "values of 0: no interval"


def test_interval_that_includes_1_is_not_called() -> None:
    assert the_word(measured(CELL, [10.0, 11.0]), measured(CELL, [10.1, 10.9])) == "inconclusive"


def test_longer_duration_is_slower() -> None:
    """For a metric of seconds a ratio above 1 is slower."""
    a, b = (
        measured(CELL, *([1.0, 1.01], [1.0, 1.01]), duration_s=duration) for duration in (1.0, 2.0)
    )
    assert the_word(a, b, "duration_s") == "slower"


def test_metric_of_an_attempt_counts_each_process_once() -> None:
    """Repeats of one process share the start of its engine, so they give it no interval."""
    a, b = (measured(CELL, [1.0, 1.0], engine_start_s=start) for start in (1.0, 2.0))
    assert the_word(a, b, "engine_start_s") == "one process: no interval"


def test_shared_gpus_are_compared_inside_each() -> None:
    """Two GPUs of unlike speed, the same 10 % loss on both: a narrow interval."""

    def side(share: float) -> Rows:
        return [
            row | {"device_uuid": gpu}
            for gpu, speed in (("slow", 10.0), ("fast", 20.0))
            for row in measured(CELL, [speed * share, speed * share], device="H200")
        ]

    for rows in (a := side(1.0), b := side(0.9)):
        for row in rows:
            row["attempt_id"] = row["device_uuid"]
    (change,) = compare.compare(a, b).changes
    assert change.ratio.ci_high == pytest.approx(0.9)
    assert change.same_gpu


def test_engines_of_other_sizes_are_compared_by_the_gpu() -> None:
    """150 texts/s on two GPUs against 100 on one; joules are those of all GPUs already."""
    one = {"num_gpus": 1, "device_uuid": "a", "energy_j": 10.0}
    two = {"num_gpus": 2, "device_uuid": "a,b", "energy_j": 30.0}
    a = measured(CELL, [100.0, 100.0], [101.0, 101.0], **one)
    b = measured(replace_settings(tensor_parallel_size=2), [150.0, 150.0], [151.5, 151.5], **two)
    found = compare.compare(a, b)
    (change,) = found.changes
    assert (found.per_gpu, change.same_gpu) == (True, True)
    assert change.ratio.value == pytest.approx(0.75)
    assert change.median_a == pytest.approx(100.5)
    assert change.median_b == pytest.approx(75.375)
    headings = [column.heading for column in compare_table.table(found).columns]
    assert "A\ntexts/s\nper GPU" in headings
    assert compare_table.legend(found)[0].startswith("B / A: texts_per_s per GPU, geometric")
    energy = compare.compare(a, b, "energy_j")
    assert not energy.per_gpu
    assert energy.changes[0].ratio.value == pytest.approx(3.0)


# What is paired.


def test_settings_that_differ_between_folders_are_paired_and_listed() -> None:
    a = measured(replace_settings(max_num_seqs=64), [1.0, 1.1], vllm_version="0.26.0")
    b = measured(replace_settings(max_num_seqs=128), [1.0, 1.1], vllm_version="0.32.0")
    found = compare.compare(a, b)
    listed = {each.name: (each.a, each.b) for each in found.differences}
    assert listed["engine.max_num_seqs"] == (("64",), ("128",))
    assert listed["vllm_version"] == (("0.26.0",), ("0.32.0",))


def replace_settings(**values: Any) -> Cell:
    return cell(engine_settings=settings(**values))


def test_settings_that_vary_in_a_folder_tell_its_cells_apart() -> None:
    """A setting that is an axis in A pairs cells by its value; the others are only in A."""
    a = [row for size in (64, 128) for row in measured(replace_settings(max_num_seqs=size), [1.0])]
    b = measured(replace_settings(max_num_seqs=128), [1.0])
    found = compare.compare(a, b)
    (change,) = found.changes
    assert change.pair.axes == {"engine.max_num_seqs": 128}
    assert [each.settings["engine.max_num_seqs"] for each in found.only_a] == [64]
    assert not found.differences


def test_cells_of_one_folder_alone_are_listed() -> None:
    a = measured(CELL, [1.0]) + measured(cell(n=3), [1.0])
    b = measured(CELL, [1.0]) + measured(cell(n=4), [1.0])
    lines = compare_table.unpaired(compare.compare(a, b))
    assert lines == ["only in A: packed-n3-dup1-cold", "only in B: packed-n4-dup1-cold"]


def test_cells_of_one_folder_alone_are_told_from_those_of_the_same_slug() -> None:
    """By their work and their settings, also from cells that have a pair."""
    b = [*measured(CELL, [1.0]), *measured(cell(template="chat"), [1.0])]
    lines = compare_table.unpaired(compare.compare(measured(CELL, [1.0]), b))
    assert lines == ["only in B: packed-n2-dup1-cold (template=chat)"]


def test_many_cells_of_one_folder_alone_are_counted() -> None:
    a = [row for n in range(3, 18) for row in measured(cell(n=n), [1.0])]
    lines = compare_table.unpaired(
        compare.compare([*a, *measured(CELL, [1.0])], measured(CELL, [1.0]))
    )
    assert len(lines) == 13
    assert lines[-1] == "only in A: 3 other cells"


def test_ambiguous_cell_is_refused_in_one_line() -> None:
    """The same cell measured in two ways in one folder: which one is meant?"""
    a = measured(CELL, [1.0]) + measured(cell(repeats=9), [1.0])
    expected = "A holds packed-n2-dup1-cold more than once, differing in repeats .3 and 9.; say"
    with pytest.raises(ResultsError, match=expected):
        compare.compare(a, measured(CELL, [1.0]))


def test_simulated_against_real_is_refused() -> None:
    a, b = measured(CELL, [1.0]), measured(cell(engine="vllm"), [1.0])
    with pytest.raises(ResultsError, match="never compared: A is simulated and B is measured"):
        compare.compare(a, b)


def test_other_reviews_are_refused() -> None:
    a, b = measured(CELL, [1.0]), measured(cell(texts_sha256="other"), [1.0])
    with pytest.raises(ResultsError, match="A and B label different texts"):
        compare.compare(a, b)


def test_nothing_in_common_says_why() -> None:
    a, b = measured(CELL, [1.0]), measured(cell(n=3), [1.0])
    with pytest.raises(ResultsError, match="no cell in common: n is 2 in A and 3 in B"):
        compare.compare(a, b)


def test_empty_folder_is_refused() -> None:
    with pytest.raises(ResultsError, match="B holds no cells"):
        compare.compare(measured(CELL, [1.0]), [])


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("texts_pers", "did you mean texts_per_s?"),
        ("correct_texts_per_s", "counts correct answers"),
        ("accuracy", "counts correct answers"),
        ("coverage", "not a time, a rate or an energy"),
    ],
)
def test_metric_that_cannot_be_compared_is_refused(metric: str, expected: str) -> None:
    with pytest.raises(ResultsError, match=expected):
        compare.compare([], [], metric)


def test_pairs_stand_in_the_order_of_the_grid() -> None:
    rows = [
        row
        for strategy, n in [("separate", 2), ("packed", 12), ("packed", 2)]
        for row in measured(cell(strategy=strategy, n=n), [1.0])
    ]
    found = [each.a.slug for each in pairing.pair(rows, rows).pairs]
    assert found == ["packed-n2-dup1-cold", "packed-n12-dup1-cold", "separate-n2-dup1-cold"]


def test_resolved_setting_is_listed_once() -> None:
    """A default that changed is listed; one that follows a listed setting is not."""
    a, b = (
        measured(
            replace_settings(max_num_seqs=size),
            [1.0],
            engine_resolved=json.dumps({"max_num_seqs": size, "backend": backend}),
        )
        for size, backend in ((64, "A"), (128, "B"))
    )
    found = [each.name for each in differences.between(pairing.pair(a, b).pairs)]
    assert "resolved.backend" in found
    assert "resolved.max_num_seqs" not in found


# The gate.


@pytest.mark.parametrize(
    ("speeds", "failed_", "undecided"),
    [
        ([9.00, 9.01, 9.02], True, False),  # whole interval below 0.95
        ([9.40, 9.50, 9.60], False, True),  # 0.95 inside the interval
        ([9.0, 10.0, 11.0], False, True),  # too wide to tell
        ([9.80, 9.81, 9.82], False, False),  # slower, and called so, but above 0.95
        ([9.0], False, True),  # no interval
    ],
)
def test_gate_fails_where_the_whole_interval_lies_below(
    speeds: list[float], *, failed_: bool, undecided: bool
) -> None:
    other = cell(n=3)
    kept = measured(other, [10.0], [10.01], [10.02])
    a = measured(CELL, [10.0], [10.01], [10.02]) + kept
    b = measured(CELL, *([speed] for speed in speeds)) + kept
    gate = compare.gate(compare.compare(a, b), 0.95)
    assert gate.failed == failed_
    assert [each.pair.a.slug for each in gate.undecided] == ["packed-n2-dup1-cold"] * undecided


def test_gate_turns_the_ratio_where_less_is_better() -> None:
    a, b = (
        measured(CELL, [1.0], [1.0], duration_s=duration) + measured(cell(n=3), [1.0], [1.0])
        for duration in (1.0, 1.2)
    )
    found = compare.compare(a, b, "duration_s")
    assert compare.gate(found, 0.95).failed
    assert "A / B 0.83x" in compare_table.gate(compare.gate(found, 0.95), found.metric)[0]


def test_gate_fails_where_a_cell_is_lost() -> None:
    a = measured(CELL, [1.0, 1.1]) + measured(cell(n=3), [1.0, 1.1])
    b = measured(CELL, [1.0, 1.1]) + failed(cell(n=3))
    found = compare.compare(a, b)
    gate = compare.gate(found, 0.5)
    assert gate.failed
    assert compare_table.gate(gate, found.metric) == ["FAIL packed-n3-dup1-cold: ok in A, oom in B"]


def test_gate_without_any_interval_is_refused() -> None:
    """A gate that can never close is a mistake, not a pass."""
    found = compare.compare(measured(CELL, [1.0]), measured(CELL, [0.1]))
    with pytest.raises(ResultsError, match="nothing can be decided"):
        compare.gate(found, 0.95)


def test_gate_passes_equal_results(equal: list[Rows]) -> None:
    """A limit of 1 with 12 cells: of 45 pairs of equal folders few fail."""
    pairs = itertools.combinations(equal, 2)
    failures = sum(compare.gate(compare.compare(a, b), 1.0).failed for a, b in pairs)
    assert failures <= 9


# What is printed.


def test_legend_says_how_far_one_process_carries() -> None:
    found = compare.compare(measured(CELL, [1.0, 1.01]), measured(CELL, [2.0, 2.01]))
    assert compare_table.table(found).columns[-1].cells == ("faster*",)
    assert any(line.startswith("*: one process per side") for line in compare_table.legend(found))


def test_table_fits_80_columns() -> None:
    """Twelve cells with a long setting fit; medians go before ratio, interval and word."""
    cells = [
        cell(strategy="separate", n=n, engine_settings=settings(max_num_batched_tokens=size))
        for n in (4, 400)
        for size in (16384, 131072)
    ]
    rows = [row for each in cells for row in measured(each, [1234567.0, 1234568.0])]
    kept, gap, _ = table.fit(compare_table.table(compare.compare(rows, rows)).columns, 80)
    assert table.total(kept, gap) <= 80
    assert {"B / A", "95% CI", "B is"} <= {column.heading for column in kept}


def test_record_is_plain() -> None:
    found = compare.compare(measured(CELL, [1.0, 1.01]), measured(CELL, [2.0, 2.01]))
    record = json.loads(json.dumps(compare_table.to_record(found, compare.gate(found, 0.95))))
    assert record["cells"][0]["said"] == "faster"
    assert record["gate"] == {
        "limit": 0.95,
        "failed": False,
        "below": [],
        "undecided": [],
        "lost": [],
    }


def test_every_column_of_a_cell_has_a_part_in_pairing() -> None:
    """A new column is work, a setting, or how was measured: none is overlooked."""
    elsewhere = {"replicate", "engine", "texts_sha256", "prompts_sha256"}
    settings_ = {*axes.JSON_SETTINGS, *axes.SETTINGS}
    known = {*axes.WORK, *settings_, *axes.MEASURE, *elsewhere}
    assert {column.name for column in schema.CELL} == known


def test_environ_is_a_difference() -> None:
    """Variables that were in force on one side alone are listed by name."""
    other = replace(CELL, environ='{"VLLM_ATTENTION_BACKEND": "FLASHINFER"}')
    assert other.cell_id != CELL.cell_id
    found = compare.compare(measured(CELL, [1.0, 1.1]), measured(other, [1.0, 1.1]))
    (difference,) = [each for each in found.differences if each.name.startswith("environ")]
    assert (difference.name, difference.a, difference.b) == (
        "environ.VLLM_ATTENTION_BACKEND",
        ("-",),
        ("FLASHINFER",),
    )
