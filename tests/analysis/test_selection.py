"""Conditions, sorting and names of columns."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes import cell, pass_row

from packsweep.analysis import selection
from packsweep.errors import ResultsError

ROWS: list[dict[str, Any]] = [
    {"strategy": "packed", "n": 4, "accuracy": 0.5, "ignore_eos": True, "warnings": ["short"]},
    {"strategy": "packed", "n": 40, "accuracy": None, "ignore_eos": False, "warnings": []},
    {"strategy": "separate", "n": 4, "accuracy": 0.75, "ignore_eos": True, "warnings": []},
]


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        (["strategy=packed"], [0, 1]),
        (["strategy!=packed"], [2]),
        (["n>=40"], [1]),
        (["n<40"], [0, 2]),
        (["n = 4.0"], [0, 2]),
        (["n=4", "n=40"], [0, 1, 2]),
        (["n=4", "strategy=packed"], [0]),
        (["accuracy=null"], [1]),
        (["accuracy!=null"], [0, 2]),
        (["accuracy<1"], [0, 2]),
        (["ignore_eos=true"], [0, 2]),
        (["warnings=short"], [0]),
        (["strategy=none"], []),
    ],
)
def test_where(conditions: list[str], expected: list[int]) -> None:
    assert selection.where(ROWS, conditions) == [ROWS[index] for index in expected]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("stratgy=packed", "no column 'stratgy'; did you mean strategy?"),
        ("zzz=1", "no column 'zzz'; docs/METRICS.md"),
        ("strategy", "expected NAME=VALUE"),
        ("n=four", "n is a number, and 'four' is not"),
        ("strategy>packed", "strategy is text"),
    ],
)
def test_where_wrong(condition: str, expected: str) -> None:
    with pytest.raises(ResultsError, match=expected):
        selection.where(ROWS, [condition])


def test_nothing_matches_tells_the_values_there_are() -> None:
    told = selection.nothing_matches(ROWS, ["strategy=chunked"])
    assert told == "no cell matches strategy=chunked; here strategy is packed, separate"
    undefined = selection.nothing_matches([{"accuracy": None}], ["accuracy>0.9"])
    assert undefined == "no cell matches accuracy>0.9; here accuracy is null"


def test_sort_puts_the_best_first_and_the_undefined_last() -> None:
    """More is better for an accuracy; n has no best."""
    assert [row["accuracy"] for row in selection.sort(ROWS, "accuracy")] == [0.75, 0.5, None]
    assert [row["n"] for row in selection.sort(ROWS, "n")] == [4, 4, 40]
    assert [row["n"] for row in selection.sort(ROWS, "n", reverse=True)] == [40, 4, 4]


@given(st.lists(st.none() | st.floats(-5, 5)), st.booleans())
def test_sort_keeps_every_row(values: list[float | None], reverse: bool) -> None:  # noqa: FBT001
    rows = [{"duration_s": value} for value in values]
    found = [row["duration_s"] for row in selection.sort(rows, "duration_s", reverse=reverse)]
    known = [value for value in values if value is not None]
    assert found == [*sorted(known, reverse=reverse), *[None] * (len(values) - len(known))]


def test_widened_knows_settings_and_medians_by_short_names() -> None:
    row = pass_row(cell()) | {"texts_per_s_median": 2.0}
    (found,) = selection.widened([row])
    assert found["texts_per_s"] == 2.0
    assert found["max_num_seqs"] == cell().settings["max_num_seqs"]
    assert found["device"] == "simulated", "a column is not hidden by a setting of its name"


@pytest.mark.parametrize("word", ["dup", "duplication", " duplication "])
def test_name_of(word: str) -> None:
    assert selection.name_of(word, [{"duplication": 1}], option="--sort") == "duplication"
