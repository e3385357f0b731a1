"""The prediction against measured figures."""

from __future__ import annotations

from pathlib import Path

import pytest
from docs import prediction
from docs.prediction import Row

ROWS = prediction.rows()
ROOT = Path(__file__).resolve().parents[2]


def test_grid_is_whole() -> None:
    """The experiment's twelve cells were all measured."""
    assert sum(row.in_grid for row in ROWS) == 12
    assert len({row.name for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_within_25_percent(row: Row) -> None:
    """Every cell of every session is predicted within 25 %."""
    assert row.errors
    assert max(map(abs, row.errors)) < 0.25


@pytest.mark.parametrize(
    "row", [row for row in ROWS if min(row.measured_s) > 0.5], ids=lambda row: row.name
)
def test_within_10_percent_where_passes_are_long(row: Row) -> None:
    """Passes over half a second, which repeat well, are predicted within 10 %."""
    assert max(map(abs, row.errors)) < 0.10


def test_page_shows_the_table() -> None:
    """docs/PREDICTION.md holds what docs/prediction.py prints."""
    page = (ROOT / "docs" / "PREDICTION.md").read_text(encoding="utf-8")
    assert prediction.table() in page
