"""Numbers into text: undefined is a dash, what varies has a column, lines say what was measured."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console, RenderableType
from tests.fakes import cell, pass_row

from packsweep.report import cells_table, columns, footer, progress
from packsweep.report import format as fmt
from packsweep.results import schema
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


def _lines(renderable: RenderableType) -> list[str]:
    """Return the lines that are printed, without empty ones."""
    file = io.StringIO()
    Console(file=file, width=200).print(renderable)
    return [line for line in file.getvalue().splitlines() if line.strip()]


def _table(rows: list[dict[str, Any]]) -> RenderableType:
    return columns.table(columns.fit(cells_table.summary(rows), 200))


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
    ],
)
def test_value(function: Any, value: float | None, text: str) -> None:
    """A value is rounded, and undefined is a dash and never 0."""
    assert function(value) == text


@given(st.none() | st.floats(0, 1e12))
def test_undefined_alone_is_dash(value: float | None) -> None:
    """A dash stands for None and for nothing else."""
    for function in (fmt.number, fmt.count, fmt.percent):
        assert (function(value) == fmt.DASH) == (value is None)


def test_half_width() -> None:
    """57 to 63 around 60 is 5 %."""
    assert fmt.half_width(_row(), "texts_per_s") == "±5.0%"


def test_half_width_one_repeat() -> None:
    """One repeat has no interval to show."""
    row = _row(texts_per_s_ci_low=None, texts_per_s_ci_high=None)
    assert fmt.half_width(row, "texts_per_s") == ""


def test_strategy() -> None:
    """The pack size belongs to the name of the strategy."""
    assert fmt.strategy("chunked", 4) == "chunked4"
    assert fmt.strategy("packed", None) == "packed"


def test_vllm_form() -> None:
    """The lines are those of vllm bench throughput, as the author's log has them."""
    assert fmt.vllm_form(_row(requests_per_s_median=65.75)) == [
        "Throughput: 65.75 requests/s, 21299.52 total tokens/s, 65.75 output tokens/s",
        "Total num prompt tokens:  129180",
        "Total num output tokens:  400",
    ]


def test_summary_measured() -> None:
    """A line has the cell's values and its numbers, undefined ones as dashes."""
    words = _lines(_table([_row()]))[-1].split()
    assert words[:3] == ["packed", "2", "1"]
    assert words[3:] == ["1234.50", "21299.52", "65.75", "65.75±5.0%", "0%", "-", "88%", "ok"]


def test_summary_failed() -> None:
    """A failed cell has dashes for all numbers, and its outcome."""
    words = _lines(_table([_row("oom", "no room")]))[-1].split()
    assert words == ["packed", "2", "1", *"-------", "oom"]


def test_summary_constant_settings() -> None:
    """What is the same in all cells has no column."""
    lines = _lines(_table([_row(), _row(n=3)]))
    assert "max num" not in "\n".join(lines)


def test_summary_varying_settings() -> None:
    """An engine setting that varies has a column of its own."""
    rows = [_row(engine_settings=_settings(max_num_seqs=size)) for size in (8, 16)]
    lines = _lines(_table(rows))
    assert "max num" in "\n".join(lines)
    assert [line.split()[1] for line in lines[-2:]] == ["8", "16"]


def test_summary_varying_cache_state() -> None:
    """So has a value of the grid."""
    lines = _lines(_table([_row(), _row(cache_state="off")]))
    assert "state" in "\n".join(lines)


def test_conditions() -> None:
    """Below the table stand device, model, what was not scored, and how many repeats."""
    lines = footer.conditions([_row(), _row("oom", "no room", device=None)])
    assert lines[:4] == [
        "SIMULATED: computed from a roofline, not measured",
        "device: simulated H200",
        "model: some/model",
        "random weights: speed only, answers are not scored",
    ]
    assert lines[4].startswith("medians over 3 repeats")


def test_conditions_nothing_measured() -> None:
    """Without a good cell no repeats are claimed."""
    assert "medians over no repeats" in "\n".join(footer.conditions([_row("oom", "no room")]))


def test_reasons() -> None:
    """Every cell without numbers is told with its reason, and no other."""
    failed = _row("oom", "no room")
    assert footer.reasons([_row(), failed]) == [f"{failed['cell_id']}: oom: no room"]


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
        ("crashed", {"reason": "x"}, True, "[1/4] c: crashed: x [7 s]; will try again"),
    ],
)
def test_status_line(outcome: str, more: dict[str, Any], again: bool, line: str) -> None:  # noqa: FBT001
    """An attempt that ended is one line."""
    status = Status(cell_id="c", attempt_id="a", attempt=0, outcome=outcome, wall_s=7.2, **more)
    assert progress.status_line(status, position="[1/4]", again=again) == line
