"""Numbers into text: undefined is a dash, what varies has a column, lines say what was measured."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes import cell, pass_row
from tests.report.tables.terminal import printed

from packsweep.analysis.contrasts import Comparison
from packsweep.report import cell as cell_
from packsweep.report import format as fmt
from packsweep.report import progress
from packsweep.report.tables import cells_table, footer, table
from packsweep.results import schema
from packsweep.results.shares import Figure
from packsweep.results.stats import Ratio
from packsweep.run.task import Status

MEASURED = {
    "num_repeats": 3,
    "requests_per_s_median": 1234.5,
    "total_tokens_per_s_median": 21299.52,
    "output_tokens_per_s_median": 65.754,
    "texts_per_s_median": 65.75,
    "texts_per_s_mean": 60.0,
    "texts_per_s_ci_low": 57.0,
    "texts_per_s_ci_high": 63.0,
    "prompt_tokens": 129180,
    "output_tokens": 400,
    "cached_share": 0.0,
    "coverage": None,
    "accuracy": 0.876,
    "device": "simulated H200",
}


def _row(outcome: str = "ok", reason: str | None = None, **changes: Any) -> dict[str, Any]:
    """Return a row of the summary."""
    row: dict[str, Any] = dict.fromkeys(column.name for column in schema.SUMMARY)
    shared = pass_row(cell(), outcome=outcome, reason=reason)
    row.update({name: value for name, value in shared.items() if name in row})
    row.update({"num_repeats": 0, **(MEASURED if outcome == "ok" else {}), **changes})
    return row


def _lines(rows: list[dict[str, Any]]) -> list[str]:
    """Return the lines of the table that are not empty."""
    parts, _ = table.to_rich(cells_table.summary(rows), 200)
    return list(filter(None, printed(parts)))


def _settings(**changes: Any) -> str:
    return json.dumps({**cell().settings, **changes})


@pytest.mark.parametrize(
    ("function", "value", "text"),
    [
        (fmt.number, 65.754, "65.75"),
        (fmt.number, 0.0, "0.00"),
        (fmt.number, None, "-"),
        (fmt.count, 129180, "129,180"),
        (fmt.count, 0, "0"),
        (fmt.count, None, "-"),
        (fmt.percent, 0.876, "88%"),
        (fmt.percent, 0.0, "0%"),
        (fmt.percent, None, "-"),
        (fmt.small, 0.012345, "0.0123"),
        (fmt.small, 999.6, "1,000"),
        (fmt.small, 12345.6, "12,346"),
    ],
)
def test_value(function: Any, value: float | None, text: str) -> None:
    """A value is rounded, and undefined is a dash and never 0."""
    assert function(value) == text


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (Figure(value=0.912, ci_low=0.88, ci_high=0.936), "91.2% [88.0, 93.6]"),
        (Figure(value=0.912), "91.2%"),
        (Figure(value=0.0, ci_low=-0.0004, ci_high=0.01), "0.0% [0.0, 1.0]"),
        (Figure(), "-"),
    ],
)
def test_figure(found: Figure, text: str) -> None:
    """A figure has its interval behind it, where there is one."""
    assert fmt.figure(found, digits=1, as_percent=True) == text


@given(st.none() | st.floats(0, 1e12))
def test_undefined_alone_is_dash(value: float | None) -> None:
    """A dash stands for None and for nothing else."""
    for function in (fmt.number, fmt.count, fmt.percent):
        assert (function(value) == fmt.DASH) == (value is None)


def test_half_width() -> None:
    """57 to 63 around 60 is 5 %."""
    assert cell_.half_width(_row(), "texts_per_s") == "±5.0%"


def test_half_width_one_repeat() -> None:
    """One repeat has no interval to show."""
    row = _row(texts_per_s_ci_low=None, texts_per_s_ci_high=None)
    assert cell_.half_width(row, "texts_per_s") == ""


def test_strategy() -> None:
    """The pack size belongs to the name of the strategy."""
    assert cell_.strategy({"strategy": "chunked", "pack_size": 4}) == "chunked4"
    assert cell_.strategy({"strategy": "packed", "pack_size": None}) == "packed"


def test_vllm_form() -> None:
    """The lines are those of vllm bench throughput, as the author's log has them."""
    assert cell_.vllm_form(_row(requests_per_s_median=65.75)) == [
        "Throughput: 65.75 requests/s, 21299.52 total tokens/s, 65.75 output tokens/s",
        "Total num prompt tokens:  129180",
        "Total num output tokens:  400",
    ]


def test_summary_measured() -> None:
    """A line has the cell's values and its numbers, undefined ones as dashes."""
    words = _lines([_row()])[-1].split()
    assert words[:3] == ["packed", "2", "1"]
    assert words[3:] == ["1234.50", "21299.52", "65.75", "65.75±5.0%", "0%", "-", "88%", "ok"]


def test_summary_failed() -> None:
    """A failed cell has dashes for all numbers, and its outcome."""
    words = _lines([_row("oom", "no room")])[-1].split()
    assert words == ["packed", "2", "1", *"-------", "oom"]


def test_summary_constant_settings() -> None:
    """What is the same in all cells has no column."""
    lines = _lines([_row(), _row(n=3)])
    assert "max num" not in "\n".join(lines)


def test_summary_varying_settings() -> None:
    """An engine setting that varies has a column of its own."""
    rows = [_row(engine_settings=_settings(max_num_seqs=size)) for size in (8, 16)]
    lines = _lines(rows)
    assert "max num" in "\n".join(lines)
    assert [line.split()[1] for line in lines[-2:]] == ["8", "16"]


def test_summary_varying_cache_state() -> None:
    """So has a value of the grid."""
    lines = _lines([_row(), _row(cache_state="off")])
    assert "state" in "\n".join(lines)


def test_conditions() -> None:
    """Below the table stand device, model, what was not scored, and how many repeats."""
    rows = [_row(num_processes=1), _row("oom", "no room", device=None, num_processes=0)]
    sample = "median of 3 repeats in one process, ± half the 95% interval of the repeats"
    assert footer.conditions(rows) == [
        "SIMULATED: computed from a roofline, not measured",
        f"simulated H200, some/model; {sample}",
        "speed only: the weights are random, so answers are not scored",
    ]
    more = [_row(num_processes=2, num_repeats=6), _row(num_processes=3, num_repeats=9)]
    assert "median of 6 to 9 repeats in 2 to 3 processes" in footer.conditions(more)[1]
    once = _row(num_processes=1, num_repeats=1)
    assert footer.conditions([once])[1] == "simulated H200, some/model; measured once"


def test_conditions_nothing_measured() -> None:
    """Without a good cell no repeats are claimed."""
    row = _row("oom", "no room", num_processes=0)
    assert footer.conditions([row])[-1] == "simulated, some/model; nothing was measured"


def test_reasons() -> None:
    """Every cell without numbers is reported with its reason, and no other."""
    failed = _row("oom", "no room")
    assert footer.reasons([_row(), failed]) == [f"{failed['cell_id']}: oom: no room"]


def test_reasons_of_cells_that_failed_alike_are_one_line() -> None:
    failed = [_row("oom", why, cell_id=name) for name, why in (("a", "x"), ("b", "y"), ("c", "x"))]
    assert footer.reasons(failed) == ["a and 1 other cell: oom: x", "b: oom: y"]


@pytest.mark.parametrize(
    ("outcome", "more", "again", "line"),
    [
        (
            "ok",
            {"texts_per_s": 2.0, "cached_share": 0.5},
            False,
            "[1/4] c: ok, 2.00 texts/s, 50% cached [7 s]",
        ),
        ("oom", {"reason": "no room"}, False, "[1/4] c: oom: no room [7 s]"),
        ("crashed", {"reason": "x"}, True, "[1/4] c: crashed: x [7 s]; will retry"),
    ],
)
def test_status_line(outcome: str, more: dict[str, Any], again: bool, line: str) -> None:  # noqa: FBT001
    """An attempt that ended is one line."""
    status = Status(cell_id="c", attempt_id="a", attempt=0, outcome=outcome, wall_s=7.2, **more)
    assert progress.status_line(status, position="[1/4]", again=again) == line


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (0.14, 0.69, "38% = guess"),
        (0.1, 0.4, "38% < guess"),
        (0.52, 0.69, "38% (52-69%)"),
        (None, None, "38%"),
    ],
)
def test_accuracy_beside_the_majority_class(
    low: float | None, high: float | None, text: str
) -> None:
    """An accuracy whose interval includes the majority-class share is shown as a guess."""
    row = _row(accuracy=0.375, accuracy_ci_low=low, accuracy_ci_high=high, majority_class_share=0.5)
    assert cell_.accuracy(row) == text
    marked = any(
        line.startswith("= guess") for line in footer.conditions([{**row, "num_processes": 1}])
    )
    assert marked == ("guess" in text)


def test_comparisons_are_named_and_judged() -> None:
    """Two cells are named by what differs; many comparisons show the significant ones."""
    rows = [_row(cell_id=name, strategy=name) for name in ("separate", "packed")]
    ratio = Ratio(
        value=0.69, ci_low=0.65, ci_high=0.73, between_processes=True, log_error=0.02, freedom=4
    )
    slower = Comparison(
        cell="packed", baseline="separate", axis="strategy", ratio=ratio, speed="down"
    )
    assert footer.comparisons([slower], rows) == [
        "packed vs separate, n=2: 0.69x [0.65, 0.73], slower (significant)"
    ]
    near = [
        replace(
            slower,
            cell=f"chunked{index}",
            ratio=replace(ratio, value=1.0, ci_low=0.9, ci_high=1.1),
            speed="not_shown",
        )
        for index in range(20)
    ]
    rows += [
        _row(cell_id=each.cell, strategy="chunked", pack_size=index + 1)
        for index, each in enumerate(near)
    ]
    lines = footer.comparisons([slower, *near], rows)
    assert len(lines) == 2
    assert lines[1] == "20 others: no significant difference (packsweep report lists them)"
    (line,) = footer.comparisons(near, rows)
    assert line.startswith("20 comparisons: no significant difference")
