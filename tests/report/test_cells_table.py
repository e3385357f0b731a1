"""The table of cells: which columns at which width, chosen columns, groups."""

from __future__ import annotations

from typing import Any

import pytest
from tests.report.test_format import _row, _settings

from packsweep.errors import ResultsError
from packsweep.report import cells_table
from packsweep.report import columns as report_columns
from packsweep.report.columns import Shown

FULL: dict[str, Any] = {
    "mfu": 0.55,
    "mbu": 0.2,
    "joules_per_1000_texts": 14000.0,
    "usd_per_1000_texts": 0.7,
}
ROWS = [
    _row(
        strategy=strategy,
        n=n,
        coverage=1.0,
        accuracy_ci_low=0.4,
        accuracy_ci_high=0.99,
        engine_settings=_settings(max_num_batched_tokens=tokens, max_num_seqs=size),
        **FULL,
    )
    for strategy, n, tokens, size in (
        ("packed", 4, 16384, 256),
        ("separate", 40, 65536, 1024),
        ("packed", 400, 16384, 1024),
    )
]


def headings(columns: tuple[Shown, ...] | list[Shown]) -> list[str]:
    return [column.heading for column in columns]


@pytest.mark.parametrize("width", [70, 80, 100, 120, 160])
def test_summary_fits(width: int) -> None:
    """With every column that there is, and two settings that vary, nothing is wider."""
    fitted = report_columns.fit(cells_table.summary(ROWS), width)
    assert report_columns.total(fitted.columns, fitted.gap) <= width
    assert {"texts/s\n(95% CI)", "outcome", "strategy", "n"} <= set(headings(fitted.columns))


def test_summary_shows_all_where_there_is_room() -> None:
    fitted = report_columns.fit(cells_table.summary(ROWS), 200)
    assert not fitted.left_out
    assert {"MFU", "MBU", "J/1000\nreviews", "requests\n/s"} <= set(headings(fitted.columns))


def test_column_of_dashes_goes_first() -> None:
    """Answers that were not scored take no room from what was measured."""
    rows = [{**row, "coverage": None, "accuracy": None, "accuracy_ci_low": None} for row in ROWS]
    assert report_columns.fit(cells_table.summary(rows), 100).left_out[-3:][0] != "mfu"
    left_out = report_columns.fit(cells_table.summary(rows), 130).left_out
    assert set(left_out) <= {"coverage", "accuracy"}


def test_chosen_columns_stand_beside_what_tells_cells_apart() -> None:
    columns = cells_table.chosen(ROWS, ["mfu", "kv_cache_dtype", "n", "texts_per_s"])
    assert [column.name for column in columns] == [
        "strategy",
        "max_num_batched_tokens",
        "max_num_seqs",
        "n",
        "duplication",
        "mfu",
        "kv_cache_dtype",
        "texts_per_s",
    ]
    assert columns[5].cells == ("55%", "55%", "55%")
    assert columns[7].cells[0] == "65.75±5.0%"


def test_chosen_column_unknown() -> None:
    with pytest.raises(ResultsError, match=r"--columns: no column 'mfuu'; did you mean mfu\?"):
        cells_table.chosen(ROWS, ["mfuu"])


def test_groups_are_named_once_and_end_with_a_line() -> None:
    ordered, (group,), ends = cells_table.grouped(ROWS, ["strategy"])
    assert [row["n"] for row in ordered] == [4, 400, 40]
    assert group.cells == ("packed", "", "separate")
    assert ends == [1]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("accuracy_ci_low", 0.4, "40%"),
        ("duration_s", 0.01234, "0.0123"),
        ("duration_s", 0.0, "0.00"),
        ("prompt_tokens", 129180, "129,180"),
        ("ignore_eos", True, "True"),
        ("warnings", [], "none"),
        ("warnings", ["short", "spread"], "short, spread"),
        ("driver_version", None, "-"),
    ],
)
def test_written(name: str, value: object, expected: str) -> None:
    assert cells_table.written(name, value) == expected


def test_time_fits_and_keeps_the_largest_parts() -> None:
    shares: dict[str, Any] = {
        "import_s": 15.0,
        "engine_start_s": 40.0,
        "passes_s": 9.0,
        "record_s": 0.1,
    }
    rest: dict[str, Any] = dict.fromkeys(
        ("spawn_s", "check_s", "resolve_s", "warmup_s", "cache_s"), 1.0
    )
    row = _row(wall_s=80.0, between_s=1.0, tokenize_probe_s=1.0, stop_s=1.0, **shares, **rest)
    fitted = report_columns.fit(cells_table.time_tables([row])[0], 60)
    assert report_columns.total(fitted.columns, fitted.gap) <= 60
    assert "engine\nstart" in headings(fitted.columns)
    assert "record" in fitted.left_out
