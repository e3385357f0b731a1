"""What is too long for a page is condensed and says so; cells have names of their own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.report.html.test_first_screen import row

from packsweep.report.cell import names
from packsweep.report.html import parts


def test_table_of_many_rows_keeps_both_ends() -> None:
    """What fits is left alone; else the first and the last are kept, and the page says so."""
    rows = [(str(number),) for number in range(10_000)]
    assert parts.make_table("c", ("n",), rows[:5], most=5).rows == rows[:5]
    assert parts.make_table("c", ("n",), rows[:5], most=5).note is None
    kept = parts.make_table("c", ("n",), rows, most=5)
    assert [row[0] for row in kept.rows] == ["0", "1", "...", "9998", "9999"]
    assert kept.note == "the first and the last 2 of 10,000 rows; summary.csv has all cells"


def test_table_without_rows() -> None:
    assert parts.make_table("c", ("a", "b"), []).rows == []


@given(st.lists(st.one_of(st.none(), st.floats(0, 100)), max_size=30), st.integers(2, 10))
def test_extremes_keep_the_best(values: list[float | None], most: int) -> None:
    """The highest value is always kept, in the order of the rows, and nothing is made up."""
    rows = [{"place": place, "speed": value} for place, value in enumerate(values)]
    kept, note = parts.extremes(rows, most, by="speed")
    assert len(kept) <= max(most, 1)
    assert (note is None) == (len(rows) <= most)
    assert [each["place"] for each in kept] == sorted(each["place"] for each in kept)
    known = [value for value in values if value is not None]
    if known:
        assert max(known) in [each["speed"] for each in kept]


def test_names_tell_cells_apart() -> None:
    """A name holds what differs, and the cell's hash where nothing else does."""
    rows = [row("packed", 4), row("packed", 4, 10), row("chunked4", 4)]
    twins = [{**rows[0], "cell_id": f"x-{letter}"} for letter in "ab"]
    assert list(names(rows).values()) == [
        "packed n=4 dup=1",
        "packed n=4 dup=10",
        "chunked4 n=4 dup=1",
    ]
    assert list(names(twins).values()) == ["packed n=4 a", "packed n=4 b"]


@pytest.mark.parametrize("name", ["cache_state", "template"])
def test_names_settings(name: str) -> None:
    """A setting that differs is part of the name."""
    rows = [{**row("packed"), "cell_id": each, name: each} for each in ("one", "two")]
    assert all(each in name for each, name in names(rows).items())
