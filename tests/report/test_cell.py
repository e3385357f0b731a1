"""What a row of the summary says in words and numbers."""

from __future__ import annotations

from packsweep.report import cell

ROW = {
    "texts_per_s_median": 70.0,
    "texts_per_s_mean": 70.0,
    "texts_per_s_ci_low": 63.0,
    "texts_per_s_ci_high": 77.0,
}


def test_speed_has_half_its_interval() -> None:
    assert cell.speed(ROW) == "70.00±10.0%"
    assert cell.speed({**ROW, "texts_per_s_ci_low": None}) == "70.00"


def test_speed_of_a_search_has_no_spread() -> None:
    """How many texts arrived differs from window to window, not how fast the server is."""
    assert cell.speed({**ROW, "max_rate_verdict": "bracketed"}) == "70.00"
