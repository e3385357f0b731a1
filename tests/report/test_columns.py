"""Columns made to fit: what is dropped first, what is stacked, what always stays."""

from __future__ import annotations

import io

from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from packsweep.report import columns as report_columns
from packsweep.report.columns import Fitted, Shown


def shown(heading: str, rank: int = 0, *, axis: bool = False, text: str = "1") -> Shown:
    return Shown(heading=heading, cells=(text, text), rank=rank, axis=axis)


COLUMNS = st.lists(
    st.builds(
        shown,
        st.text("abc", min_size=1, max_size=12),
        st.integers(0, 9),
        text=st.text("123", min_size=1, max_size=20),
    ),
    min_size=1,
    max_size=9,
)


@given(COLUMNS, st.integers(10, 200))
def test_fit_drops_by_rank_and_only_as_needed(columns: list[Shown], width: int) -> None:
    """What is left out ranks no lower than what stays, and without it there was no room."""
    found = report_columns.fit(columns, width)
    assert len(found.columns) + len(found.left_out) == len(columns)
    assert all(column in found.columns for column in columns if not column.rank)
    if report_columns.total(columns) <= width:
        assert not found.left_out
    if any(column.rank for column in found.columns):
        assert report_columns.total(found.columns, found.gap) <= width


@settings(max_examples=15)
@given(COLUMNS, st.sampled_from([report_columns.WIDE, report_columns.NARROW]))
def test_total_is_what_is_printed(columns: list[Shown], gap: int) -> None:
    """A table is as wide as is told, so that what fits does not wrap."""
    file = io.StringIO()
    Console(file=file, width=400).print(
        report_columns.table(Fitted(columns=tuple(columns), gap=gap))
    )
    assert {len(line) for line in file.getvalue().splitlines()} == {
        report_columns.total(columns, gap)
    }


def test_settings_are_stacked_before_what_is_essential_goes() -> None:
    axes = [shown("max_num_seqs", axis=True), shown("max_num_batched_tokens", axis=True)]
    found = report_columns.fit([shown("strategy"), *axes, shown("texts/s", rank=1)], 45)
    assert [column.heading for column in found.columns] == ["strategy", "settings", "texts/s"]
    assert found.columns[1].cells[0] == "max_num_seqs=1\nmax_num_batched_tokens=1"
    assert not found.left_out


def test_left_out_is_named_in_the_order_of_the_table() -> None:
    found = report_columns.fit(
        [shown("a"), shown("output\ntokens/s", rank=5), shown("mfu", rank=4)], 4
    )
    assert found.left_out == ("output tokens/s", "mfu")


def test_records_are_lines_of_names_and_values() -> None:
    assert report_columns.records([shown("n"), shown("cache\nhit")]) == [
        *("n          1", "cache hit  1", "", "n          1", "cache hit  1"),
    ]
