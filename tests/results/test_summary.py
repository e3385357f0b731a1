"""The passes of a cell become its row of the summary."""

from __future__ import annotations

import pytest
from tests.fakes import cell, pass_row

from packsweep.results import parquet, schema, summary


def test_accuracy_interval() -> None:
    """Copies and repeats are no new evidence: 6 of 8 texts, by Wilson's interval."""
    one = cell(n=8, duplication=10)
    rows = [pass_row(one, repeat=i, num_texts=80, accuracy=0.75) for i in range(3)]
    found = summary.of_cell(parquet.table(rows, schema.PASSES).to_pylist())
    assert found["accuracy"] == 0.75
    assert found["accuracy_ci_low"] == pytest.approx(0.4093, abs=1e-4)
    assert found["accuracy_ci_high"] == pytest.approx(0.9285, abs=1e-4)
