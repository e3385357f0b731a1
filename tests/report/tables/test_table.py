"""Columns made to fit: what is dropped first, what is stacked, what always stays."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.report.tables.terminal import printed

from packsweep.report.tables import table as table_
from packsweep.report.tables.table import Column, Table


def shown(heading: str, rank: int = 0, *, axis: bool = False, text: str = "1") -> Column:
    return Column(heading=heading, cells=(text, text), rank=rank, axis=axis)


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
def test_fit_drops_by_rank_and_only_as_needed(columns: list[Column], width: int) -> None:
    """What is left out ranks no lower than what stays, and without it there was no room."""
    kept, gap, left_out = table_.fit(columns, width)
    assert len(kept) + len(left_out) == len(columns)
    assert len([column for column in columns if not column.rank]) <= len(kept)
    if table_.total(columns) <= width:
        assert not left_out
    if any(column.rank for column in kept):
        assert table_.total(kept, gap) <= width


@settings(max_examples=15)
@given(COLUMNS)
def test_total_is_what_is_printed(columns: list[Column]) -> None:
    """A table is as wide as ``total`` says with its margins, so that what fits does not wrap."""
    width = table_.total(columns)
    assert max(map(len, _printed(Table(columns=tuple(columns)), width))) == width - 1


def _printed(table: Table, width: int) -> list[str]:
    return printed(table_.to_rich(table, width)[0])


WORDS = st.lists(st.text("abc", min_size=1, max_size=30), min_size=1, max_size=4).map(" ".join)
TEXTS = st.lists(
    st.builds(
        lambda heading, texts, left, key, once, rank: Column(
            heading=heading, cells=tuple(texts), left=left, key=key, once=once, rank=rank
        ),
        WORDS,
        st.lists(WORDS, min_size=3, max_size=3),
        st.booleans(),
        st.booleans(),
        st.booleans(),
        st.integers(0, 3),
    ),
    min_size=1,
    max_size=7,
)


@given(TEXTS, st.integers(20, 120))
def test_no_word_is_broken(columns: list[Column], width: int) -> None:
    """Whatever gives way, every word of what is shown stands whole, and no line is too wide.

    A line is wider than the terminal only where a word beside its name is.
    """
    table = Table(columns=tuple(columns), sections=(0, 1))
    parts, left_out = table_.to_rich(table, width)
    lines = printed(parts)
    shown = [column for column in columns if column.name not in left_out]
    words = {word for line in lines for word in re.split(r"[\s=]+", line)}
    for column in shown:
        assert {word for text in column.cells for word in text.split()} <= words
    if max(map(len, lines)) > width:
        widest_name = max(len(column.name) for column in columns)
        assert max(column.narrowest for column in columns) >= width - 2 - widest_name


SETTINGS = Table(
    columns=(
        Column(heading="setting", cells=("separate, text_max_tokens 128",), left=True),
        Column(heading="accuracy", cells=("81.5% [79.0, 83.8]",)),
        Column(heading="loss allowed", cells=("not compared",), rank=1),
    )
)


@pytest.mark.parametrize(
    ("width", "rows"),
    [
        (
            52,
            [
                " separate,       81.5% [79.0, 83.8] not compared",
                " text_max_tokens",
                " 128",
            ],
        ),
        (
            40,
            [
                " separate,              81.5%      not",
                " text_max_tokens [79.0, 83.8] compared",
                " 128",
            ],
        ),
        (
            36,
            [
                " separate,       81.5% [79.0, 83.8]",
                " text_max_tokens",
                " 128",
            ],
        ),
    ],
)
def test_lines_are_broken_between_words(width: int, rows: list[str]) -> None:
    """Texts give way first, then numbers, whose interval stays whole; then a column goes."""
    lines = _printed(SETTINGS, width)
    rule = next(index for index, line in enumerate(lines) if "─" in line)
    assert lines[rule + 1 : -1] == rows


def test_what_names_a_row_stands_above_it_where_there_is_no_room() -> None:
    """First what holds for a section, then what tells its rows apart; then no table is left."""
    columns = (
        Column(heading="cell", cells=("separate n 1000",) * 2, left=True, key=True, once=True),
        Column(heading="label", cells=("all", "bug"), left=True, key=True),
        Column(heading="accuracy", cells=("87% [85, 89]", "80%")),
    )
    table = Table(columns=columns)
    assert _printed(table, 38)[3:-1] == [
        " separate n 1000  all    87% [85, 89]",
        "                  bug             80%",
    ]
    assert _printed(table, 26)[3:-1] == [
        " separate n 1000",
        " all    87% [85, 89]",
        " bug             80%",
    ]
    assert _printed(table, 14)[3:-1] == [
        *(" separate n", " 1000", " all", " 87% [85, 89]"),
        *(" bug", "          80%"),
    ]
    assert _printed(table, 8)[1:7] == [
        *("cell      separate", "          n", "          1000"),
        *("label     all", "accuracy  87%", "          [85, 89]"),
    ]


def test_once_is_printed_in_the_first_row_of_a_section() -> None:
    """The terminal says a name once; every other form has it in each row."""
    name = Column(heading="cell", cells=("a", "a", "b"), left=True, once=True)
    value = Column(heading="n", cells=("1", "2", "3"))
    table = Table(columns=(name, value), sections=(1,))
    assert [line.split() for line in _printed(table, 80)[3:]] == [
        ["a", "1"],
        ["2"],
        [],
        ["b", "3"],
        [],
    ]
    assert table.rows == [("a", "1"), ("a", "2"), ("b", "3")]


def test_ends_keep_sections() -> None:
    table = Table(
        columns=(Column(heading="n", cells=tuple(map(str, range(9)))),), sections=(0, 4, 7)
    )
    shown = table_.ends(table, 2)
    assert shown.rows == [("0",), ("1",), ("...",), ("7",), ("8",)]
    assert shown.sections == (0, 3)


def test_markdown_escapes_pipes_and_lines() -> None:
    columns = (
        Column(heading="a\nb", cells=("x|y", "1\n2"), left=True),
        Column(heading="n", cells=("1", "2")),
    )
    assert table_.to_markdown(Table(columns=columns)).splitlines() == [
        "| a b | n |",
        "| --- | --: |",
        "| x\\|y | 1 |",
        "| 1 2 | 2 |",
    ]


def test_cells_cannot_command_a_terminal() -> None:
    """Whatever a name or a reason holds, it is shown and not obeyed."""
    column = Column(heading="reason", cells=("\x1b[2Jgone\x07", "\u202eabc", "\udcff"))
    assert column.cells == ("\\x1b[2Jgone\\x07", "\\u202eabc", "\\udcff")


def test_settings_are_stacked_before_what_is_essential_goes() -> None:
    axes = [shown("max_num_seqs", axis=True), shown("max_num_batched_tokens", axis=True)]
    kept, _, left_out = table_.fit([shown("strategy"), *axes, shown("texts/s", rank=1)], 45)
    assert [column.heading for column in kept] == ["strategy", "settings", "texts/s"]
    assert kept[1].cells[0] == "max_num_seqs=1\nmax_num_batched_tokens=1"
    assert not left_out


def test_a_stacked_setting_that_is_not_set_has_no_line() -> None:
    """Searches and rates stand in one online table, and neither has the other's settings."""
    axes = [
        Column(heading=name, cells=cells, axis=True)
        for name, cells in (("rate", ("60.0", "-")), ("max_rate", ("-", "70.0")))
    ]
    (one,) = table_.stacked(axes)
    assert one.cells == ("rate=60.0", "max_rate=70.0")


def test_left_out_is_named_in_the_order_of_the_table() -> None:
    columns = [shown("a"), shown("output\ntokens/s", rank=5), shown("mfu", rank=4)]
    assert table_.fit(columns, 4)[2] == ["output tokens/s", "mfu"]


def test_records_are_lines_of_names_and_values() -> None:
    table = Table(columns=(shown("n"), shown("cache\nhit")))
    assert table_.to_records(table, 80) == [
        *("n          1", "cache hit  1", "", "n          1", "cache hit  1"),
    ]
